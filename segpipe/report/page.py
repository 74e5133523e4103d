"""One finding as a PDF of one page, for a record or a print-out: answer, panels, how to read them, and what stands behind it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO

from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from segpipe.inference.finding import Finding
from segpipe.report.lettering import GREY, INK, LINE_HEIGHT, elide, wrap, write
from segpipe.report.overlays import Preview, make_preview
from segpipe.report.panels import (
    TITLE_LINE_HEIGHT,
    Place,
    add_panel,
    answer_color,
    draw_crop,
    draw_heatmap,
    draw_photograph,
    draw_probabilities,
    heatmap_title,
)
from segpipe.report.wording import (
    DISCLAIMER,
    SEPARATOR,
    answer_words,
    finding_sentences,
    printable,
    reading_sentences,
    warning_sentences,
)

MAX_IMAGE_SIDE = 1000

# All lengths are inches; A4 is 210 mm wide and 297 mm high. The dots are those of photographs, as letters and lines have none.
_DPI = 200
_WIDTH, _HEIGHT = 210 / 25.4, 297 / 25.4
_MARGIN = 0.7
_TEXT_WIDTH = _WIDTH - 2 * _MARGIN
_GAP = 0.3
_COLUMN = (_TEXT_WIDTH - _GAP) / 2
_BOX_HEIGHT = 0.42
_BLOCK_GAP = 0.14
# What a row of panels needs beyond them: between the title and the text above it, and for a caption with some air below.
_ABOVE_TITLE, _CAPTION_HEIGHT = 0.2, 0.36

_BAR_PITCH = 0.34
# Share of the panels' height that bars may take from the photographs.
_MAX_BARS = 0.66
_MIN_IMAGE_HEIGHT = 0.8
# Beyond this width-to-height ratio a photograph no longer fills its panel, so that the crop keeps a useful size.
_MAX_RATIO = 1.9

_ANSWER_SIZE, _BOX_SIZE, _TITLE_SIZE, _TEXT_SIZE, _SMALL_SIZE, _ABOUT_SIZE = 20, 11, 10, 9, 8, 7
# No date: the same finding gives the same bytes, and `about` says the date where it matters. No title of the photograph.
_METADATA = {"Title": "segpipe finding", "Creator": "segpipe", "CreationDate": None}


@dataclass(frozen=True)
class _Line:
    """One line of a block of text."""

    text: str
    size: float = _TEXT_SIZE
    bold: bool = False
    color: str = INK

    @property
    def height(self) -> float:
        return self.size * LINE_HEIGHT


@dataclass(frozen=True)
class _Rows:
    """The two rows of panels, in inches without titles and captions; `tops` are measured from the upper edge of the page."""

    tops: tuple[float, float]
    image_height: float
    bars_height: float

    @property
    def bottom(self) -> float:
        return self.tops[1] + self.bars_height + _CAPTION_HEIGHT


def encode_page(finding: Finding, *, title: str, about: Sequence[str]) -> bytes:
    """A PDF of one A4 page, upright, whose text can be searched; the same arguments give the same bytes.

    Neither the title nor anything else that could name a person stands in the metadata of the file.

    Args:
        finding: result of the photograph.
        title: what to call the photograph, usually its file name; any characters.
        about: what a record needs beyond the finding: date, versions, hashes of the models, measured figures. One sentence each.

    Raises:
        ValueError: the texts leave no room for the panels.
    """
    canvas, buffer = FigureCanvasPdf(draw_page(finding, title=title, about=about)), BytesIO()
    canvas.print_pdf(buffer, metadata=_METADATA)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def draw_page(finding: Finding, *, title: str, about: Sequence[str]) -> Figure:
    """The page of `encode_page` as a figure outside pyplot: threads may draw at the same time."""
    preview = make_preview(finding, max_side=MAX_IMAGE_SIDE)
    head, notes, foot = _head(finding, title=title), _notes(finding), _wrapped(about, size=_ABOUT_SIZE, color=GREY)
    box_top = _HEIGHT - _MARGIN - _BOX_HEIGHT
    foot_top = box_top - _BLOCK_GAP - _height(foot)
    head_bottom = _MARGIN + _height(head)
    rows = _lay_out(preview, finding, top=head_bottom, room=foot_top - _BLOCK_GAP - _height(notes) - head_bottom)
    if rows.image_height < _MIN_IMAGE_HEIGHT:
        raise ValueError(f"about must leave room on the page for the photograph, got {len(foot)} lines; say less there")
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, facecolor="white")
    for top, lines in ((_MARGIN, head), (rows.bottom, notes), (foot_top, foot)):
        _write_lines(figure, top, lines)
    _draw_panels(figure, rows, preview, finding)
    _draw_box(figure, box_top)
    return figure


def _head(finding: Finding, *, title: str) -> list[_Line]:
    certainty, *place = finding_sentences(finding)
    name = f"segpipe{SEPARATOR}{printable(title)}"
    answer = elide(answer_words(finding), _TEXT_WIDTH, size=_ANSWER_SIZE, bold=True)
    return [
        _Line(elide(name, _TEXT_WIDTH, size=_TEXT_SIZE), color=GREY),
        _Line(answer, _ANSWER_SIZE, bold=True, color=answer_color(finding.diagnosis in finding.malignant)),
        *_wrapped(warning_sentences(finding.localization.warnings), bold=True),
        # The suspicion must not be missed under an answer that reads benign.
        *_wrapped([certainty], bold=finding.suspicious, separator=SEPARATOR),
        *_wrapped(place),
    ]


def _notes(finding: Finding) -> list[_Line]:
    return [_Line("How to read this", _TITLE_SIZE, bold=True), *_wrapped(reading_sentences(finding), size=_SMALL_SIZE)]


def _wrapped(
    sentences: Iterable[str], *, size: float = _TEXT_SIZE, bold: bool = False, color: str = INK, separator: str = " "
) -> list[_Line]:
    parts = (part for text in sentences for part in wrap(text, _TEXT_WIDTH, size=size, bold=bold, separator=separator))
    return [_Line(part, size, bold, color) for part in parts]


def _height(lines: Iterable[_Line]) -> float:
    return sum(line.height for line in lines)


def _lay_out(preview: Preview, finding: Finding, *, top: float, room: float) -> _Rows:
    height, width = preview.mask.shape
    title_lines = 1 if finding.class_map is None else len(heatmap_title(finding.class_map, _COLUMN, size=_TITLE_SIZE))
    above_first, above_second = (_ABOVE_TITLE + lines * _TITLE_SIZE * TITLE_LINE_HEIGHT for lines in (1, title_lines))
    room -= above_first + above_second + 2 * _CAPTION_HEIGHT
    bars_height = min(len(finding.probabilities) * _BAR_PITCH, _MAX_BARS * room)
    image_height = min(_COLUMN, _COLUMN / min(width / height, _MAX_RATIO), room - bars_height)
    if finding.class_map is not None:
        image_height = min(image_height, room / 2)
        bars_height = max(bars_height, image_height)
    first = top + above_first
    return _Rows((first, first + image_height + _CAPTION_HEIGHT + above_second), image_height, bars_height)


def _draw_panels(figure: Figure, rows: _Rows, preview: Preview, finding: Finding) -> None:
    (first, second), height, right = rows.tops, rows.image_height, _MARGIN + _COLUMN + _GAP
    panel = add_panel(figure, Place(_MARGIN, first, _COLUMN, height), "Photograph", size=_TITLE_SIZE)
    draw_photograph(panel, preview, finding, size=_SMALL_SIZE)
    panel = add_panel(figure, Place(right, first, _COLUMN, height), "Crop", size=_TITLE_SIZE)
    draw_crop(panel, finding, size=_SMALL_SIZE)
    bars = Place(_MARGIN, second, _TEXT_WIDTH, rows.bars_height)
    if finding.class_map is not None:
        title = "\n".join(heatmap_title(finding.class_map, _COLUMN, size=_TITLE_SIZE))
        panel = add_panel(figure, Place(_MARGIN, second, _COLUMN, height), title, size=_TITLE_SIZE)
        draw_heatmap(panel, preview, finding.class_map, size=_SMALL_SIZE)
        bars = Place(right, second, _COLUMN, rows.bars_height)
    draw_probabilities(add_panel(figure, bars, "Probabilities", size=_TITLE_SIZE), finding, size=_SMALL_SIZE)


def _write_lines(figure: Figure, top: float, lines: Iterable[_Line], *, left: float = _MARGIN) -> None:
    for line in lines:
        # Capitals that stand on three quarters of a line's height lie in its middle.
        write(figure, left, top + line.height * 3 / 4, line.text, size=line.size, bold=line.bold, color=line.color)
        top += line.height


def _draw_box(figure: Figure, top: float) -> None:
    bottom = _HEIGHT - top - _BOX_HEIGHT
    frame = Rectangle((_MARGIN / _WIDTH, bottom / _HEIGHT), _TEXT_WIDTH / _WIDTH, _BOX_HEIGHT / _HEIGHT, fill=False)
    figure.add_artist(frame).set(edgecolor=INK, linewidth=1.5)
    line = _Line(DISCLAIMER, _BOX_SIZE, bold=True)
    _write_lines(figure, top + (_BOX_HEIGHT - line.height) / 2, [line], left=_MARGIN + _BLOCK_GAP)
