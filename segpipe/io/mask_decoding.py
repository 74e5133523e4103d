"""Masks in the encodings in which people have them: two values of any kind, or a picture of two values with soft edges."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segpipe.types import BoolMask, FloatArray

Values = NDArray[np.uint8] | FloatArray

_MOST_UNDECIDED = 0.35  # fraction of pixels between the two values, above which a picture is no mask
_END_OF_RANGE = 1 / 6
_FEW_VALUES = 4  # that may lie anywhere
_LEAST_RANGE = 1 / 8  # of all values that the encoding has, where there are more than two
_MOST_PALETTE_COLORS = 16
_MOST_TINT = 2  # difference between the channels of a grey picture, which JPEG may leave
_SURELY_UNDECIDED = 0.05  # as the first, for a picture that nobody called a mask


def decode_mask(picture: Image.Image) -> BoolMask:
    """Read a picture as the mask of a lesion.

    Of two values the brighter one is the lesion, of one value all is lesion unless it is black. Of more greys, as soft edges
    and JPEG leave them, lesion is what lies above half of their range. Transparent is not lesion.

    Args:
        picture: upright, in the mode of its file.

    Returns:
        bool, shape (H, W).

    Raises:
        ValueError: the picture is no mask.
    """
    values, full = _brightness(picture)
    levels = _levels(values)
    if len(levels) == 1:
        return np.full(values.shape, bool(levels[0] > 0))
    if len(levels) == 2:
        brighter: BoolMask = values == levels[1]
        return brighter
    undecided = 0.0 if len(levels) <= _FEW_VALUES else _undecided(values)
    if is_tinted(picture) or levels[-1] - levels[0] < _LEAST_RANGE * full or undecided > _MOST_UNDECIDED:
        raise ValueError(f"a mask must have two values, skin and lesion, perhaps with soft edges, got {len(levels)} values")
    above: BoolMask = values > (levels[0] + levels[-1]) / 2
    return above


def looks_like_mask(picture: Image.Image) -> bool:
    """Whether a picture is a mask by its content: grey of two values, perhaps with soft edges, or of few palette colors."""
    if picture.mode in ("P", "PA"):
        return 1 < len(picture.getcolors() or range(256)) <= _MOST_PALETTE_COLORS
    if is_tinted(picture):
        return False
    values, full = _brightness(picture)
    levels = _levels(values)
    if len(levels) <= 2:
        return len(levels) == 2
    return bool(levels[-1] - levels[0] > full / 2 and _undecided(values) <= _SURELY_UNDECIDED)


def is_tinted(picture: Image.Image) -> bool:
    """Whether a picture has colors."""
    if picture.mode not in ("RGB", "RGBA", "CMYK", "P", "PA"):
        return False
    return bool(np.ptp(np.asarray(picture.convert("RGB")), axis=-1).max() > _MOST_TINT)


def _levels(values: Values) -> FloatArray:
    """The values that occur, in order."""
    if values.dtype == np.uint8:  # by far the most frequent, and the quickest
        return np.flatnonzero(np.bincount(values.ravel(), minlength=256)).astype(np.float64)
    return np.unique(values).astype(np.float64)


def _undecided(values: Values) -> float:
    """Fraction of pixels whose value is at neither end of the range."""
    least, most = float(values.min()), float(values.max())
    margin = _END_OF_RANGE * (most - least)
    return float(np.mean((values > least + margin) & (values < most - margin)))


def _brightness(picture: Image.Image) -> tuple[Values, float]:
    """The brightness of each pixel, shape (H, W), with transparent as 0; and that of white."""
    if picture.mode in ("1", "L") and not picture.has_transparency_data:
        return np.asarray(picture.convert("L")), 255.0
    if picture.mode.startswith("I;16"):
        return np.asarray(picture, np.float64), 65535.0
    if picture.mode in ("I", "F"):
        values = np.asarray(picture, np.float64)
        return values, float(values.max())
    *colors, alpha = np.moveaxis(np.asarray(picture.convert("RGBA"), np.float64), -1, 0)
    values = (0.299 * colors[0] + 0.587 * colors[1] + 0.114 * colors[2]) * (alpha / 255)
    # Drawn in black on nothing, the lesion is known by its opacity alone; in a palette of one color, by its index.
    hidden = np.asarray(picture, np.float64) if picture.mode == "P" else alpha
    return (hidden if np.ptp(values) == 0 and np.ptp(hidden) > 0 else values), 255.0
