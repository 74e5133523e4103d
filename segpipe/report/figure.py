"""Figure of one finding: image, crop, heatmap and probabilities side by side."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from segpipe.errors import require_extra
from segpipe.inference.finding import Finding
from segpipe.io.files import encode_json, write_file
from segpipe.io.images import encode_png
from segpipe.language import translate
from segpipe.report.canvas import GRAY, INK, LINE_HEIGHT, Area, Canvas, Color, elide, wrap
from segpipe.report.evidence import evidence_paragraph, set_coverage, trust_text
from segpipe.report.overlays import Preview, encode_jpeg, make_preview
from segpipe.report.panels import TITLE_LINE_HEIGHT, PanelLayout, class_color, draw_panels, heatmap_title, trust_color
from segpipe.report.png_canvas import PngCanvas
from segpipe.report.wording import DISCLAIMER, diagnosis_text, finding_sentences, printable, warning_sentences

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Canvas = TypeVar("_Canvas", bound=Canvas)

FIGURE_FORMATS = {".png": "png", ".pdf": "pdf", ".jpg": "jpeg", ".jpeg": "jpeg", ".svg": "svg"}
MAX_IMAGE_SIDE = 1200

# All lengths are inches; at 100 pixels to the inch the figure is 1600 pixels wide.
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


def save_finding(finding: Finding, path: Path) -> None:
    """Save a finding in the format of the file's ending.

    Args:
        finding: Finding.
        path: File that ends in .json for the values of `to_dict`, or in a key of `FIGURE_FORMATS` for the figure.

    Raises:
        ValueError: `path` has another ending.
        MissingExtraError: .pdf and .svg need the extra `plots`, which is not installed.
        WriteError: The file cannot be written.
    """
    ending = path.suffix.lower()
    if ending == ".json":
        write_file(path, encode_json(finding.to_dict()))
        return
    if ending not in FIGURE_FORMATS:
        endings = ", ".join([*FIGURE_FORMATS, ".json"])
        raise ValueError(f"path must end in one of {endings}, got {str(path)!r}; finding.save('finding.png') writes the figure")
    write_file(path, encode_figure(finding, finding.name, file_format=FIGURE_FORMATS[ending]))


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


def encode_figure(finding: Finding, title: str, *, file_format: str = "png") -> bytes:
    """Encode the figure of a finding; thread-safe.

    Args:
        finding: Finding to draw.
        title: Name of the image, usually its file name; any characters.
        file_format: `png` or `jpeg`, 1600 pixels wide, or `pdf` or `svg`, which need the extra `plots`.

    Raises:
        MissingExtraError: The format needs matplotlib, which is not installed.
    """
    if file_format in ("pdf", "svg"):
        content = BytesIO()
        plot_finding(finding, title=title).savefig(content, format=file_format)
        return content.getvalue()
    pixels = draw_finding(finding, title=title, canvas=PngCanvas).pixels
    return encode_png(pixels) if file_format == "png" else encode_jpeg(pixels)


def plot_finding(finding: Finding, *, title: str) -> "Figure":
    """Draw a finding as a matplotlib figure outside pyplot; thread-safe.

    Args:
        finding: Finding to draw.
        title: Name of the image, usually its file name; any characters.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    require_extra("plots", "a figure as a plot, PDF or SVG", "matplotlib")
    from segpipe.report.plots import PlotCanvas

    return draw_finding(finding, title=title, canvas=PlotCanvas).figure


def draw_finding(finding: Finding, *, title: str, canvas: Callable[[float, float], _Canvas]) -> _Canvas:
    """Draw a finding on a new canvas.

    Args:
        finding: Finding to draw.
        title: Name of the image, usually its file name; any characters.
        canvas: Function that makes a canvas of a width and height in inches.
    """
    preview = make_preview(finding, max_side=MAX_IMAGE_SIDE)
    header = _header_lines(finding)
    layout = _lay_out(preview, finding, header_lines=len(header))
    height = layout.probabilities.bottom + 0.9
    drawn = canvas(_WIDTH, height)
    _write_header(drawn, finding, header, title=title)
    draw_panels(drawn, layout, preview, finding)
    _write(drawn, height - 0.3, translate(DISCLAIMER), size=_SMALL_SIZE, color=GRAY)
    return drawn


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
    crop = Area(image.right + _GAP, top, image_height, image_height)
    heatmap = None if finding.class_map is None else Area(crop.right + _GAP, top, image_width, image_height)
    left = (heatmap or crop).right + _GAP
    bars_height = max(image_height, len(finding.probabilities) * _BAR_PITCH)
    bars = Area(left, top, _WIDTH - _MARGIN - left, bars_height)
    return PanelLayout(image, crop, heatmap, bars, title_size=_TITLE_SIZE, text_size=_SMALL_SIZE)


@dataclass(frozen=True)
class _Line:
    """One line below the diagnosis."""

    text: str
    bold: bool = False
    color: Color = INK


def _header_lines(finding: Finding) -> list[_Line]:
    """Lines below the diagnosis: warnings and suspicion in bold, localization, trust."""
    row = finding.to_dict()
    certainty, *localization = finding_sentences(row, finding.malignant, finding.operating_points)
    trust = trust_text(row)
    return [
        *_wrapped(warning_sentences(finding.localization.warnings), bold=True),
        *_wrapped([certainty], bold=finding.suspicious),
        *_wrapped(localization),
        *([] if trust is None else _wrapped([f"{trust.mark} {trust.heading}"], bold=True, color=trust_color(trust.color))),
        *_wrapped([evidence_paragraph(row, set_coverage(finding))]),
    ]


def _wrapped(sentences: Iterable[str], *, bold: bool = False, color: Color = INK) -> list[_Line]:
    parts = (part for text in sentences for part in wrap(text, _TEXT_WIDTH, size=_TEXT_SIZE, bold=bold))
    return [_Line(part, bold, color) for part in parts]


def _write_header(canvas: Canvas, finding: Finding, lines: Sequence[_Line], *, title: str) -> None:
    _write(canvas, 0.42, elide(printable(title), _TEXT_WIDTH, size=_TEXT_SIZE), color=GRAY)
    diagnosis = elide(diagnosis_text(finding.to_dict(), finding.malignant), _TEXT_WIDTH, size=_DIAGNOSIS_SIZE, bold=True)
    color = class_color(finding.diagnosis in finding.malignant)
    _write(canvas, 0.86, diagnosis, size=_DIAGNOSIS_SIZE, bold=True, color=color)
    for number, line in enumerate(lines):
        _write(canvas, 1.23 + number * _TEXT_SIZE * LINE_HEIGHT, line.text, bold=line.bold, color=line.color)


def _write(
    canvas: Canvas, baseline: float, text: str, *, size: float = _TEXT_SIZE, bold: bool = False, color: Color = INK
) -> None:
    canvas.write(_MARGIN, baseline, text, size=size, bold=bold, color=color)
