"""Figure of one finding: image, crop, heatmap and probabilities side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segpipe.inference.finding import Finding
from segpipe.io.files import write_file
from segpipe.io.images import encode_png
from segpipe.report.lettering import GRAY, INK, LINE_HEIGHT, elide, wrap, write
from segpipe.report.overlays import Preview, make_preview
from segpipe.report.panels import TITLE_LINE_HEIGHT, Area, PanelLayout, class_color, draw_panels, heatmap_title
from segpipe.report.wording import DISCLAIMER, diagnosis_text, finding_sentences, printable, warning_sentences

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
# Beyond these width-to-height ratios an image does not fill its panel, so that the others keep a useful size.
_PANEL_RATIOS = (0.7, 1.9)

_DIAGNOSIS_SIZE, _TITLE_SIZE, _TEXT_SIZE, _SMALL_SIZE = 22, 12, 11, 10


def write_figure(path: Path, finding: Finding, *, title: str) -> None:
    """Draw a finding into a PNG file 1600 pixels wide.

    Args:
        path: File to write; missing folders are made.
        finding: Finding to draw.
        title: Name of the image, usually its file name; any characters.

    Raises:
        OutputError: The file cannot be written.
    """
    write_file(path, encode_figure(finding, title))


def encode_figure(finding: Finding, title: str) -> bytes:
    """Encode the figure of `write_figure` as PNG."""
    canvas = FigureCanvasAgg(draw_finding(finding, title=title))
    canvas.draw()  # type: ignore[no-untyped-call]
    return encode_png(np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3])  # type: ignore[no-untyped-call]


def draw_finding(finding: Finding, *, title: str) -> Figure:
    """Draw a finding outside pyplot; safe to call from several threads.

    Args:
        finding: Finding to draw.
        title: Name of the image, usually its file name; any characters.
    """
    preview = make_preview(finding, max_side=MAX_IMAGE_SIDE)
    header = _header_lines(finding)
    layout = _lay_out(preview, finding, header_lines=len(header))
    bottom = layout.probabilities.top + layout.probabilities.height + 0.9
    figure = Figure(figsize=(_WIDTH, bottom), dpi=_DPI, facecolor="white")
    _write_header(figure, finding, header, title=title)
    draw_panels(figure, layout, preview, finding)
    _write(figure, bottom - 0.3, DISCLAIMER, size=_SMALL_SIZE, color=GRAY)
    return figure


def _lay_out(preview: Preview, finding: Finding, *, header_lines: int) -> PanelLayout:
    height, width = preview.mask.shape
    ratio = min(max(width / height, _PANEL_RATIOS[0]), _PANEL_RATIOS[1])
    images = 1 if finding.class_map is None else 2
    room = _TEXT_WIDTH - (images + 1) * _GAP - _MIN_BARS_WIDTH
    image_height = min(_MAX_IMAGE_HEIGHT, room / (images * ratio + 1))
    image_width = image_height * ratio
    title_lines = len(heatmap_title(finding, image_width, size=_TITLE_SIZE))
    top = 1.37 + header_lines * _TEXT_SIZE * LINE_HEIGHT + title_lines * _TITLE_SIZE * TITLE_LINE_HEIGHT
    image = Area(_MARGIN, top, image_width, image_height)
    crop = Area(_right_of(image), top, image_height, image_height)
    heatmap = None if finding.class_map is None else Area(_right_of(crop), top, image_width, image_height)
    left = _right_of(heatmap or crop)
    bars_height = max(image_height, len(finding.probabilities) * _BAR_PITCH)
    bars = Area(left, top, _WIDTH - _MARGIN - left, bars_height)
    return PanelLayout(image, crop, heatmap, bars, title_size=_TITLE_SIZE, text_size=_SMALL_SIZE)


def _right_of(area: Area) -> float:
    return area.left + area.width + _GAP


def _header_lines(finding: Finding) -> list[tuple[str, bool]]:
    """Lines below the diagnosis, and True for bold ones: warnings and suspicion."""
    certainty, *localization = finding_sentences(finding)
    warnings = warning_sentences(finding.localization.warnings)
    sentences = [*((text, True) for text in warnings), (certainty, finding.suspicious), *((text, False) for text in localization)]
    return [(line, bold) for text, bold in sentences for line in wrap(text, _TEXT_WIDTH, size=_TEXT_SIZE, bold=bold)]


def _write_header(figure: Figure, finding: Finding, lines: Sequence[tuple[str, bool]], *, title: str) -> None:
    _write(figure, 0.42, elide(printable(title), _TEXT_WIDTH, size=_TEXT_SIZE), color=GRAY)
    diagnosis = elide(diagnosis_text(finding), _TEXT_WIDTH, size=_DIAGNOSIS_SIZE, bold=True)
    color = class_color(finding.diagnosis in finding.malignant)
    _write(figure, 0.86, diagnosis, size=_DIAGNOSIS_SIZE, bold=True, color=color)
    for number, (line, bold) in enumerate(lines):
        _write(figure, 1.23 + number * _TEXT_SIZE * LINE_HEIGHT, line, bold=bold)


def _write(figure: Figure, top: float, text: str, *, size: float = _TEXT_SIZE, bold: bool = False, color: str = INK) -> None:
    write(figure, _MARGIN, top, text, size=size, bold=bold, color=color)
