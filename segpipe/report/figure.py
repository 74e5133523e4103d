"""One finding as a figure for a talk or a record: photograph, crop, heatmap and probabilities side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segpipe.inference.finding import Finding
from segpipe.io.images import encode_png, write_file
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
from segpipe.report.wording import DISCLAIMER, answer_words, finding_sentences, printable, warning_sentences

MAX_IMAGE_SIDE = 1200

# All lengths are inches; at 100 dots per inch the figure is 1600 pixels wide.
_DPI = 100
_WIDTH = 16.0
_MARGIN = 0.4
_TEXT_WIDTH = _WIDTH - 2 * _MARGIN
_GAP = 0.35
_MAX_IMAGE_HEIGHT = 4.2
_MIN_BARS_WIDTH = 4.8
_BAR_PITCH = 0.38
# Beyond these width-to-height ratios a photograph no longer fills its panel, so that the others keep a useful size.
_PANEL_RATIOS = (0.7, 1.9)

_ANSWER_SIZE, _TITLE_SIZE, _TEXT_SIZE, _SMALL_SIZE = 22, 12, 11, 10


@dataclass(frozen=True)
class _Layout:
    """Lengths in inches, `panels_top` from the top of the figure."""

    photograph_width: float
    image_height: float
    bars_height: float
    panels_top: float
    figure_height: float


def write_figure(path: Path, finding: Finding, *, title: str) -> None:
    """Draw a finding into a PNG file about 1600 pixels wide; the folder is made where it is missing.

    Args:
        path: the file to write.
        finding: result of the photograph.
        title: what to call the photograph, usually its file name; any characters.

    Raises:
        OutputError: the file cannot be written.
    """
    write_file(path, encode_figure(finding, title))


def encode_figure(finding: Finding, title: str) -> bytes:
    """The figure of `write_figure` as the bytes of a PNG file."""
    canvas = FigureCanvasAgg(draw_finding(finding, title=title))
    canvas.draw()  # type: ignore[no-untyped-call]
    return encode_png(np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3])  # type: ignore[no-untyped-call]


def draw_finding(finding: Finding, *, title: str) -> Figure:
    """Draw a finding: photograph with outline and crop box, crop, heatmap where there is one, and probabilities.

    The figure stands outside pyplot: it needs no closing, and threads may draw at the same time.

    Args:
        finding: result of the photograph.
        title: what to call the photograph, usually its file name; any characters.
    """
    preview = make_preview(finding, max_side=MAX_IMAGE_SIDE)
    header = _header_lines(finding)
    layout = _lay_out(preview, finding, header_lines=len(header))
    figure = Figure(figsize=(_WIDTH, layout.figure_height), dpi=_DPI, facecolor="white")
    _write_header(figure, finding, header, title=title)
    _draw_panels(figure, layout, preview, finding)
    _write(figure, layout.figure_height - 0.3, DISCLAIMER, size=_SMALL_SIZE, color=GREY)
    return figure


def _lay_out(preview: Preview, finding: Finding, *, header_lines: int) -> _Layout:
    height, width = preview.mask.shape
    ratio = min(max(width / height, _PANEL_RATIOS[0]), _PANEL_RATIOS[1])
    photographs = 1 if finding.class_map is None else 2
    room = _TEXT_WIDTH - (photographs + 1) * _GAP - _MIN_BARS_WIDTH
    image_height = min(_MAX_IMAGE_HEIGHT, room / (photographs * ratio + 1))
    bars_height = max(image_height, len(finding.probabilities) * _BAR_PITCH)
    title_lines = (
        1 if finding.class_map is None else len(heatmap_title(finding.class_map, image_height * ratio, size=_TITLE_SIZE))
    )
    panels_top = 1.37 + header_lines * _TEXT_SIZE * LINE_HEIGHT + title_lines * _TITLE_SIZE * TITLE_LINE_HEIGHT
    return _Layout(image_height * ratio, image_height, bars_height, panels_top, panels_top + bars_height + 0.9)


def _header_lines(finding: Finding) -> list[tuple[str, bool]]:
    """The lines under the answer, each with whether it is bold: warnings and suspicion must not be missed."""
    certainty, *place = finding_sentences(finding)
    warnings = warning_sentences(finding.localization.warnings)
    sentences = [*((text, True) for text in warnings), (certainty, finding.suspicious), *((text, False) for text in place)]
    return [(line, bold) for text, bold in sentences for line in wrap(text, _TEXT_WIDTH, size=_TEXT_SIZE, bold=bold)]


def _write_header(figure: Figure, finding: Finding, lines: Sequence[tuple[str, bool]], *, title: str) -> None:
    _write(figure, 0.42, elide(printable(title), _TEXT_WIDTH, size=_TEXT_SIZE), color=GREY)
    answer = elide(answer_words(finding), _TEXT_WIDTH, size=_ANSWER_SIZE, bold=True)
    _write(figure, 0.86, answer, size=_ANSWER_SIZE, bold=True, color=answer_color(finding.diagnosis in finding.malignant))
    for number, (line, bold) in enumerate(lines):
        _write(figure, 1.23 + number * _TEXT_SIZE * LINE_HEIGHT, line, bold=bold)


def _draw_panels(figure: Figure, layout: _Layout, preview: Preview, finding: Finding) -> None:
    left, top, height = _MARGIN, layout.panels_top, layout.image_height
    place = Place(left, top, layout.photograph_width, height)
    draw_photograph(add_panel(figure, place, "Photograph", size=_TITLE_SIZE), preview, finding, size=_SMALL_SIZE)
    left += place.width + _GAP
    place = Place(left, top, height, height)
    draw_crop(add_panel(figure, place, "Crop", size=_TITLE_SIZE), finding, size=_SMALL_SIZE)
    left += place.width + _GAP
    if finding.class_map is not None:
        place = Place(left, top, layout.photograph_width, height)
        title = "\n".join(heatmap_title(finding.class_map, place.width, size=_TITLE_SIZE))
        draw_heatmap(add_panel(figure, place, title, size=_TITLE_SIZE), preview, finding.class_map, size=_SMALL_SIZE)
        left += place.width + _GAP
    place = Place(left, top, _WIDTH - _MARGIN - left, layout.bars_height)
    draw_probabilities(add_panel(figure, place, "Probabilities", size=_TITLE_SIZE), finding, size=_SMALL_SIZE)


def _write(figure: Figure, top: float, text: str, *, size: float = _TEXT_SIZE, bold: bool = False, color: str = INK) -> None:
    write(figure, _MARGIN, top, text, size=size, bold=bold, color=color)
