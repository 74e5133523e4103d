"""Channel and spatial attention (CBAM, arXiv 1807.06521)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


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
