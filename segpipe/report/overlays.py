"""What is drawn over a photograph's pixels: outline, crop box, heatmap; for the HTML report and the web page."""

from collections.abc import Iterator

import cv2
import numpy as np

from segpipe.inference.heatmap import ClassMap, heatmap_on_image
from segpipe.io.arrays import require_image
from segpipe.report.preview import BOX_COLOR, HEATMAP_OPACITY, OUTLINE_COLOR, Preview
from segpipe.types import BoolMask, Box, RgbImage

_Line = tuple[tuple[int, int], tuple[int, int]]

_HALO = (16, 16, 16)
_DASH, _SPACE = 10, 10  # pixels
# Full colour for each pixel: a thin bright line would be smeared over its neighbours otherwise.
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


def draw_place(preview: Preview) -> RgbImage:
    """The photograph with the outline of the lesion and the crop box (dashed)."""
    return _with_box(draw_outline(preview), preview.crop_box)


def draw_outline(preview: Preview) -> RgbImage:
    """The photograph with the outline of the lesion; itself where the mask holds all of it."""
    return _with_outline(preview.image, preview.mask)


def draw_heatmap(preview: Preview, class_map: ClassMap, *, opacity: float = HEATMAP_OPACITY) -> RgbImage:
    """The photograph under its heatmap, with the outline of the lesion.

    Args:
        preview: the photograph.
        class_map: of the finding on it.
        opacity: of the heatmap where it is 1, in [0, 1]; where it is less, it lets as much more of the photograph through.
    """
    values = heatmap_on_image(class_map, preview.crop_box, *preview.mask.shape)
    colors = cv2.applyColorMap(np.rint(values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = opacity * values
    blended = cv2.blendLinear(np.ascontiguousarray(colors), preview.image, weight, 1 - weight)
    return _with_outline(np.asarray(blended, dtype=np.uint8), preview.mask)


def encode_jpeg(picture: RgbImage) -> bytes:
    """A picture as the bytes of a JPEG file, which hold nothing but its pixels."""
    _, file = cv2.imencode(".jpg", cv2.cvtColor(require_image(picture, name="picture", min_side=1), cv2.COLOR_RGB2BGR), _JPEG)
    return bytes(file)


def _with_outline(image: RgbImage, mask: BoolMask) -> RgbImage:
    if mask.all():
        return image
    outlines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = image.copy()
    for color, thickness in ((_HALO, 4), (_rgb(OUTLINE_COLOR), 2)):
        cv2.drawContours(drawn, outlines, -1, color, thickness, cv2.LINE_AA)
    return drawn


def _with_box(image: RgbImage, box: Box) -> RgbImage:
    drawn = image.copy()
    for color, thickness in ((_HALO, 4), (_rgb(BOX_COLOR), 2)):
        for start, end in _dashes(box):
            cv2.line(drawn, start, end, color, thickness)
    return drawn


def _dashes(box: Box) -> Iterator[_Line]:
    """The sides of a box as short lines, each from one (x, y) to another; the outermost pixels belong to the box."""
    bottom, right = box.bottom - 1, box.right - 1
    for left in range(box.left, box.right, _DASH + _SPACE):
        for y in (box.top, bottom):
            yield (left, y), (min(left + _DASH, right), y)
    for top in range(box.top, box.bottom, _DASH + _SPACE):
        for x in (box.left, right):
            yield (x, top), (x, min(top + _DASH, bottom))


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))
