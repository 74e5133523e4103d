"""What stands between an RGB image and a network: size, normalisation, memory layout."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segpipe.lesion.crop import resize_square
from segpipe.types import RgbImage

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LEAST_SIZE, LARGEST_SIZE = 16, 2048  # pixels


@dataclass(frozen=True)
class InputSpec:
    """What a network expects; kept in the bundle's card.

    Attributes:
        size: side of the square input, pixels, 16 to 2,048.
        mean: per channel, on the scale 0 to 1.
        std: per channel, on the same scale, 0.001 to 10.

    Raises:
        ValueError: a value is outside its range, or no number.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not LEAST_SIZE <= self.size <= LARGEST_SIZE:
            raise ValueError(f"size must be {LEAST_SIZE} to {LARGEST_SIZE} pixels, got {self.size}")
        if not all(0 <= mean <= 1 for mean in self.mean) or not all(0.001 <= std <= 10 for std in self.std):
            raise ValueError(f"mean must lie in [0, 1] and std in [0.001, 10], got mean={self.mean} and std={self.std}")


def normalize(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Turn pixels into a network's input: `(pixels / 255 - mean) / std`.

    Args:
        pixels: uint8, shape (N, 3, size, size).
        spec: mean and std of the network.

    Returns:
        float32 of the same shape, in channels_last layout.
    """
    # Row by row, colour beside colour: broadcast over the three colours alone it takes three times as long.
    images, _, height, width = pixels.shape
    mean, std = (torch.tensor(values, device=pixels.device).repeat(width) * 255 for values in (spec.mean, spec.std))
    rows = pixels.permute(0, 2, 3, 1).reshape(images * height, width * 3).float()
    return rows.sub_(mean).div_(std).view(images, height, width, 3).permute(0, 3, 1, 2)


def images_to_batch(images: Sequence[RgbImage], spec: InputSpec, device: torch.device) -> Tensor:
    """Scale images to the network's square and normalise them.

    Args:
        images: RGB uint8, each of any size (H, W, 3).
        spec: size, mean and std of the network.
        device: where the batch is wanted.

    Returns:
        float32, shape (N, 3, size, size).
    """
    squares = np.stack([resize_square(image, spec.size) for image in images])
    return normalize(torch.from_numpy(squares).to(device).permute(0, 3, 1, 2), spec)
