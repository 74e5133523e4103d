"""Outline, crop box and heatmap drawn on pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap, HeatmapArray, heatmap_on_image
from segpipe.io.run_files import REPORT_PICTURES
from segpipe.lesion.localization import MaskSource
from segpipe.report.canvas import HALO_COLOR, Color
from segpipe.types import BoolMask, Box, RgbImage, require_image, require_mask

_Segment = tuple[tuple[int, int], tuple[int, int]]

OUTLINE_COLOR, BOX_COLOR, AXES_COLOR = (125, 249, 255), (255, 255, 255), (255, 221, 87)
TRUE_COLOR, PREDICTED_COLOR = (0, 158, 115), (240, 228, 66)  # green and yellow of Okabe and Ito
HEATMAP_OPACITY = 0.8

# Pixels.
_LINE_WIDTH, _HALO_MARGIN = 2, 1
_DASH, _SPACE = 10, 10
# Chroma is not subsampled: a thin bright line would be smeared over its neighbors otherwise.
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)

_WEBP_QUALITY = 80
_TOLERANCE = 0.6  # pixels by which the outline of an SVG path may differ from the mask

# Folders of the report's pictures, below the output folder of a run.
THUMBNAILS, PHOTOGRAPHS, CROPS, HEATMAPS, SHAPES = PICTURES = REPORT_PICTURES
THUMBNAIL_SIDE, PHOTOGRAPH_SIDE = 160, 800


@dataclass(frozen=True)
class Preview:
    """Image, mask and crop box, reduced together for fast drawing.

    Attributes:
        image: RGB uint8, shape (H, W, 3).
        mask: Lesion mask, bool, shape (H, W).
        crop_box: Crop box in pixels of `image`.
    """

    image: RgbImage
    mask: BoolMask
    crop_box: Box

    @property
    def contours(self) -> Sequence[np.ndarray]:
        """Contours of the lesion; empty where the mask covers the whole image."""
        return () if self.mask.all() else find_contours(self.mask)


def make_preview(finding: Finding, *, max_side: int) -> Preview:
    """Reduce the image of a finding for drawing.

    Args:
        finding: Finding to draw.
        max_side: Largest length of the longer side, pixels; smaller images keep their size.
    """
    preview = Preview(finding.photograph.image, finding.localization.mask, finding.window)
    return reduce_preview(preview, max_side=max_side)


def reduce_preview(preview: Preview, *, max_side: int) -> Preview:
    """Reduce a preview to at most `max_side` pixels on the longer side."""
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


def find_contours(mask: BoolMask) -> Sequence[np.ndarray]:
    """Find the outer and inner contours of a mask.

    Args:
        mask: Bool, shape (H, W).

    Returns:
        Points (x, y) of each contour, int32, shape (N, 1, 2).
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return contours


def outline_path(mask: BoolMask) -> tuple[tuple[int, int], str]:
    """Describe the outlines of a mask as an SVG path.

    Returns:
        Width and height of the coordinates, the longer at most `PHOTOGRAPH_SIDE`, and the data of the path.
    """
    height, width = mask.shape
    scale = min(1.0, PHOTOGRAPH_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    contours = (cv2.approxPolyDP(contour, _TOLERANCE, True)[:, 0] for contour in find_contours(small))
    # Integer coordinates are the centers of pixels, half a pixel from their edges.
    return size, "".join(f"M{' '.join(f'{x + 0.5:g},{y + 0.5:g}' for x, y in points.tolist())}Z" for points in contours)


def draw_outline(
    image: RgbImage, mask: BoolMask, color: Color = OUTLINE_COLOR, *, width: int = _LINE_WIDTH, halo: bool = True
) -> RgbImage:
    """Draw the outline of a mask on a copy of an image.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask: Bool, shape (H, W).
        color: RGB color of the line.
        width: Line width in pixels.
        halo: True to put a wider dark line beneath.
    """
    require_mask(mask, size=require_image(image, min_side=1).shape[:2])
    return _draw_contours(image, find_contours(mask), color, width=width, halo=halo)


def _draw_contours(image: RgbImage, contours: Sequence[np.ndarray], color: Color, *, width: int, halo: bool) -> RgbImage:
    drawn = np.ascontiguousarray(image).copy()
    # Smoothing widens a line that has no halo.
    line_type = cv2.LINE_AA if halo else cv2.LINE_8
    for line_color, line_width in _lines(color, width, halo=halo):
        cv2.drawContours(drawn, contours, -1, line_color, line_width, line_type)
    return drawn


def _lines(color: Color, width: int, *, halo: bool = True) -> list[tuple[Color, int]]:
    """Colors and widths of the lines of one stroke, the lowest first."""
    line = (color, width)
    return [(HALO_COLOR, width + 2 * _HALO_MARGIN), line] if halo else [line]


def draw_lesion(preview: Preview) -> RgbImage:
    """Draw the lesion outline; nothing where the mask covers the whole image."""
    return _draw_contours(preview.image, preview.contours, OUTLINE_COLOR, width=_LINE_WIDTH, halo=True)


def draw_localization(preview: Preview) -> RgbImage:
    """Draw the lesion outline and the dashed crop box."""
    drawn = draw_lesion(preview)
    for color, width in _lines(BOX_COLOR, _LINE_WIDTH):
        for start, end in _dashes(preview.crop_box):
            cv2.line(drawn, start, end, color, width)
    return drawn


def draw_axes(preview: Preview, finding: Finding) -> RgbImage:
    """Draw the lesion outline and both principal axes.

    Args:
        preview: Image of the finding with its mask.
        finding: Finding whose appearance has the axes, in pixels of the original photograph.
    """
    drawn = draw_lesion(preview)
    size = np.array(preview.mask.shape)
    scale = size / (finding.photograph.height, finding.photograph.width)
    for axis in finding.appearance.axes:
        # Coordinates are those of the centers of pixels.
        start, end = np.rint((np.array(axis) + 0.5) * scale - 0.5).astype(int)[:, ::-1].tolist()
        for color, width in _lines(AXES_COLOR, _LINE_WIDTH):
            cv2.line(drawn, start, end, color, width, cv2.LINE_AA)
    return drawn


def _dashes(box: Box) -> Iterator[_Segment]:
    """Split the border of a box into segments between two (x, y)."""
    bottom, right = box.bottom - 1, box.right - 1
    for left in range(box.left, box.right, _DASH + _SPACE):
        for y in (box.top, bottom):
            yield (left, y), (min(left + _DASH, right), y)
    for top in range(box.top, box.bottom, _DASH + _SPACE):
        for x in (box.left, right):
            yield (x, top), (x, min(top + _DASH, bottom))


def draw_heatmap(preview: Preview, class_map: ClassMap, *, opacity: float = HEATMAP_OPACITY) -> RgbImage:
    """Draw the heatmap and the lesion outline.

    Args:
        preview: Image with mask and crop box.
        class_map: Class map of the finding.
        opacity: Opacity where the heatmap is 1, in [0, 1]; it falls to 0 with the heatmap.
    """
    return draw_lesion(Preview(blend_heatmap(preview, class_map, opacity=opacity), preview.mask, preview.crop_box))


def blend_heatmap(preview: Preview, class_map: ClassMap, *, opacity: float = HEATMAP_OPACITY) -> RgbImage:
    """Blend the heatmap into the image, without an outline; see `draw_heatmap`."""
    values = heatmap_on_image(class_map, preview.crop_box, *preview.mask.shape)
    colors = _heatmap_colors(values)[..., ::-1]
    weight = opacity * values
    blended = cv2.blendLinear(np.ascontiguousarray(colors), preview.image, weight, 1 - weight)
    return np.asarray(blended, dtype=np.uint8)


def encode_heatmap(preview: Preview, class_map: ClassMap) -> bytes:
    """Encode the heatmap alone as WebP, to be laid over the image.

    Laid over it with an opacity, it looks like `blend_heatmap` with this opacity.
    """
    values = heatmap_on_image(class_map, preview.crop_box, *preview.mask.shape)
    layer = np.dstack([_heatmap_colors(values), np.rint(values * 255).astype(np.uint8)])
    return bytes(cv2.imencode(".webp", layer, (cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY))[1])


def _heatmap_colors(values: HeatmapArray) -> np.ndarray:
    """Colors of a heatmap, BGR uint8."""
    return np.asarray(cv2.applyColorMap(np.rint(values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO))


def encode_jpeg(picture: RgbImage) -> bytes:
    """Encode a picture as JPEG without metadata."""
    _, file = cv2.imencode(".jpg", cv2.cvtColor(require_image(picture, name="picture", min_side=1), cv2.COLOR_RGB2BGR), _JPEG)
    return bytes(file)


def draw_pictures(finding: Finding, *, max_side: int) -> dict[str, RgbImage]:
    """Draw photograph, crop, heatmap and shape of a finding.

    Args:
        finding: Finding to draw.
        max_side: Largest length of the longer side of a drawing, pixels; small images are not enlarged.

    Returns:
        Drawings by their folder, one of `PICTURES`; no heatmap where the finding has none, and no shape without an outline.
    """
    image = make_preview(finding, max_side=max_side)
    drawn = {PHOTOGRAPHS: draw_localization(image), CROPS: finding.crop}
    if finding.class_map is not None:
        drawn[HEATMAPS] = draw_heatmap(image, finding.class_map)
    if finding.mask_source is not MaskSource.WHOLE_IMAGE:
        drawn[SHAPES] = draw_axes(image, finding)
    return drawn


def report_pictures(finding: Finding) -> dict[str, bytes]:
    """Draw the report's pictures of one image; thread-safe.

    Args:
        finding: Result of the image.

    Returns:
        JPEG files by their folder: those of `draw_pictures`, and a thumbnail.
    """
    thumbnail = draw_lesion(make_preview(finding, max_side=THUMBNAIL_SIDE))
    drawn = {THUMBNAILS: thumbnail, **draw_pictures(finding, max_side=PHOTOGRAPH_SIDE)}
    return {folder: encode_jpeg(picture) for folder, picture in drawn.items()}
