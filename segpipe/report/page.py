"""PDF page of one finding: diagnosis, panels, notes and provenance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.inference.finding import Finding
from segpipe.language import translate
from segpipe.report.canvas import GRAY, INK, LINE_HEIGHT, Area, Canvas, Color, Stroke, elide, wrap
from segpipe.report.evidence import evidence_paragraph, set_coverage, trust_text
from segpipe.report.overlays import Preview, make_preview
from segpipe.report.panels import TITLE_LINE_HEIGHT, PanelLayout, class_color, draw_panels, heatmap_title, trust_color
from segpipe.report.plots import PlotCanvas
from segpipe.report.wording import (
    DISCLAIMER,
    SEPARATOR,
    diagnosis_text,
    finding_sentences,
    printable,
    reading_sentences,
    warning_sentences,
)

MAX_IMAGE_SIDE = 1000

# All lengths are inches; A4 is 210 mm wide and 297 mm high. The resolution is that of images; text and lines are vectors.
_DPI = 200
_WIDTH, _HEIGHT = 210 / 25.4, 297 / 25.4
_MARGIN = 0.7
_TEXT_WIDTH = _WIDTH - 2 * _MARGIN
_GAP = 0.3
_COLUMN = (_TEXT_WIDTH - _GAP) / 2
_BOX_HEIGHT = 0.42
_BLOCK_GAP = 0.14
# Around a row of panels: between the title and the text above it, and for a caption and the space below.
_ABOVE_TITLE, _CAPTION_HEIGHT = 0.2, 0.36

_BAR_PITCH = 0.34
# Largest fraction of the panels' height for the bars.
_MAX_BARS = 0.74
_MIN_IMAGE_HEIGHT = 0.8
_ROUNDING = 1e-6
# Beyond this width-to-height ratio an image does not fill its panel, so that the crop keeps a useful size.
_MAX_RATIO = 1.9

_DIAGNOSIS_SIZE, _BOX_SIZE, _TITLE_SIZE, _TEXT_SIZE, _SMALL_SIZE, _ABOUT_SIZE = 20, 11, 10, 9, 8, 7
# Without date and file name: the same finding gives the same bytes, and nobody is identified.
_METADATA = {"Title": "segpipe finding", "Creator": "segpipe", "CreationDate": None}


@dataclass(frozen=True)
class _Line:
    """One line of a block of text."""

    text: str
    size: float = _TEXT_SIZE
    bold: bool = False
    color: Color = INK

    @property
    def height(self) -> float:
        return self.size * LINE_HEIGHT


def encode_page(finding: Finding, *, title: str, about: Sequence[str]) -> bytes:
    """Encode a finding as a PDF of one searchable A4 page.

    The same arguments give the same bytes. The metadata of the file contain neither the title nor anything else that could
    identify a person.

    Args:
        finding: Finding to draw.
        title: Name of the image, usually its file name; any characters.
        about: Sentences on provenance: date, versions, hashes of the models, metrics.

    Raises:
        ValueError: The texts leave no room for the panels.
    """
    canvas = PlotCanvas(_WIDTH, _HEIGHT, dpi=_DPI)
    draw_page(canvas, finding, title=title, about=about)
    return canvas.encode_pdf(_METADATA)


def draw_page(canvas: Canvas, finding: Finding, *, title: str, about: Sequence[str]) -> None:
    """Draw the page of `encode_page` on a canvas of its size."""
    preview = make_preview(finding, max_side=MAX_IMAGE_SIDE)
    head, notes, foot = _head(finding, title=title), _notes(finding), _wrapped(about, size=_ABOUT_SIZE, color=GRAY)
    box_top = _HEIGHT - _MARGIN - _BOX_HEIGHT
    foot_top = box_top - _BLOCK_GAP - _height(foot)
    head_bottom = _MARGIN + _height(head)
    layout = _lay_out(preview, finding, top=head_bottom, room=foot_top - _BLOCK_GAP - _height(notes) - head_bottom)
    if layout.image.height < _MIN_IMAGE_HEIGHT - _ROUNDING:
        raise ValueError(f"about must leave room on the page for the image, got {len(foot)} lines; shorten it")
    notes_top = layout.probabilities.bottom + _CAPTION_HEIGHT
    for top, lines in ((_MARGIN, head), (notes_top, notes), (foot_top, foot)):
        _write_lines(canvas, top, lines)
    draw_panels(canvas, layout, preview, finding)
    _draw_disclaimer(canvas, box_top)


def _head(finding: Finding, *, title: str) -> list[_Line]:
    certainty, *localization = finding_sentences(finding)
    name = f"segpipe{SEPARATOR}{printable(title)}"
    row = finding.to_dict()
    trust = trust_text(row)
    diagnosis = elide(diagnosis_text(finding), _TEXT_WIDTH, size=_DIAGNOSIS_SIZE, bold=True)
    return [
        _Line(elide(name, _TEXT_WIDTH, size=_TEXT_SIZE), color=GRAY),
        _Line(diagnosis, _DIAGNOSIS_SIZE, bold=True, color=class_color(finding.diagnosis in finding.malignant)),
        *_wrapped(warning_sentences(finding.localization.warnings), bold=True),
        # Bold, because the diagnosis above may be benign.
        *_wrapped([certainty], bold=finding.suspicious, separator=SEPARATOR),
        *_wrapped(localization),
        *([] if trust is None else _wrapped([f"{trust.mark} {trust.heading}"], bold=True, color=trust_color(trust.color))),
        *_wrapped([evidence_paragraph(row, set_coverage(finding))], size=_SMALL_SIZE),
    ]


def _notes(finding: Finding) -> list[_Line]:
    return [
        _Line(translate("How to read this page"), _TITLE_SIZE, bold=True),
        *_wrapped(reading_sentences(finding), size=_SMALL_SIZE),
    ]


def _wrapped(
    sentences: Iterable[str], *, size: float = _TEXT_SIZE, bold: bool = False, color: Color = INK, separator: str = " "
) -> list[_Line]:
    parts = (part for text in sentences for part in wrap(text, _TEXT_WIDTH, size=size, bold=bold, separator=separator))
    return [_Line(part, size, bold, color) for part in parts]


def _height(lines: Iterable[_Line]) -> float:
    return sum(line.height for line in lines)


def _lay_out(preview: Preview, finding: Finding, *, top: float, room: float) -> PanelLayout:
    """Place image and crop above heatmap and bars."""
    height, width = preview.mask.shape
    title_lines = len(heatmap_title(finding, _COLUMN, size=_TITLE_SIZE))
    above_first, above_second = (_ABOVE_TITLE + lines * _TITLE_SIZE * TITLE_LINE_HEIGHT for lines in (1, title_lines))
    room -= above_first + above_second + 2 * _CAPTION_HEIGHT
    bars_height = min(len(finding.probabilities) * _BAR_PITCH, _MAX_BARS * room, room - _MIN_IMAGE_HEIGHT)
    image_height = min(_COLUMN, _COLUMN / min(width / height, _MAX_RATIO), room - bars_height)
    if finding.class_map is not None:
        image_height = min(image_height, room / 2)
        bars_height = max(bars_height, image_height)
    first, right = top + above_first, _MARGIN + _COLUMN + _GAP
    second = first + image_height + _CAPTION_HEIGHT + above_second
    heatmap, bars = None, Area(_MARGIN, second, _TEXT_WIDTH, bars_height)
    if finding.class_map is not None:
        heatmap, bars = Area(_MARGIN, second, _COLUMN, image_height), Area(right, second, _COLUMN, bars_height)
    image, crop = (Area(left, first, _COLUMN, image_height) for left in (_MARGIN, right))
    return PanelLayout(image, crop, heatmap, bars, title_size=_TITLE_SIZE, text_size=_SMALL_SIZE)


def _write_lines(canvas: Canvas, top: float, lines: Iterable[_Line], *, left: float = _MARGIN) -> None:
    for line in lines:
        # With the baseline at three quarters of a line's height, capitals are centered in it.
        canvas.write(left, top + line.height * 3 / 4, line.text, size=line.size, bold=line.bold, color=line.color)
        top += line.height


def _draw_disclaimer(canvas: Canvas, top: float) -> None:
    right, bottom = _MARGIN + _TEXT_WIDTH, top + _BOX_HEIGHT
    canvas.outline(np.array([(_MARGIN, top), (right, top), (right, bottom), (_MARGIN, bottom)]), Stroke(INK, 1.5))
    line = _Line(translate(DISCLAIMER), _BOX_SIZE, bold=True)
    _write_lines(canvas, top + (_BOX_HEIGHT - line.height) / 2, [line], left=_MARGIN + _BLOCK_GAP)
