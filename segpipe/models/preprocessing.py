"""Input of a network: size, normalization, and preprocessing of images.

PyTorch is imported when images are preprocessed, because cards need the size and the normalization alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segpipe.lesion.crop import resize_square
from segpipe.types import RgbImage

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MIN_SIZE, MAX_SIZE = 16, 2048  # pixels


@dataclass(frozen=True)
class InputSpec:
    """Size and normalization of a network's input, as stored in its card.

    Attributes:
        size: Side of the square input, pixels, 16 to 2,048.
        mean: Mean per channel, on the scale 0 to 1.
        std: Standard deviation per channel, on the same scale, 0.001 to 10.

    Raises:
        ValueError: A value is outside its range.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise ValueError(f"size must be {MIN_SIZE} to {MAX_SIZE} pixels, got {self.size}")
        if not all(0 <= mean <= 1 for mean in self.mean) or not all(0.001 <= std <= 10 for std in self.std):
            raise ValueError(f"mean must lie in [0, 1] and std in [0.001, 10], got mean={self.mean} and std={self.std}")


def normalize(pixels: "Tensor", spec: InputSpec) -> "Tensor":
    """Normalize pixels: `(pixels / 255 - mean) / std`.

    Args:
        pixels: Images, uint8, shape (N, 3, size, size).
        spec: Mean and std of the network.

    Returns:
        float32 of the same shape, in channels_last layout.
    """
    import torch

    # Row by row, with the colors interleaved: broadcasting over the three colors alone takes three times as long.
    images, _, height, width = pixels.shape
    mean, std = (torch.tensor(values, device=pixels.device).repeat(width) * 255 for values in (spec.mean, spec.std))
    rows = pixels.permute(0, 2, 3, 1).reshape(images * height, width * 3).float()
    return rows.sub_(mean).div_(std).view(images, height, width, 3).permute(0, 3, 1, 2)


def images_to_batch(images: Iterable[RgbImage], spec: InputSpec, device: "torch.device") -> "Tensor":
    """Resize images to the input size of a network and normalize them.

    Args:
        images: RGB uint8, each of any size (H, W, 3).
        spec: Size, mean and std of the network.
        device: Device of the batch.

    Returns:
        float32, shape (N, 3, size, size).
    """
    import torch

    squares = np.stack([resize_square(image, spec.size) for image in images])
    return normalize(torch.from_numpy(squares).to(device).permute(0, 3, 1, 2), spec)
