"""Boxes in pixels, and the rule by which a lesion is cut out of its photograph."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.io.arrays import require_image, require_mask
from segpipe.types import BoolMask, Box, RgbImage

LARGEST_MARGIN = 10  # as a fraction of the lesion's longer side; more than any photograph holds
BORDERS = ("squeeze", "reflect")


@dataclass(frozen=True)
class CropRule:
    """How a lesion is cut out; training and inference share one rule, kept in the bundle's card.

    Attributes:
        whole_image: do not crop at all; the other fields then only say what happens to the background.
        margin_fraction: skin around the lesion's box on each side, as a fraction of the box's longer side, 0 to 10; 0 is tight.
        keep_background: keep the skin outside the mask; false paints it black
            (worse in Mahbod et al. 2020, arXiv 2008.12602; kept for the ablation).
        border: method by which a crop becomes square where the image is too small for one: `squeeze` scales both sides to the
            network's input, `reflect` keeps the proportions and fills the rest by reflection at the image's border.
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
    """The box that holds the whole image."""
    height, width = require_image(image).shape[:2]
    return Box(0, 0, height, width)


def mask_box(mask: BoolMask) -> Box:
    """The smallest box that holds a mask.

    Args:
        mask: bool, shape (H, W).

    Raises:
        ValueError: `mask` is not a bool array (H, W), see `arrays.require_mask`, or it is empty.
    """
    require_mask(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise ValueError("mask must hold at least one pixel, got an empty one")
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def square_around(box: Box, *, margin_fraction: float, height: int, width: int) -> Box:
    """The square around a lesion with a margin, moved and then clamped into the image.

    The square is shifted inwards where it would leave the image, so it is smaller than asked for, and no longer a square, only
    where the image itself is too small for it. `CropRule.border` says how such a box becomes the network's square.

    Args:
        box: lesion box in pixels of the image.
        margin_fraction: skin on each side as a fraction of the longer side of `box`.
        height: of the image, pixels.
        width: of the image, pixels.
    """
    side = max(1, round(max(box.height, box.width) * (1 + 2 * margin_fraction)))
    top, bottom = _span((box.top + box.bottom) / 2, side, height)
    left, right = _span((box.left + box.right) / 2, side, width)
    return Box(top, left, bottom, right)


def _span(centre: float, side: int, limit: int) -> tuple[int, int]:
    side = min(side, limit)
    start = min(max(round(centre - side / 2), 0), limit - side)
    return start, start + side


def crop_box(image: RgbImage, box: Box, rule: CropRule) -> Box:
    """The part of the image that the classifier will see, in pixels of the image."""
    whole = full_box(image)
    if rule.whole_image:
        return whole
    return square_around(box, margin_fraction=rule.margin_fraction, height=whole.bottom, width=whole.right)


def cut_out(image: RgbImage, mask: BoolMask, box: Box, *, keep_background: bool) -> RgbImage:
    """Cut a box out of an image.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask: bool, shape (H, W), true on the lesion.
        box: what to cut, in pixels of `image`.
        keep_background: false paints everything outside the mask black.

    Returns:
        RGB uint8, shape (box.height, box.width, 3); a view of `image` where the background is kept.

    Raises:
        ValueError: `box` is empty or lies outside `image`.
        ValueError: `image` is not an RGB image, or `mask` is not one of its size, see `segpipe.io.arrays`.
    """
    height, width = require_image(image).shape[:2]
    require_mask(mask, size=(height, width))
    if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
        raise ValueError(f"box must lie in the image of {height} x {width} pixels, got {box}")
    window = (slice(box.top, box.bottom), slice(box.left, box.right))
    return image[window] if keep_background else image[window] * mask[window][..., None]


def frame_of(box: Box, border: str) -> Box:
    """Area that the network's square stands for, in pixels of the image.

    Args:
        box: part of the image that was cut out.
        border: see `CropRule`.

    Returns:
        `box` itself with `squeeze`; with `reflect` the square of its longer side around it, which may reach beyond the image.
    """
    if border == "squeeze":
        return box
    side = max(box.height, box.width)
    top, left = box.top - (side - box.height) // 2, box.left - (side - box.width) // 2
    return Box(top, left, top + side, left + side)


def cut_lesion(image: RgbImage, mask: BoolMask, box: Box, rule: CropRule, *, size: int) -> tuple[Box, RgbImage]:
    """Cut a lesion out as a network sees it, in training and inference alike.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask: bool, shape (H, W), true on the lesion.
        box: lesion box in pixels of `image`.
        rule: crop rule of the network.
        size: side of the network's square, pixels.

    Returns:
        The part of the image that was cut out, in pixels of `image`, and RGB uint8, shape (size, size, 3).

    Raises:
        ValueError: `image` is not an RGB image, or `mask` is not one of its size, see `segpipe.io.arrays`.
    """
    window = crop_box(image, box, rule)
    pixels = cut_out(image, mask, window, keep_background=rule.keep_background)
    return window, resize_square(pixels, size) if rule.border == "squeeze" else reflect_square(pixels, size)


def reflect_square(image: RgbImage, size: int) -> RgbImage:
    """Scale the longer side to `size` pixels and fill the shorter one by reflection, repeated where it must.

    The image is scaled before it is padded, so that a long strip needs no large square. The proportions are kept to half a pixel
    of the result.

    Args:
        image: RGB uint8, shape (H, W, 3).
        size: side in pixels.

    Returns:
        RGB uint8, shape (size, size, 3), with the image in the middle.

    Raises:
        ValueError: `image` is not an RGB image, see `arrays.require_image`; it may be of any size.
    """
    longer = max(require_image(image, min_side=1).shape[:2])
    height, width = (max(1, round(side * size / longer)) for side in image.shape[:2])
    top, left = (size - height) // 2, (size - width) // 2
    borders = top, size - height - top, left, size - width - left
    return np.asarray(cv2.copyMakeBorder(_scale(image, height, width), *borders, cv2.BORDER_REFLECT_101), dtype=np.uint8)


def resize_square(image: RgbImage, size: int) -> RgbImage:
    """Scale an image to `size` x `size` pixels, by area when it shrinks, so that hairs and dots do not alias.

    Args:
        image: RGB uint8, shape (H, W, 3).
        size: side in pixels.

    Returns:
        RGB uint8, shape (size, size, 3).

    Raises:
        ValueError: `image` is not an RGB image, see `arrays.require_image`; it may be of any size.
    """
    return _scale(require_image(image, min_side=1), size, size)


def resize_mask(mask: BoolMask, size: int) -> BoolMask:
    """Scale a mask, bool (H, W), to bool (size, size): a pixel is lesion where at least half of its area is."""
    return _scale(require_mask(mask).astype(np.uint8) * 255, size, size) >= 128


def _scale(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    shrinks = pixels.shape[0] > height or pixels.shape[1] > width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=interpolation), dtype=np.uint8)
