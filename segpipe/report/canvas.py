"""Drawing surface of figures and pages, and lengths of text on it."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

from PIL import ImageFont

from segpipe.types import FloatArray, RgbImage

# RGB, each from 0 to 255.
Color = tuple[int, int, int]

INK, GRAY = (31, 35, 40), (92, 99, 107)
# The dark halo keeps a bright line visible on any skin.
HALO_COLOR, HALO_OPACITY = (16, 16, 16), 0.8

# From one line of a paragraph to the next: inches for each point of the font size.
LINE_HEIGHT = 1.5 / 72

# The fonts come with segpipe, so that a figure looks the same on every machine.
_FONTS = Path(__file__).with_name("fonts")
# Pillow rounds the widths of letters to pixels; at this size a pixel is a unit of the font, and nothing is rounded.
_UNITS_PER_EM = 2048
_SAMPLE_SIZE = 48  # pixels; enough to tell any glyph from the box of a missing one
_NO_CHARACTER = "\U0010ffff"


@dataclass(frozen=True)
class Area:
    """Rectangle on a canvas, in inches."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Right edge, inches from the left edge of the canvas."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Lower edge, inches from the upper edge of the canvas."""
        return self.top + self.height

    def fit(self, ratio: float) -> "Area":
        """Largest area of a width-to-height ratio at the upper left."""
        width = min(self.width, self.height * ratio)
        return Area(self.left, self.top, width, width / ratio)


@dataclass(frozen=True)
class Stroke:
    """Appearance of a line; widths and lengths are points.

    Attributes:
        color: Color of the line.
        width: Width of the line.
        halo: Width of the halo beneath; 0 for none.
        dashes: Lengths of a dash and of the space behind it; None for a solid line.
    """

    color: Color
    width: float
    halo: float = 0.0
    dashes: tuple[float, float] | None = None


class Canvas(Protocol):
    """White surface for text, images, bars and outlines.

    Lengths are inches, font sizes points.
    """

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
        """Write one line of text.

        Args:
            left: Left end of the line; its right end with `align="right"`.
            baseline: Distance of the baseline from the upper edge.
            text: One line, of characters that the font has.
            size: Font size.
            bold: True for bold letters.
            color: Color of the text.
            align: End of the line that lies at `left`.
        """

    def draw_image(self, area: Area, image: RgbImage) -> None:
        """Fill an area with an image, RGB uint8, shape (H, W, 3)."""

    def fill(self, area: Area, color: Color, *, opacity: float = 1.0) -> None:
        """Fill an area with a color, opacity in [0, 1]."""

    def outline(self, points: FloatArray, stroke: Stroke) -> None:
        """Draw the outline of a polygon.

        Args:
            points: Corners (x, y), shape (N, 2); the last is joined to the first.
            stroke: Appearance of the line.
        """


def font_file(*, bold: bool) -> Path:
    """Path of DejaVu Sans or DejaVu Sans Bold."""
    return _FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")


@lru_cache(maxsize=64)
def load_font(size: float, *, bold: bool) -> ImageFont.FreeTypeFont:
    """Load a font of segpipe; threads may share it.

    Args:
        size: Pixels of an em.
        bold: True for bold letters.
    """
    return ImageFont.truetype(font_file(bold=bold), size, layout_engine=ImageFont.Layout.BASIC)


def text_width(text: str, *, size: float, bold: bool = False) -> float:
    """Measure a line in inches.

    Args:
        text: One line.
        size: Font size in points.
        bold: True for bold letters.
    """
    return load_font(_UNITS_PER_EM, bold=bold).getlength(text) / _UNITS_PER_EM * size / 72


def elide(text: str, room: float, *, size: float, bold: bool = False) -> str:
    """Shorten a text to one line by leaving out its middle.

    Characters that the font lacks are escaped.

    Args:
        text: One line.
        room: Available width in inches.
        size: Font size in points.
        bold: True for bold letters.
    """
    text = _legible(text, bold=bold)
    if text_width(text, size=size, bold=bold) <= room:
        return text

    def shortened(kept: int) -> str:
        return f"{text[:kept]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - kept :]}"

    lengths = range(1, len(text) // 2)
    return shortened(bisect_right(lengths, room, key=lambda kept: text_width(shortened(kept), size=size, bold=bold)))


def wrap(text: str, room: float, *, size: float, bold: bool = False, separator: str = " ") -> list[str]:
    """Break a text into lines, and shorten words that do not fit.

    Args:
        text: Words between separators.
        room: Available width in inches.
        size: Font size in points.
        bold: True for bold letters.
        separator: Text at which a line may end; it is left out there.
    """
    text = _legible(text, bold=bold)
    if text_width(text, size=size, bold=bold) <= room:
        return [text] if text else []
    lines = [""]
    for word in text.split(separator):
        longer = f"{lines[-1]}{separator}{word}" if lines[-1] else word
        if text_width(longer, size=size, bold=bold) <= room:
            lines[-1] = longer
        else:
            lines.append(elide(word, room, size=size, bold=bold))
    return [line for line in lines if line]


def _legible(text: str, *, bold: bool) -> str:
    """Escape the characters for which the font has no glyph."""
    return "".join(char if _has_glyph(char, bold=bold) else ascii(char)[1:-1] for char in text)


@lru_cache(maxsize=4096)
def _has_glyph(char: str, *, bold: bool) -> bool:
    # Pillow does not tell, but draws the same box for all characters that a font lacks.
    font = load_font(_SAMPLE_SIZE, bold=bold)
    mask, missing = font.getmask(char), font.getmask(_NO_CHARACTER)
    return (mask.size, bytes(mask)) != (missing.size, bytes(missing))
