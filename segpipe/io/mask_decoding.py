"""Decoding of masks in any encoding of two values."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segpipe.types import BoolMask, FloatArray

Values = NDArray[np.uint8] | FloatArray

_MAX_UNDECIDED = 0.35  # maximum fraction of pixels between the two values
_END_OF_RANGE = 1 / 6
_FEW_VALUES = 4  # number of distinct values that may lie anywhere in the range
_MIN_RANGE = 1 / 8  # minimum range of more than two values, as a fraction of the encoding's range
_MAX_PALETTE_COLORS = 16
_MAX_TINT = 2  # maximum channel difference of a gray image, as left by JPEG
_SURELY_UNDECIDED = 0.05  # as _MAX_UNDECIDED, for an image that is not declared to be a mask


def decode_mask(picture: Image.Image) -> BoolMask:
    """Decode an image as the mask of a lesion.

    The brighter of two values is lesion; a single value is lesion unless it is black. With more gray levels, from soft edges or
    JPEG, lesion is above half of their range. Transparent pixels are not lesion.

    Args:
        picture: Upright image, in the mode of its file.

    Returns:
        Bool, shape (H, W).

    Raises:
        ValueError: The image is no mask.
    """
    values, full = _brightness(picture)
    levels = _levels(values)
    if len(levels) == 1:
        return np.full(values.shape, bool(levels[0] > 0))
    if len(levels) == 2:
        brighter: BoolMask = values == levels[1]
        return brighter
    undecided = 0.0 if len(levels) <= _FEW_VALUES else _undecided(values)
    if is_tinted(picture) or levels[-1] - levels[0] < _MIN_RANGE * full or undecided > _MAX_UNDECIDED:
        raise ValueError(f"a mask must have two values, skin and lesion, perhaps with soft edges, got {len(levels)} values")
    above: BoolMask = values > (levels[0] + levels[-1]) / 2
    return above


def looks_like_mask(picture: Image.Image) -> bool:
    """Return True for an image with the content of a mask.

    That is a gray image of two values, soft edges allowed, or one of few palette colors.
    """
    if picture.mode in ("P", "PA"):
        return 1 < len(picture.getcolors() or range(256)) <= _MAX_PALETTE_COLORS
    if is_tinted(picture):
        return False
    values, full = _brightness(picture)
    levels = _levels(values)
    if len(levels) <= 2:
        return len(levels) == 2
    return bool(levels[-1] - levels[0] > full / 2 and _undecided(values) <= _SURELY_UNDECIDED)


def is_tinted(picture: Image.Image) -> bool:
    """Return True for an image that has colors."""
    if picture.mode not in ("RGB", "RGBA", "CMYK", "P", "PA"):
        return False
    return bool(np.ptp(np.asarray(picture.convert("RGB")), axis=-1).max() > _MAX_TINT)


def _levels(values: Values) -> FloatArray:
    """Return the distinct values in ascending order."""
    if values.dtype == np.uint8:  # the most frequent case, with the fastest method
        return np.flatnonzero(np.bincount(values.ravel(), minlength=256)).astype(np.float64)
    return np.unique(values).astype(np.float64)


def _undecided(values: Values) -> float:
    """Return the fraction of pixels at neither end of the range."""
    least, most = float(values.min()), float(values.max())
    margin = _END_OF_RANGE * (most - least)
    return float(np.mean((values > least + margin) & (values < most - margin)))


def _brightness(picture: Image.Image) -> tuple[Values, float]:
    """Return brightness, shape (H, W), with transparent as 0, and white level."""
    if picture.mode in ("1", "L") and not picture.has_transparency_data:
        return np.asarray(picture.convert("L")), 255.0
    if picture.mode.startswith("I;16"):
        return np.asarray(picture, np.float64), 65535.0
    if picture.mode in ("I", "F"):
        values = np.asarray(picture, np.float64)
        return values, float(values.max())
    *colors, alpha = np.moveaxis(np.asarray(picture.convert("RGBA"), np.float64), -1, 0)
    values = (0.299 * colors[0] + 0.587 * colors[1] + 0.114 * colors[2]) * (alpha / 255)
    # A lesion drawn in black on transparent is defined by its opacity alone, one in a single-color palette by its index.
    hidden = np.asarray(picture, np.float64) if picture.mode == "P" else alpha
    return (hidden if np.ptp(values) == 0 and np.ptp(hidden) > 0 else values), 255.0
