"""A small convolutional baseline network, registered with timm."""

from itertools import pairwise
from typing import Any

from timm.layers.classifier import create_classifier
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128, 256)

# Configuration for timm; because it lists no weights, timm refuses `pretrained=True`.
default_cfgs = generate_default_cfgs({"baseline_cnn": {"first_conv": "stages.0.0", "classifier": "classifier"}})


class BaselineCnn(nn.Module):
    """Five convolutional blocks and a linear layer.

    A block is convolution, BatchNorm, ReLU and max pooling.

    It has the methods and attributes that timm's networks share.

    Args:
        num_classes: Number of classes; 0 for no linear layer.
        in_chans: Number of channels of an image.
        global_pool: timm's name of the pooling method.
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
        """Compute the last feature map, float (N, 256, H/32, W/32)."""
        features: Tensor = self.stages(batch)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute logits from a feature map.

        Args:
            features: Feature map, float (N, 256, h, w).
            pre_logits: True to return the input of the linear layer, float (N, 256), instead.
        """
        pooled: Tensor = self.global_pool(features)
        return pooled if pre_logits else self.classifier(pooled)

    def forward(self, batch: Tensor) -> Tensor:
        """Compute logits, float (N, num_classes), from normalized images."""
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
    """Build the network for timm; there are no pretrained weights."""
    return build_model_with_cfg(BaselineCnn, "baseline_cnn", pretrained, feature_cfg={"flatten_sequential": True}, **options)
