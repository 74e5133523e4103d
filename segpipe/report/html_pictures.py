"""The pictures of the HTML report, one JPEG each: thumbnail, photograph with outline and crop box, crop, heatmap."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.image_io import BoolMask, RgbImage
from segpipe.inference.finding import Finding, Heatmap
from segpipe.inference.heatmap import heatmap_on_image
from segpipe.lesion.crop import Box
from segpipe.report.preview import BOX_COLOR, HEATMAP_OPACITY, OUTLINE_COLOR, Preview, make_preview, reduce_preview

# Below the output folder of a run.
THUMBNAILS, PHOTOGRAPHS, CROPS, HEATMAPS = PICTURES = tuple(
    f"report/{name}" for name in ("thumbnails", "photographs", "crops", "heatmaps")
)
THUMBNAIL_SIDE, PHOTOGRAPH_SIDE = 160, 800

_Line = tuple[tuple[int, int], tuple[int, int]]

_HALO = (16, 16, 16)
_DASH, _SPACE = 10, 10  # pixels
# Full colour for each pixel: a thin bright line would be smeared over its neighbours otherwise.
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


def report_pictures(image: RgbImage, finding: Finding) -> dict[str, bytes]:
    """Draw the report's pictures of one image; threads may draw at the same time.

    Args:
        image: the photograph, RGB uint8, shape (H, W, 3).
        finding: what the pipeline says of `image`.

    Returns:
        JPEG files by their folder, one of `PICTURES`; without a heatmap where the finding has none. None is enlarged.

    Raises:
        ValueError: `finding` does not fit the size of `image`.
    """
    photograph = make_preview(image, finding, max_side=PHOTOGRAPH_SIDE)
    thumbnail = reduce_preview(photograph, max_side=THUMBNAIL_SIDE)
    pictures = {
        THUMBNAILS: _with_outline(thumbnail.image, thumbnail.mask),
        PHOTOGRAPHS: _with_box(_with_outline(photograph.image, photograph.mask), photograph.crop_box),
        CROPS: finding.crop,
    }
    if finding.heatmap is not None:
        pictures[HEATMAPS] = _with_outline(_with_heatmap(photograph, finding.heatmap), photograph.mask)
    return {folder: _encode(picture) for folder, picture in pictures.items()}


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


def _with_heatmap(preview: Preview, heatmap: Heatmap) -> RgbImage:
    values = heatmap_on_image(heatmap, preview.crop_box, *preview.mask.shape)
    colors = cv2.applyColorMap(np.rint(values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = HEATMAP_OPACITY * values
    return np.asarray(cv2.blendLinear(np.ascontiguousarray(colors), preview.image, opacity, 1 - opacity), dtype=np.uint8)


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))


def _encode(picture: NDArray[np.uint8]) -> bytes:
    _, file = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _JPEG)
    return bytes(file)
