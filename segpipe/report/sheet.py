"""A4 sheet of a PDF: margins, lines of text, and disclaimer."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from segpipe.language import translate
from segpipe.report.canvas import INK, LINE_HEIGHT, Canvas, Color, Stroke, text_width, wrap
from segpipe.report.wording import DISCLAIMER

# All lengths are inches; A4 is 210 mm wide and 297 mm high.
WIDTH, HEIGHT = 210 / 25.4, 297 / 25.4
MARGIN = 0.7
TEXT_WIDTH = WIDTH - 2 * MARGIN
TEXT_SIZE = 9  # points
BLOCK_GAP = 0.14
_BOX_HEIGHT, _BOX_SIZE = 0.42, 11
_BOX_TOP = HEIGHT - MARGIN - _BOX_HEIGHT
# Lower end of everything above the disclaimer.
FOOT = _BOX_TOP - BLOCK_GAP


@dataclass(frozen=True)
class TextLine:
    """One line of a block of text."""

    text: str
    size: float = TEXT_SIZE
    bold: bool = False
    color: Color = INK

    @property
    def height(self) -> float:
        """Distance to the next line, inches."""
        return self.size * LINE_HEIGHT


def wrapped(
    sentences: Iterable[str],
    *,
    size: float = TEXT_SIZE,
    bold: bool = False,
    color: Color = INK,
    separator: str = " ",
    width: float = TEXT_WIDTH,
) -> list[TextLine]:
    """Break sentences into lines, see `canvas.wrap`.

    Args:
        sentences: Sentences, each of which begins a new line.
        size: Font size in points.
        bold: True for bold letters.
        color: Color of the text.
        separator: Text at which a line may end.
        width: Available width in inches.
    """
    parts = (part for text in sentences for part in wrap(text, width, size=size, bold=bold, separator=separator))
    return [TextLine(part, size, bold, color) for part in parts]


def height_of(lines: Iterable[TextLine]) -> float:
    """Height of a block of text, inches."""
    return sum(line.height for line in lines)


def write_lines(canvas: Canvas, top: float, lines: Iterable[TextLine], *, left: float = MARGIN) -> float:
    """Write a block of text; return its lower end."""
    for line in lines:
        # With the baseline at three quarters of a line's height, capitals are centered in it.
        canvas.write(left, top + line.height * 3 / 4, line.text, size=line.size, bold=line.bold, color=line.color)
        top += line.height
    return top


def draw_disclaimer(canvas: Canvas) -> None:
    """Draw the disclaimer in a box at the foot of a sheet."""
    right, bottom = MARGIN + TEXT_WIDTH, _BOX_TOP + _BOX_HEIGHT
    canvas.outline(np.array([(MARGIN, _BOX_TOP), (right, _BOX_TOP), (right, bottom), (MARGIN, bottom)]), Stroke(INK, 1.5))
    notice, room = translate(DISCLAIMER), TEXT_WIDTH - 2 * BLOCK_GAP
    size = min(_BOX_SIZE, _BOX_SIZE * room / text_width(notice, size=_BOX_SIZE, bold=True))
    line = TextLine(notice, size, bold=True)
    write_lines(canvas, _BOX_TOP + (_BOX_HEIGHT - line.height) / 2, [line], left=MARGIN + BLOCK_GAP)
