"""A plain small convolutional network, the floor that any other has to beat; timm knows it by name, as it knows its own."""

from itertools import pairwise
from typing import Any

from timm.layers.classifier import create_classifier
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128, 256)

# What timm wants to know of a network; that no weights are named here makes it refuse `pretrained=True`.
default_cfgs = generate_default_cfgs({"baseline_cnn": {"first_conv": "stages.0.0", "classifier": "classifier"}})


class BaselineCnn(nn.Module):
    """Five times convolution, BatchNorm, ReLU and max pooling, then the mean over the map and a linear layer.

    Its methods and attributes are those that timm's networks have in common.

    Args:
        num_classes: 0 for no linear layer.
        in_chans: channels of an image.
        global_pool: how the map is pooled, by timm's name.
    """

    def __init__(self, *, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = WIDTHS[-1]
        self.stages = nn.Sequential(*(_build_stage(*channels) for channels in pairwise((in_chans, *WIDTHS))))
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (number + 1), "module": f"stages.{number}"}
            for number, width in enumerate(WIDTHS)
        ]
        self.global_pool, self.classifier = create_classifier(self.num_features, num_classes, pool_type=global_pool)

    def forward_features(self, batch: Tensor) -> Tensor:
        """Args: batch, normalised float (N, 3, H, W). Returns: the last feature map, float (N, 256, H/32, W/32)."""
        features: Tensor = self.stages(batch)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Args: features, float (N, 256, h, w). Returns: logits, or what the linear layer takes, float (N, 256)."""
        pooled: Tensor = self.global_pool(features)
        return pooled if pre_logits else self.classifier(pooled)

    def forward(self, batch: Tensor) -> Tensor:
        """Args: batch, normalised float (N, 3, H, W). Returns: logits, float (N, num_classes)."""
        return self.forward_head(self.forward_features(batch))


def _build_stage(channels_in: int, channels_out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


@register_model
def baseline_cnn(pretrained: bool = False, **options: Any) -> BaselineCnn:
    """Build it as timm builds its own networks; there are no pretrained weights."""
    return build_model_with_cfg(BaselineCnn, "baseline_cnn", pretrained, feature_cfg={"flatten_sequential": True}, **options)
