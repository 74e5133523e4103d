"""A photograph with what was found on it, made small enough to draw; the figure and the pages draw it in the same colours."""

from dataclasses import dataclass

import cv2
import numpy as np

from segpipe.inference.finding import Finding
from segpipe.types import BoolMask, Box, RgbImage

OUTLINE_COLOR, BOX_COLOR = "#7df9ff", "#ffffff"
HEATMAP_OPACITY = 0.8


@dataclass(frozen=True)
class Preview:
    """Image, mask and crop box, reduced together so that drawing takes the same short time for any photograph."""

    image: RgbImage
    mask: BoolMask
    crop_box: Box


def make_preview(finding: Finding, *, max_side: int) -> Preview:
    """Reduce the photograph of a finding to a size for drawing.

    Args:
        finding: result of one photograph.
        max_side: most pixels of the longer side; a smaller photograph stays as it is.
    """
    preview = Preview(finding.photograph.image, finding.localization.mask, finding.window)
    return reduce_preview(preview, max_side=max_side)


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
