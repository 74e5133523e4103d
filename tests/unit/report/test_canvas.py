"""Lengths, glyphs and line breaks of text on figures."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib.font_manager import get_font

from segpipe.report.canvas import elide, font_file, load_font, text_width, wrap
from segpipe.report.png_canvas import DPI, PngCanvas

WORDS = "Mask source: U-Net; lesion area 21.5 % of the image"


@pytest.mark.parametrize("bold", [False, True])
def test_characters_are_escaped_where_the_font_has_no_glyph(bold: bool) -> None:
    known = set(get_font(font_file(bold=bold)).get_charmap())
    lacking = set(range(32, 0x11000, 7)) - known
    assert len(known) > 5000 and len(lacking) > 5000
    assert [code for code in known if elide(chr(code), 100, size=10, bold=bold) != chr(code)] == []
    assert [code for code in lacking if elide(chr(code), 100, size=10, bold=bold) != ascii(chr(code))[1:-1]] == []


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("size", [6.3, 10, 11, 22])
@pytest.mark.parametrize("text", ["a" * 50, "W" * 30, "i" * 60, WORDS])
def test_text_is_drawn_as_long_as_it_is_measured(text: str, size: float, bold: bool) -> None:
    width = text_width(text, size=size, bold=bold)
    canvas = PngCanvas(width + 1, 1)
    canvas.write(0.5, 0.5, text, size=size, bold=bold)
    (columns,) = (canvas.pixels < 250).any(axis=(0, 2)).nonzero()
    # Bearings at both ends, and the widths of letters, which are rounded to an eighth of a pixel.
    assert columns.max() - columns.min() == pytest.approx(width * DPI, abs=1 + 0.15 * size * DPI / 72 + len(text) / 16)


def test_aligned_texts_end_at_the_same_position() -> None:
    canvases = PngCanvas(6, 0.6), PngCanvas(6, 0.6)
    canvases[0].write(1.234, 0.4, WORDS, size=10)
    canvases[1].write(1.234 + text_width(WORDS, size=10), 0.4, WORDS, size=10, align="right")
    np.testing.assert_array_equal(canvases[0].pixels, canvases[1].pixels)


def test_text_stands_on_its_baseline() -> None:
    canvas = PngCanvas(3, 1)
    canvas.write(0.5, 0.5, "EHTL", size=10)
    (rows,) = (canvas.pixels < 128).any(axis=(1, 2)).nonzero()
    assert rows.max() == 49
    assert rows.max() - rows.min() + 1 == pytest.approx(0.729 * 10 * DPI / 72, abs=1)


@pytest.mark.parametrize("room", [0.3, 1.0, 2.5, 10.0])
def test_lines_fit_and_keep_the_words(room: float) -> None:
    lines = wrap(WORDS, room, size=10)
    assert all(text_width(line, size=10) <= room for line in lines)
    if "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines):
        assert " ".join(lines) == WORDS
    assert text_width(elide(WORDS, room, size=10), size=10) <= room


def test_text_that_fits_is_one_line() -> None:
    room = text_width(WORDS, size=10)
    assert wrap(WORDS, room, size=10) == [WORDS] and len(wrap(WORDS, room - 0.01, size=10)) == 2
    assert elide(WORDS, room, size=10) == WORDS != elide(WORDS, room - 0.01, size=10)


def test_fonts_are_shared_by_threads() -> None:
    texts = [WORDS[number:] + chr(65 + number % 26) for number in range(40)] * 10

    def measure(text: str) -> tuple[float, bytes]:
        return text_width(text, size=10), bytes(load_font(40, bold=False).getmask(text))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(measure, texts)) == [measure(text) for text in texts]
