"""Canvas of pixels, drawn with Pillow and OpenCV."""

import math
from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageDraw

from segpipe.report.canvas import HALO_COLOR, HALO_OPACITY, INK, Area, Color, Stroke, load_font, text_width
from segpipe.types import FloatArray, RgbImage

DPI = 100

# Text and lines are drawn larger by these factors and reduced, which smooths them and places them between pixels.
_TEXT_SCALE, _LINE_SCALE = 8, 4
# Heights above and below the baseline that hold any letter, and the height of an x, as fractions of the font size.
_ASCENT, _DESCENT, _X_HEIGHT = 1.3, 0.5, 1120 / 2048


class PngCanvas:
    """Canvas of 100 pixels to the inch."""

    def __init__(self, width: float, height: float) -> None:
        self._picture = Image.new("RGB", (round(width * DPI), round(height * DPI)), "white")

    @property
    def pixels(self) -> RgbImage:
        """RGB uint8, shape (H, W, 3)."""
        return np.asarray(self._picture)

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
        mask, (before, above) = _letters(text, width=width * DPI, size=size * DPI / 72, bold=bold, start=start)
        self._picture.paste(color, (int(first) - before, round(baseline * DPI) - above), mask)

    def draw_image(self, area: Area, image: RgbImage) -> None:
        """Fill an area with an image, see `Canvas`."""
        width, height = max(1, round(area.width * DPI)), max(1, round(area.height * DPI))
        smaller = width < image.shape[1] or height < image.shape[0]
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        self._picture.paste(Image.fromarray(resized), (round(area.left * DPI), round(area.top * DPI)))

    def fill(self, area: Area, color: Color, *, opacity: float = 1.0) -> None:
        """Fill an area with a color, see `Canvas`."""
        # Size and position are rounded separately, so that equal bars stay equal.
        left, top, width, height = (round(length * DPI) for length in (area.left, area.top, area.width, area.height))
        self._picture.paste(color, (left, top), Image.new("L", (width, height), round(255 * opacity)))

    def outline(self, points: FloatArray, stroke: Stroke) -> None:
        """Draw the outline of a polygon, see `Canvas`."""
        closed = np.concatenate([points, points[:1]]) * DPI
        for color, width, opacity in ((HALO_COLOR, stroke.halo, HALO_OPACITY), (stroke.color, stroke.width, 1.0)):
            if width:
                mask, position = _line(closed, width * DPI / 72, opacity=opacity, dashes=stroke.dashes)
                self._picture.paste(color, position, mask)


def _letters(text: str, *, width: float, size: float, bold: bool, start: float) -> tuple[Image.Image, tuple[int, int]]:
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
        Gray mask, its columns before the whole pixel of the start, and its rows above the baseline.
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
    return large.resize((columns, above + below), Image.Resampling.BOX, box=box), (margin, above)


def _line(
    points: FloatArray, width: float, *, opacity: float, dashes: tuple[float, float] | None
) -> tuple[Image.Image, tuple[int, int]]:
    """Draw a line as a mask.

    Args:
        points: Corners (x, y) in pixels, shape (N, 2).
        width: Width in pixels.
        opacity: Opacity of the line, in [0, 1].
        dashes: Lengths of a dash and of the space behind it, points; None for a solid line.

    Returns:
        Gray mask, and the position (x, y) of its upper left pixel.
    """
    margin = math.ceil(width)
    left, top = (int(start) - margin for start in points.min(axis=0))
    right, bottom = (math.ceil(end) + margin for end in points.max(axis=0))
    mask = np.zeros(((bottom - top) * _LINE_SCALE, (right - left) * _LINE_SCALE), dtype=np.uint8)
    lines = [points] if dashes is None else _dashes(points, *(length * DPI / 72 for length in dashes), width=width)
    corners = [np.rint((line - (left, top)) * _LINE_SCALE).astype(np.int32) for line in lines]
    # OpenCV draws a line of odd thickness two pixels wider than that.
    thickness = max(1, 2 * round((width * _LINE_SCALE - 1) / 2) - 1)
    cv2.polylines(mask, corners, False, round(255 * opacity), thickness)
    return Image.fromarray(mask).reduce(_LINE_SCALE), (left, top)


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
