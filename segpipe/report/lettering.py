"""Text that fits: measured in the font that it is written with, wrapped or cut to the room that there is."""

from bisect import bisect_right
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font, LoadFlags

# The font comes with matplotlib, so a figure looks the same on every machine.
FONT = "DejaVu Sans"
INK, GREY = "#1f2328", "#5c636b"
# From one line of a paragraph to the next: inches for each point of the letters' size.
LINE_HEIGHT = 1.5 / 72


def style(size: float, *, bold: bool = False, color: str = INK) -> dict[str, Any]:
    """How matplotlib writes a text: arguments for `text`, `set_title` and the like.

    Args:
        size: points.
        bold: of the weight.
        color: any that matplotlib knows.
    """
    # A file name with two dollar signs is a file name, not a formula.
    weight = "bold" if bold else "normal"
    return {"family": FONT, "size": size, "weight": weight, "color": color, "parse_math": False, "usetex": False}


def write(figure: Figure, left: float, top: float, text: str, *, size: float, bold: bool = False, color: str = INK) -> None:
    """Write one line onto a figure.

    Args:
        figure: gets the text.
        left: where the line begins, inches.
        top: of the line that the letters stand on, inches from the figure's upper edge.
        text: one line.
        size: points.
        bold: of the weight.
        color: any that matplotlib knows.
    """
    figure.text(left / figure.get_figwidth(), 1 - top / figure.get_figheight(), text, **style(size, bold=bold, color=color))


def _font(*, bold: bool) -> FT2Font:
    return get_font(findfont(FontProperties(family=FONT, weight="bold" if bold else "normal")))


def _text_width(text: str, *, size: float, bold: bool) -> float:
    font = _font(bold=bold)
    font.set_size(size, 72)
    # Hinting rounds every letter to whole points, and a long text to another length than it is written in.
    font.set_text(text, flags=LoadFlags.NO_HINTING)
    return float(font.get_width_height()[0]) / 64 / 72


def _legible(text: str, *, bold: bool) -> str:
    """A text that the font can write: what it has no glyph for is escaped."""
    font = _font(bold=bold)
    return "".join(sign if font.get_char_index(ord(sign)) else ascii(sign)[1:-1] for sign in text)


def elide(text: str, room: float, *, size: float, bold: bool = False) -> str:
    """Leave out the middle of a text that is too long for one line; what the font cannot write is escaped.

    Args:
        text: one line.
        room: inches.
        size: points.
        bold: of the weight.
    """
    text = _legible(text, bold=bold)
    if _text_width(text, size=size, bold=bold) <= room:
        return text

    def shortened(kept: int) -> str:
        return f"{text[:kept]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - kept :]}"

    lengths = range(1, len(text) // 2)
    return shortened(bisect_right(lengths, room, key=lambda kept: _text_width(shortened(kept), size=size, bold=bold)))


def wrap(text: str, room: float, *, size: float, bold: bool = False, separator: str = " ") -> list[str]:
    """Break a text into lines; what is too long for a line and cannot be broken loses its middle.

    Args:
        text: words between separators.
        room: inches.
        size: points.
        bold: of the weight.
        separator: where a line may end; it is left out there.
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
