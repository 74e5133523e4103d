"""Text on figures, wrapped or shortened to fit."""

from bisect import bisect_right
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font, LoadFlags

# The font comes with matplotlib, so a figure looks the same on every machine.
FONT = "DejaVu Sans"
INK, GRAY = "#1f2328", "#5c636b"
# From one line of a paragraph to the next: inches for each point of the font size.
LINE_HEIGHT = 1.5 / 72


def text_style(size: float, *, bold: bool = False, color: str = INK) -> dict[str, Any]:
    """Return text arguments for matplotlib's `text`, `set_title` and the like.

    Args:
        size: Font size in points.
        bold: True for bold letters.
        color: Any matplotlib color.
    """
    # A file name with two dollar signs is a file name, not a formula.
    weight = "bold" if bold else "normal"
    return {"family": FONT, "size": size, "weight": weight, "color": color, "parse_math": False, "usetex": False}


def write(figure: Figure, left: float, top: float, text: str, *, size: float, bold: bool = False, color: str = INK) -> None:
    """Write one line onto a figure.

    Args:
        figure: Figure to write on.
        left: Left end of the line, inches from the left edge.
        top: Baseline of the line, inches from the upper edge.
        text: One line.
        size: Font size in points.
        bold: True for bold letters.
        color: Any matplotlib color.
    """
    position = left / figure.get_figwidth(), 1 - top / figure.get_figheight()
    figure.text(*position, text, **text_style(size, bold=bold, color=color))


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
    if _text_width(text, size=size, bold=bold) <= room:
        return text

    def shortened(kept: int) -> str:
        return f"{text[:kept]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - kept :]}"

    lengths = range(1, len(text) // 2)
    return shortened(bisect_right(lengths, room, key=lambda kept: _text_width(shortened(kept), size=size, bold=bold)))


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
    if _text_width(text, size=size, bold=bold) <= room:
        return [text] if text else []
    lines = [""]
    for word in text.split(separator):
        longer = f"{lines[-1]}{separator}{word}" if lines[-1] else word
        if _text_width(longer, size=size, bold=bold) <= room:
            lines[-1] = longer
        else:
            lines.append(elide(word, room, size=size, bold=bold))
    return [line for line in lines if line]


def _legible(text: str, *, bold: bool) -> str:
    """Escape the characters for which the font has no glyph."""
    font = _font(bold=bold)
    return "".join(char if font.get_char_index(ord(char)) else ascii(char)[1:-1] for char in text)


def _text_width(text: str, *, size: float, bold: bool) -> float:
    font = _font(bold=bold)
    font.set_size(size, 72)
    # Hinting rounds every letter to whole points, and a long text to another length than it is written in.
    font.set_text(text, flags=LoadFlags.NO_HINTING)
    return float(font.get_width_height()[0]) / 64 / 72


def _font(*, bold: bool) -> FT2Font:
    return get_font(findfont(FontProperties(family=FONT, weight="bold" if bold else "normal")))
