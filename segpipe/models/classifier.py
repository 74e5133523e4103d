"""The classifier: timm backbone, CBAM attention and linear head."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import timm
import torch
from torch import Tensor, nn

import segpipe.models.baseline_cnn  # noqa: F401, makes itself known to timm
from segpipe.models.networks import as_value_error, example_batch, to_channels_last

PADDINGS = ("zeros", "replicate")


class ChannelAttention(nn.Module):
    """Attention that weighs each channel by its mean and maximum.

    `x * sigmoid(mlp(avgpool(x)) + mlp(maxpool(x)))` with one shared two-layer `mlp`, arXiv 1807.06521, equation 2.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Weigh a feature map, float (N, C, h, w)."""
        average = self.mlp(features.mean((2, 3), keepdim=True))
        peak = self.mlp(features.amax((2, 3), keepdim=True))
        return features * torch.sigmoid(average + peak)


class SpatialAttention(nn.Module):
    """Attention that weighs each position by the mean and maximum over channels.

    `x * sigmoid(conv([mean_c(x); max_c(x)]))` with a 7 x 7 convolution, arXiv 1807.06521, equation 3.
    """

    def __init__(self, *, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Weigh a feature map, float (N, C, h, w)."""
        summary = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)
        return features * torch.sigmoid(self.conv(summary))


def build_attention(kind: str, channels: int) -> nn.Module:
    """Build attention for a feature map.

    Args:
        kind: `none`, `channel`, `spatial`, or `cbam` (channel, then spatial).
        channels: Number of channels of the feature map.

    Raises:
        ValueError: `kind` is unknown.
    """
    builders: dict[str, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "channel": lambda: ChannelAttention(channels),
        "spatial": SpatialAttention,
        "cbam": lambda: nn.Sequential(ChannelAttention(channels), SpatialAttention()),
    }
    if kind not in builders:
        raise ValueError(f"attention must be one of {', '.join(builders)}, got {kind!r}")
    return builders[kind]()


class LesionClassifier(nn.Module):
    """Lesion classifier: `linear(dropout(pool(attention(features(x)))))`.

    Features and pooling are the backbone's own; some do more than to take the mean, ConvNeXt normalizes it, for example.

    The model is split into `features` and `head` at the last feature map, so that Grad-CAM needs a graph through the head only.
    Stages can be frozen: a frozen stage has no gradient and keeps its BatchNorm statistics, whatever the mode of `train()`.
    """

    def __init__(self, *, name: str, classes: int, attention: str, dropout: float, drop_path: float) -> None:
        super().__init__()
        depth: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}  # not an argument of every network
        backbone: Any = timm.create_model(name, num_classes=0, **depth)
        self.backbone = backbone
        self.attention = build_attention(attention, backbone.num_features)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(getattr(backbone, "head_hidden_size", backbone.num_features), classes)
        self.frozen_stages: frozenset[str] = frozenset()

    def features(self, batch: Tensor) -> Tensor:
        """Compute the last feature map, float (N, C, h, w)."""
        features: Tensor = self.backbone.forward_features(batch)
        return features

    def head(self, features: Tensor) -> Tensor:
        """Compute logits, float (N, classes), from feature maps (N, C, h, w)."""
        pooled = self.backbone.forward_head(self.attention(features), pre_logits=True)
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits

    def forward(self, batch: Tensor) -> Tensor:
        """Compute logits, float (N, classes), from normalized images."""
        return self.head(self.features(batch))

    def stages(self) -> dict[str, list[nn.Module]]:
        """Return the stages that can be frozen: `stage1`, `stage2`, ..., `head`."""
        parts = backbone_stages(self.backbone)
        stages = {f"stage{number}": modules for number, modules in enumerate(parts, start=1)}
        return stages | {"head": [self.attention, self.linear]}

    def freeze(self, names: Sequence[str]) -> None:
        """Freeze these stages and unfreeze all others.

        Raises:
            ValueError: A name is not one of `stages()`.
        """
        stages = self.stages()
        unknown = sorted(set(names) - set(stages))
        if unknown:
            raise ValueError(f"stages must be among {', '.join(stages)}, got {', '.join(unknown)}")
        self.frozen_stages = frozenset(names)
        for name, modules in stages.items():
            for parameter in chain.from_iterable(module.parameters() for module in modules):
                parameter.requires_grad_(name not in self.frozen_stages)
        self.train(self.training)

    def train(self, mode: bool = True) -> "LesionClassifier":
        """Set the mode of all but the frozen stages.

        These stay in eval mode, which freezes their BatchNorm statistics, too.
        """
        super().train(mode)
        for name, modules in self.stages().items() if self.frozen_stages else ():
            if name in self.frozen_stages:
                for module in modules:
                    module.eval()
        return self


def backbone_stages(backbone: Any) -> list[list[nn.Module]]:
    """Split a timm network into stages at the ends of its resolutions.

    The ends are listed in `feature_info`. Modules before the first end belong to the first stage, those after the last one to
    the last.

    Args:
        backbone: timm network with `feature_info`.

    Returns:
        Modules of each stage, from the input to the output; together they contain every parameter once.
    """
    ends = [info["module"] for info in backbone.feature_info]
    stages: list[list[nn.Module]] = [[]]
    ends_passed = 0
    for name, module in _children_down_to(backbone, ends):
        stages[-1].append(module)
        ends_passed += name in ends
        if name in ends and ends_passed < len(ends):
            stages.append([])
    return stages


def _children_down_to(module: nn.Module, ends: Sequence[str], prefix: str = "") -> list[tuple[str, nn.Module]]:
    """List the children of a module, split where they contain stage ends."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        path = prefix + name
        inner = any(end.startswith(path + ".") for end in ends)
        found += _children_down_to(child, ends, path + ".") if inner else [(path, child)]
    return found


def build_classifier(
    *, name: str, classes: int, attention: str, dropout: float = 0.2, drop_path: float = 0.0, padding: str = "zeros"
) -> LesionClassifier:
    """Build a classifier with random weights.

    Args:
        name: timm's name of the backbone.
        classes: Number of classes.
        attention: Attention on the last feature map: `none`, `channel`, `spatial` or `cbam`.
        dropout: Dropout probability before the linear layer.
        drop_path: Probability of skipping the last residual block; lower for earlier ones (arXiv 1603.09382).
        padding: Padding of all convolutions, one of `PADDINGS`. Zeros reveal the border to a network; with `replicate` the
            feature map of a uniform image is uniform, too.

    Raises:
        ValueError: `name`, `attention` or `padding` is unknown, a probability is outside [0, 1), or the backbone has no drop
            path.
    """
    if not timm.is_model(name):
        raise ValueError(f"classifier.name must be a network that timm knows, got {name!r}")
    if not (0 <= dropout < 1 and 0 <= drop_path < 1):
        raise ValueError(f"dropout and drop_path must be at least 0 and below 1, got {dropout} and {drop_path}")
    with as_value_error(_network_rule(name)):
        try:
            model = LesionClassifier(name=name, classes=classes, attention=attention, dropout=dropout, drop_path=drop_path)
        except TypeError as error:
            if not drop_path:
                raise
            raise ValueError(f"classifier.drop_path must be 0 for {name}, which has none, got {drop_path}") from error
    set_padding(model, padding)
    return to_channels_last(model)


def _network_rule(name: str) -> str:
    return f"classifier.name must be a convolutional network for images of any size, got {name!r}"


def set_padding(model: nn.Module, padding: str) -> None:
    """Set the padding mode of all convolutions of a model.

    Args:
        model: Model to change in place.
        padding: Padding mode, one of `PADDINGS`.

    Raises:
        ValueError: `padding` is unknown.
    """
    if padding not in PADDINGS:
        raise ValueError(f"classifier.padding must be one of {', '.join(PADDINGS)}, got {padding!r}")
    if padding == "zeros":
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str) and max(module.padding) > 0:
            module.padding_mode = padding  # type: ignore[assignment]
            # The padding that the constructor prepares: left, right, top, bottom.
            module._reversed_padding_repeated_twice = [side for side in reversed(module.padding) for _ in range(2)]


def require_feature_map(model: LesionClassifier, name: str) -> None:
    """Check that a model's features are a map (N, C, h, w).

    Attention, Grad-CAM and unfreezing need that.

    Args:
        model: New model; it is left in training mode.
        name: timm's name of its backbone.

    Raises:
        ValueError: The features are not a map, as in transformers (tokens, or channels last), the head does not accept them, or
            the model accepts images of one size only.
    """
    with as_value_error(_network_rule(name)):
        model.eval()
        with torch.no_grad():
            features = model.features(example_batch())
            if features.ndim != 4 or features.shape[1] != model.backbone.num_features:
                raise ValueError(f"its features are not a map, they have the shape {tuple(features.shape)}")
            model.head(features)
        model.train()
        staged = chain.from_iterable(module.parameters() for modules in model.stages().values() for module in modules)
        if {id(weights) for weights in staged} != {id(weights) for weights in model.parameters()}:
            raise ValueError("it has weights outside of its stages")
