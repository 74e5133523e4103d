"""What is drawn over a photograph's pixels: outline, crop box, heatmap; for the HTML report and the web page."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap, heatmap_on_image
from segpipe.io.arrays import require_image
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


# Below the output folder of a run.
THUMBNAILS, PHOTOGRAPHS, CROPS, HEATMAPS = PICTURES = tuple(
    f"report/{name}" for name in ("thumbnails", "photographs", "crops", "heatmaps")
)
THUMBNAIL_SIDE, PHOTOGRAPH_SIDE = 160, 800


def report_pictures(finding: Finding) -> dict[str, bytes]:
    """Draw the report's pictures of one image; threads may draw at the same time.

    Args:
        finding: result of the image.

    Returns:
        JPEG files by their folder, one of `PICTURES`; without a heatmap where the finding has none. None is enlarged.
    """
    photograph = make_preview(finding, max_side=PHOTOGRAPH_SIDE)
    pictures = {
        THUMBNAILS: draw_outline(reduce_preview(photograph, max_side=THUMBNAIL_SIDE)),
        PHOTOGRAPHS: draw_place(photograph),
        CROPS: finding.crop,
    }
    if finding.class_map is not None:
        pictures[HEATMAPS] = draw_heatmap(photograph, finding.class_map)
    return {folder: encode_jpeg(picture) for folder, picture in pictures.items()}
