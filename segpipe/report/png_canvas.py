"""Canvas of pixels, drawn with Pillow and OpenCV."""

import math
from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segpipe.report.canvas import HALO_COLOR, HALO_OPACITY, INK, Area, Color, Stroke
from segpipe.report.lettering import load_font, text_width
from segpipe.types import FloatArray, RgbImage

DPI = 100

# Text and lines are drawn larger by these factors and reduced, which smooths them and places them between pixels.
_TEXT_SCALE, _LINE_SCALE = 8, 4
# Heights above and below the baseline that hold any letter, and the height of an x, as fractions of the font size.
_ASCENT, _DESCENT, _X_HEIGHT = 1.3, 0.5, 1120 / 2048


class PngCanvas:
    """Canvas of 100 pixels to the inch.

    Attributes:
        pixels: RGB uint8, shape (H, W, 3).
    """

    def __init__(self, width: float, height: float) -> None:
        self.pixels: RgbImage = np.full((round(height * DPI), round(width * DPI), 3), 255, dtype=np.uint8)

    def write(
        self,
        left: float,
        baseline: float,
        text: str,
        *,
        size: float,
        bold: bool = False,
        color: Color = INK,
        align: Literal["left", "right"] = "left",
    ) -> None:
        """Write one line of text, see `Canvas`."""
        width = text_width(text, size=size, bold=bold)
        start, first = math.modf((left - width * (align == "right")) * DPI)
        mask, above = _letters(text, width=width * DPI, size=size * DPI / 72, bold=bold, start=start)
        self._blend(round(baseline * DPI) - above, int(first), mask, color)

    def draw_image(self, area: Area, image: RgbImage) -> None:
        """Fill an area with an image, see `Canvas`."""
        target = self._view(area)
        height, width = target.shape[:2]
        smaller = width < image.shape[1] or height < image.shape[0]
        interpolation = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        target[:] = cv2.resize(image, (width, height), interpolation=interpolation)

    def fill(self, area: Area, color: Color, *, opacity: float = 1.0) -> None:
        """Fill an area with a color, see `Canvas`."""
        target = self._view(area)
        target[:] = np.rint(target * (1 - opacity) + np.multiply(color, opacity))

    def outline(self, points: FloatArray, stroke: Stroke) -> None:
        """Draw the outline of a polygon, see `Canvas`."""
        closed = np.concatenate([points, points[:1]]) * DPI
        for color, width, opacity in ((HALO_COLOR, stroke.halo, HALO_OPACITY), (stroke.color, stroke.width, 1.0)):
            if width:
                self._draw_line(closed, color, width * DPI / 72, opacity=opacity, dashes=stroke.dashes)

    def _view(self, area: Area) -> RgbImage:
        # Sizes and positions are rounded separately, so that equal bars stay equal.
        top, left, height, width = (round(length * DPI) for length in (area.top, area.left, area.height, area.width))
        return self.pixels[top : top + max(1, height), left : left + max(1, width)]

    def _draw_line(
        self, points: FloatArray, color: Color, width: float, *, opacity: float, dashes: tuple[float, float] | None
    ) -> None:
        margin = math.ceil(width)
        left, top = (int(start) - margin for start in points.min(axis=0))
        right, bottom = (math.ceil(end) + margin for end in points.max(axis=0))
        mask = np.zeros(((bottom - top) * _LINE_SCALE, (right - left) * _LINE_SCALE), dtype=np.uint8)
        lines = [points] if dashes is None else _dashes(points, *(length * DPI / 72 for length in dashes), width=width)
        corners = [np.rint((line - (left, top)) * _LINE_SCALE).astype(np.int32) for line in lines]
        cv2.polylines(mask, corners, False, 255, round(width * _LINE_SCALE))
        reduced = cv2.resize(mask, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        self._blend(top, left, np.asarray(reduced, dtype=np.uint8), color, opacity=opacity)

    def _blend(self, top: int, left: int, mask: NDArray[np.uint8], color: Color, *, opacity: float = 1.0) -> None:
        """Paint through a mask, from 0 for nothing to 255, as far as it lies on the canvas."""
        height, width = mask.shape
        target = self.pixels[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
        inside = mask[max(0, -top) :, max(0, -left) :][: target.shape[0], : target.shape[1]]
        weight = inside[..., None] * (opacity / 255)
        target[:] = np.rint(target * (1 - weight) + np.multiply(weight, color))


def _letters(text: str, *, width: float, size: float, bold: bool, start: float) -> tuple[NDArray[np.uint8], int]:
    """Draw a line of text as a mask.

    Pillow places letters at whole pixels and hints them at that size, so they are drawn larger. The height is adjusted by a few
    percent for an x of whole pixels, which keeps small text sharp.

    Args:
        text: One line.
        width: Length of the line, pixels.
        size: Font size, pixels.
        bold: True for bold letters.
        start: Left end of the line, a fraction of a pixel.

    Returns:
        Gray uint8, shape (height, width), and the number of rows above the baseline.
    """
    margin = math.ceil(size)
    columns, above, below = math.ceil(width) + 2 * margin, math.ceil(_ASCENT * size), math.ceil(_DESCENT * size)
    x_height = _X_HEIGHT * size
    scale = _TEXT_SCALE * x_height / max(1, round(x_height))
    baseline = math.ceil(above * scale)
    large = Image.new("L", (columns * _TEXT_SCALE, baseline + math.ceil(below * scale)))
    position = (margin + start) * _TEXT_SCALE, baseline
    ImageDraw.Draw(large).text(position, text, fill=255, font=load_font(size * _TEXT_SCALE, bold=bold), anchor="ls")
    box = (0, baseline - above * scale, columns * _TEXT_SCALE, baseline + below * scale)
    return np.asarray(large.resize((columns, above + below), Image.Resampling.BOX, box=box))[:, margin:], above


def _dashes(points: FloatArray, dash: float, space: float, *, width: float) -> Iterator[FloatArray]:
    """Split a line into dashes, shorter by their round ends.

    Args:
        points: Corners (x, y), shape (N, 2).
        dash: Length of a dash with its ends.
        space: Length of the space behind it.
        width: Width of the line.

    Yields:
        Corners of each dash, shape (n, 2).
    """
    lengths = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    for start in np.arange(0, lengths[-1], dash + space):
        first, last = start + width / 2, min(start + dash, lengths[-1]) - width / 2
        at = [first, *lengths[(lengths > first) & (lengths < last)], last]
        yield np.stack([np.interp(at, lengths, points[:, axis]) for axis in (0, 1)], axis=1)
