"""The classifier: a timm backbone, attention on its last feature map, and a linear head."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import timm
import torch
from torch import Tensor, nn

from segpipe.models.attention import build_attention


class LesionClassifier(nn.Module):
    """Names a lesion: `linear(dropout(mean_hw(attention(backbone(x)))))`.

    It comes apart into `features` and `head` at the last feature map, so that Grad-CAM needs a graph through the head only.
    Parts can be frozen: a frozen part takes no gradient and keeps its BatchNorm statistics, whatever `train()` is called with.
    """

    def __init__(self, *, name: str, classes: int, attention: str, dropout: float, drop_path: float) -> None:
        super().__init__()
        depth: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}  # which some networks do not know
        backbone: Any = timm.create_model(name, num_classes=0, global_pool="", **depth)
        self.backbone = backbone
        channels: int = backbone.num_features
        self.attention = build_attention(attention, channels)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, classes)
        self.frozen_stages: frozenset[str] = frozenset()

    def features(self, batch: Tensor) -> Tensor:
        """Args: batch, normalised float (N, 3, H, W). Returns: the last feature map, float (N, C, h, w)."""
        features: Tensor = self.backbone.forward_features(batch)
        return features

    def head(self, features: Tensor) -> Tensor:
        """Args: features, float (N, C, h, w). Returns: logits, float (N, classes)."""
        logits: Tensor = self.linear(self.dropout(self.attention(features).mean((2, 3))))
        return logits

    def forward(self, batch: Tensor) -> Tensor:
        """Args: batch, normalised float (N, 3, H, W). Returns: logits, float (N, classes)."""
        return self.head(self.features(batch))

    def stages(self) -> dict[str, list[nn.Module]]:
        """The parts that can be frozen, from the input to the output: `stage1`, `stage2`, ..., `head`."""
        parts = backbone_stages(self.backbone)
        stages = {f"stage{number}": modules for number, modules in enumerate(parts, start=1)}
        return stages | {"head": [self.attention, self.linear]}

    def freeze(self, names: Sequence[str]) -> None:
        """Freeze these stages and thaw all the others.

        Raises:
            ValueError: a name is not one of `stages()`.
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
        """Set the mode of all but the frozen stages, which stay in eval mode: their BatchNorm statistics are frozen too."""
        super().train(mode)
        for name, modules in self.stages().items() if self.frozen_stages else ():
            if name in self.frozen_stages:
                for module in modules:
                    module.eval()
        return self


def backbone_stages(backbone: Any) -> list[list[nn.Module]]:
    """Cut a timm network into stages where its own feature information says that a resolution ends.

    What stands before the first such place belongs to the first stage, what stands behind the last one to the last.

    Args:
        backbone: a timm network with `feature_info`.

    Returns:
        For each stage its modules, from the input to the output; together they hold every parameter once.
    """
    ends = [info["module"] for info in backbone.feature_info]
    stages: list[list[nn.Module]] = [[]]
    passed = 0
    for name, module in _children_down_to(backbone, ends):
        stages[-1].append(module)
        passed += name in ends
        if name in ends and passed < len(ends):
            stages.append([])
    return stages


def _children_down_to(module: nn.Module, ends: Sequence[str], prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The children of a module in order; those that only contain stage ends are replaced by their own children."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        path = prefix + name
        inner = any(end.startswith(path + ".") for end in ends)
        found += _children_down_to(child, ends, path + ".") if inner else [(path, child)]
    return found


def build_classifier(
    *, name: str, classes: int, attention: str = "cbam", dropout: float = 0.2, drop_path: float = 0.0
) -> LesionClassifier:
    """Build a classifier with random weights.

    Args:
        name: timm's name of the backbone.
        classes: number of classes.
        attention: on the last feature map: `none`, `channel`, `spatial` or `cbam`.
        dropout: probability, before the linear layer.
        drop_path: probability that a residual block is passed by, at the last block; earlier ones less (arXiv 1603.09382).

    Raises:
        ValueError: timm does not know `name`, it has no drop path, or `attention` is none of the four.
    """
    if not timm.is_model(name):
        raise ValueError(f"classifier.name must be a network that timm knows, got {name!r}")
    try:
        model = LesionClassifier(name=name, classes=classes, attention=attention, dropout=dropout, drop_path=drop_path)
    except TypeError as error:
        if not drop_path:
            raise
        raise ValueError(f"classifier.drop_path must be 0 for {name}, which has none, got {drop_path}") from error
    return model.to(memory_format=torch.channels_last)


def require_feature_map(model: LesionClassifier, name: str) -> None:
    """See, before a training, that the last features are a map (N, C, h, w), which attention and Grad-CAM need.

    Args:
        model: a fresh one; it is left in training mode.
        name: of its backbone.

    Raises:
        ValueError: it is no convolutional network: transformers give tokens, or put the channels last.
    """
    if not _has_feature_map(model.backbone):
        raise ValueError(f"classifier.name must be a convolutional network, whose features are a map, got {name!r}")


@torch.no_grad()
def _has_feature_map(backbone: Any) -> bool:
    """Whether the last features are (N, C, h, w); transformers give tokens, or put the channels last."""
    backbone.eval()
    try:
        shape = backbone.forward_features(torch.zeros(1, 3, 128, 128)).shape
    except (AssertionError, RuntimeError):  # of a network for images of one size
        return False
    finally:
        backbone.train()
    return len(shape) == 4 and shape[1] == backbone.num_features
