"""Lesion and the skin around it, independent of the photograph's resolution."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.types import BoolMask, Box, FloatArray, RgbImage, mask_box

Field = NDArray[np.float32]

# Unit of every `_PX` below: pixels of the working copy. In it, the lesion has the area of a square of this side.
WORKING_SIDE_PX = 96
# Limit for masks in thin or distant pieces, which have little area for their extent.
MAX_EXTENT_PX = 512
# Limit for lesions of less than 32 x 32 pixels, whose edges would become visible.
MAX_ENLARGEMENT = 3
# Standard deviation of the Gaussian on mask and colors, 2 % of the side: more than the steps of pixels and most hairs.
SMOOTHING_PX = 2.0
PADDING_PX = 10
# Skin is measured in a ring: the border of a lesion fades into the skin, and distant skin may be lit differently.
RING_INNER_PX, RING_OUTER_PX = 8, 48
# Gray levels: darker pixels are the frame of the lens or hairs, lighter ones are reflections.
FRAME_MAX_LEVEL, GLARE_MIN_LEVEL = 60, 245
# Fraction of the 90th percentile of L* in the ring; below lie hairs, and skin where the light falls off towards the frame.
MIN_SKIN_LIGHTNESS = 0.75
# Fraction of the lesion's area that must be visible of its skin.
MIN_SKIN_FRACTION = 0.05
# Tristimulus values of the primaries of sRGB, and of its white (2 degree observer).
_XYZ_OF_RGB = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_D65 = np.array([0.95047, 1.0, 1.08883])


@dataclass(frozen=True)
class WorkingCopy:
    """Lesion and its surroundings at the working size.

    Attributes:
        mask: Fraction of each pixel in the lesion, float32 in [0, 1], shape (h, w).
        soft: `mask` after a Gaussian.
        lesion_lab: CIELAB, float32, shape (h, w, 3), after the same Gaussian over pixels of the lesion only.
        skin: Median CIELAB color of the skin around the lesion, shape (3,); None if too little is visible.
        window: Area of the image in the copy, without its padding.
        scale: Pixels of the copy in one pixel of the image, down and across.
    """

    mask: Field
    soft: Field
    lesion_lab: Field
    skin: FloatArray | None
    window: Box
    scale: tuple[float, float]

    def in_image(self, point: FloatArray) -> tuple[float, float]:
        """Convert a point (row, column) to pixels of the image."""
        row, column = (point - PADDING_PX + 0.5) / self.scale - 0.5
        return self.window.top + float(row), self.window.left + float(column)


def make_working_copy(image: RgbImage, mask: BoolMask) -> WorkingCopy:
    """Cut out a lesion with the skin around it, and scale it.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask: Bool, shape (H, W), true on the lesion.

    Raises:
        ValueError: `mask` is empty.
    """
    box = mask_box(mask)
    side, extent = math.sqrt(np.count_nonzero(mask)), max(box.height, box.width)
    scale = min(WORKING_SIDE_PX / side, MAX_EXTENT_PX / extent, MAX_ENLARGEMENT)
    window = _window(box, math.ceil(RING_OUTER_PX / scale), *mask.shape)
    small = np.asarray(_resize(mask[window.slices()].view(np.uint8) * 255, scale) / 255, dtype=np.float32)
    rgb = _resize(image[window.slices()], scale)
    lab = rgb_to_lab(rgb)
    padded, padded_lab = _pad(small), _pad(lab)
    soft = _smooth(padded)
    return WorkingCopy(
        mask=padded,
        soft=soft,
        lesion_lab=np.asarray(_smooth(padded_lab * padded[..., None]) / np.maximum(soft, 1e-6)[..., None], dtype=np.float32),
        skin=_skin_color(small, rgb, lab),
        window=window,
        scale=(small.shape[0] / window.height, small.shape[1] / window.width),
    )


def _window(box: Box, margin: int, height: int, width: int) -> Box:
    return Box(
        max(0, box.top - margin), max(0, box.left - margin), min(height, box.bottom + margin), min(width, box.right + margin)
    )


def _resize(pixels: NDArray[np.uint8], scale: float) -> Field:
    """Scale an area; float32 gives a turned image the same colors."""
    height, width = pixels.shape[:2]
    step = int(1 / (4 * scale))
    if step > 1:
        # Blocks of bytes are averaged first: a very large area would take four times its memory as float32.
        blocks = math.ceil(width / step), math.ceil(height / step)
        pixels = np.asarray(cv2.resize(pixels, blocks, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels.astype(np.float32), size, interpolation=interpolation), dtype=np.float32)


def rgb_to_lab(rgb: NDArray[np.uint8] | Field) -> Field:
    """Convert sRGB (IEC 61966-2-1) to CIELAB with white D65.

    OpenCV's conversion builds tables at its first call and the import of scikit-image's takes as long: a tenth of a second of
    each answer.

    Args:
        rgb: Colors in [0, 255], uint8 or float32, shape (h, w, 3).

    Returns:
        L* in [0, 100], a* and b*, float32, shape (h, w, 3).
    """
    encoded = rgb.astype(np.float32) / 255
    linear = np.where(encoded > 0.04045, cv2.pow((encoded + 0.055) / 1.055, 2.4), encoded / 12.92)
    ratios = cv2.transform(linear, _XYZ_OF_RGB / _D65[:, None])
    roots = np.where(ratios > (6 / 29) ** 3, cv2.pow(ratios, 1 / 3), ratios * ((29 / 6) ** 2 / 3) + 4 / 29)
    x, y, z = cv2.split(roots)
    return np.asarray(cv2.merge([116 * y - 16, 500 * (x - y), 200 * (y - z)]), dtype=np.float32)


def _pad(field: Field) -> Field:
    return np.asarray(cv2.copyMakeBorder(field, *(PADDING_PX,) * 4, cv2.BORDER_CONSTANT, value=0), dtype=np.float32)


def _smooth(field: Field) -> Field:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), SMOOTHING_PX), dtype=np.float32)


def _skin_color(mask: Field, rgb: Field, lab: Field) -> FloatArray | None:
    """Return the median color of the ring; None if it is hidden."""
    distance = cv2.distanceTransform((mask < 0.5).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    red, green, blue = cv2.split(rgb)
    visible = (cv2.max(cv2.max(red, green), blue) > FRAME_MAX_LEVEL) & (cv2.min(cv2.min(red, green), blue) < GLARE_MIN_LEVEL)
    skin = lab[visible & (distance > RING_INNER_PX) & (distance < RING_OUTER_PX)]
    if len(skin):
        skin = skin[skin[:, 0] > MIN_SKIN_LIGHTNESS * np.percentile(skin[:, 0], 90)]
    if len(skin) < MIN_SKIN_FRACTION * mask.sum():
        return None
    return np.asarray(np.median(skin, axis=0), dtype=np.float64)
