"""Preprocessing of RGB images: resizing, normalization and batching."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from segpipe.lesion.crop import resize_square
from segpipe.models.input_spec import InputSpec
from segpipe.types import RgbImage


def normalize(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Normalize pixels: `(pixels / 255 - mean) / std`.

    Args:
        pixels: Images, uint8, shape (N, 3, size, size).
        spec: Mean and std of the network.

    Returns:
        float32 of the same shape, in channels_last layout.
    """
    # Row by row, with the colors interleaved: broadcasting over the three colors alone takes three times as long.
    images, _, height, width = pixels.shape
    mean, std = (torch.tensor(values, device=pixels.device).repeat(width) * 255 for values in (spec.mean, spec.std))
    rows = pixels.permute(0, 2, 3, 1).reshape(images * height, width * 3).float()
    return rows.sub_(mean).div_(std).view(images, height, width, 3).permute(0, 3, 1, 2)


def images_to_batch(images: Iterable[RgbImage], spec: InputSpec, device: torch.device) -> Tensor:
    """Resize images to the input size of a network and normalize them.

    Args:
        images: RGB uint8, each of any size (H, W, 3).
        spec: Size, mean and std of the network.
        device: Device of the batch.

    Returns:
        float32, shape (N, 3, size, size).
    """
    squares = np.stack([resize_square(image, spec.size) for image in images])
    return normalize(torch.from_numpy(squares).to(device).permute(0, 3, 1, 2), spec)
