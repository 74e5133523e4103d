"""Lesion boxes and the crop rule shared by training and inference."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.types import BoolMask, Box, RgbImage, require_image, require_mask

LARGEST_MARGIN = 10  # fraction of the lesion's longer side; exceeds any photograph
BORDERS = ("squeeze", "reflect")


@dataclass(frozen=True)
class CropRule:
    """Rule of the lesion crop, stored in the card of a bundle.

    Attributes:
        whole_image: True to use the whole image; the other fields then affect only the background.
        margin_fraction: Skin around the lesion's box on each side, as a fraction of the box's longer side, 0 to 10; 0 is tight.
        keep_background: True to keep the skin outside the mask; False paints it black (worse in Mahbod et al. 2020,
            arXiv 2008.12602; kept for the ablation).
        border: Method for crops that the image is too small to make square: `squeeze` scales both sides to the network's input,
            `reflect` keeps the proportions and fills the rest by reflection at the image border.
    """

    whole_image: bool = False
    margin_fraction: float = 0.25
    keep_background: bool = True
    border: str = "squeeze"

    def __post_init__(self) -> None:
        if not 0 <= self.margin_fraction <= LARGEST_MARGIN:
            raise ValueError(f"margin_fraction must be 0 or more and at most {LARGEST_MARGIN}, got {self.margin_fraction}")
        if self.border not in BORDERS:
            raise ValueError(f"border must be one of {', '.join(BORDERS)}, got {self.border!r}")


def full_box(image: RgbImage) -> Box:
    """Return the box of the whole image."""
    height, width = require_image(image).shape[:2]
    return Box(0, 0, height, width)


def square_around(box: Box, *, margin_fraction: float, height: int, width: int) -> Box:
    """Return the square around a lesion, with margin, inside the image.

    The square is shifted into the image, so the box is smaller and not square only if the image is too small for it.
    `CropRule.border` defines how such a box becomes the network's square input.

    Args:
        box: Lesion box in pixels of the image.
        margin_fraction: Skin on each side, as a fraction of the longer side of `box`.
        height: Height of the image, pixels.
        width: Width of the image, pixels.
    """
    side = max(1, round(max(box.height, box.width) * (1 + 2 * margin_fraction)))
    top, bottom = _span((box.top + box.bottom) / 2, side, height)
    left, right = _span((box.left + box.right) / 2, side, width)
    return Box(top, left, bottom, right)


def _span(center: float, side: int, limit: int) -> tuple[int, int]:
    side = min(side, limit)
    start = min(max(round(center - side / 2), 0), limit - side)
    return start, start + side


def crop_box(image: RgbImage, box: Box, rule: CropRule) -> Box:
    """Return the area that the classifier sees, in pixels of the image."""
    whole = full_box(image)
    if rule.whole_image:
        return whole
    return square_around(box, margin_fraction=rule.margin_fraction, height=whole.bottom, width=whole.right)


def cut_out(image: RgbImage, mask: BoolMask, box: Box, *, keep_background: bool) -> RgbImage:
    """Cut a box out of an image.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask: Bool, shape (H, W), true on the lesion.
        box: Area to cut, in pixels of `image`.
        keep_background: False to paint everything outside the mask black.

    Returns:
        RGB uint8, shape (box.height, box.width, 3); a view of `image` if the background is kept.

    Raises:
        ValueError: `box` is empty or lies outside `image`.
        ValueError: `image` is not an RGB image, or `mask` is not a mask of its size, see `segpipe.types`.
    """
    height, width = require_image(image).shape[:2]
    require_mask(mask, size=(height, width))
    box.check_inside(height, width)
    pixels = image[box.slices()]
    return pixels if keep_background else pixels * mask[box.slices()][..., None]


def cut_lesion(image: RgbImage, mask: BoolMask, box: Box, rule: CropRule, *, size: int) -> tuple[Box, RgbImage]:
    """Cut a lesion out as the network's input.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask: Bool, shape (H, W), true on the lesion.
        box: Lesion box in pixels of `image`.
        rule: Crop rule of the network.
        size: Side of the network's square, pixels.

    Returns:
        Area that was cut out, in pixels of `image`, and RGB uint8, shape (size, size, 3).

    Raises:
        ValueError: `image` is not an RGB image, or `mask` is not a mask of its size, see `segpipe.types`.
    """
    window = crop_box(image, box, rule)
    pixels = cut_out(image, mask, window, keep_background=rule.keep_background)
    return window, resize_square(pixels, size) if rule.border == "squeeze" else reflect_square(pixels, size)


def reflect_square(image: RgbImage, size: int) -> RgbImage:
    """Scale the longer side to `size` and extend the shorter by reflection.

    The image is scaled before padding, so that a long strip needs no large square. Proportions are kept to half a pixel of the
    result.

    Args:
        image: RGB uint8, shape (H, W, 3).
        size: Side of the square, pixels.

    Returns:
        RGB uint8, shape (size, size, 3), with the image in the middle.

    Raises:
        ValueError: `image` is not an RGB image (of any size), see `segpipe.types.require_image`.
    """
    longer = max(require_image(image, min_side=1).shape[:2])
    height, width = (max(1, round(side * size / longer)) for side in image.shape[:2])
    top, left = (size - height) // 2, (size - width) // 2
    borders = top, size - height - top, left, size - width - left
    return np.asarray(cv2.copyMakeBorder(_scale(image, height, width), *borders, cv2.BORDER_REFLECT_101), dtype=np.uint8)


def resize_square(image: RgbImage, size: int) -> RgbImage:
    """Scale an image to a square, by area averaging when it shrinks.

    Area averaging avoids aliasing of hairs and dots.

    Args:
        image: RGB uint8, shape (H, W, 3).
        size: Side of the square, pixels.

    Returns:
        RGB uint8, shape (size, size, 3).

    Raises:
        ValueError: `image` is not an RGB image (of any size), see `segpipe.types.require_image`.
    """
    return _scale(require_image(image, min_side=1), size, size)


def resize_mask(mask: BoolMask, size: int) -> BoolMask:
    """Scale a mask to a square.

    Args:
        mask: Bool, shape (H, W).
        size: Side of the square, pixels.

    Returns:
        Bool, shape (size, size); true for pixels of which the mask covers at least half.
    """
    return scale_mask(mask, size, size)


def scale_mask(mask: BoolMask, height: int, width: int) -> BoolMask:
    """Scale a mask to another resolution of its image.

    A mask that is enlarged by a whole factor and reduced again is the same.

    Args:
        mask: Bool, shape (H, W).
        height: Height of the result, pixels.
        width: Width of the result, pixels.

    Returns:
        Bool, shape (height, width), true for pixels of which the mask covers at least half; `mask` itself where it has this size.
    """
    if require_mask(mask).shape == (height, width):
        return mask
    return _scale(mask.astype(np.uint8) * 255, height, width) >= 128


def _scale(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    shrinks = pixels.shape[0] > height or pixels.shape[1] > width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=interpolation), dtype=np.uint8)
