"""A photograph with what was found on it, made small enough to draw; the figure and the pages draw it in the same colours."""

from dataclasses import dataclass

import cv2
import numpy as np

from segpipe.arrays import require_image
from segpipe.image_io import BoolMask, RgbImage
from segpipe.inference.finding import Finding
from segpipe.lesion.crop import Box

OUTLINE_COLOR, BOX_COLOR = "#7df9ff", "#ffffff"
HEATMAP_OPACITY = 0.8


@dataclass(frozen=True)
class Preview:
    """Image, mask and crop box, reduced together so that drawing takes the same short time for any photograph."""

    image: RgbImage
    mask: BoolMask
    crop_box: Box


def make_preview(image: RgbImage, finding: Finding, *, max_side: int) -> Preview:
    """The photograph of a finding, no larger than asked for.

    Args:
        image: the photograph, RGB uint8, shape (H, W, 3).
        finding: what the pipeline says of `image`.
        max_side: most pixels of the longer side; a smaller photograph stays as it is.

    Raises:
        ValueError: `finding` does not fit the size of `image`.
        TypeError, ValueError: `image` is not an RGB image, see `arrays.require_image`.
    """
    mask = finding.localization.mask
    height, width = require_image(image, min_side=1).shape[:2]
    if mask.shape != (height, width):
        raise ValueError(f"finding must belong to the image of {height} x {width} pixels, got a mask of shape {mask.shape}")
    return reduce_preview(Preview(image, mask, finding.crop_box), max_side=max_side)


def reduce_preview(preview: Preview, *, max_side: int) -> Preview:
    """The same, no larger than `max_side` pixels on the longer side."""
    height, width = preview.mask.shape
    scale = max_side / max(height, width)
    if scale >= 1:
        return preview
    small_height, small_width = (max(1, round(side * scale)) for side in (height, width))
    small = np.asarray(cv2.resize(preview.image, (small_width, small_height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    mask = cv2.resize(preview.mask.view(np.uint8), (small_width, small_height), interpolation=cv2.INTER_NEAREST)
    box = preview.crop_box
    top, bottom = _scale_span(box.top, box.bottom, scale, small_height)
    left, right = _scale_span(box.left, box.right, scale, small_width)
    return Preview(small, mask.astype(np.bool_), Box(top, left, bottom, right))


def _scale_span(start: int, end: int, scale: float, limit: int) -> tuple[int, int]:
    start = min(round(start * scale), limit - 1)
    return start, min(max(round(end * scale), start + 1), limit)
