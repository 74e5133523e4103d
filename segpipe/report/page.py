"""Page of one finding: diagnosis, pictures, probabilities, numbers of the lesion, provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.inference.finding import Finding
from segpipe.language import translate
from segpipe.lesion.appearance import REFERENCE_RGB
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.canvas import GRAY, LINE_HEIGHT, Area, Canvas, Stroke, elide, text_width, wrap
from segpipe.report.evidence import (
    NUMBERS_TITLE,
    evidence_paragraph,
    has_numbers,
    judge_suspicion,
    lesion_colors,
    lesion_numbers,
    set_coverage,
    trust_text,
)
from segpipe.report.html_finding import PICTURE_FOLDERS, picture_texts
from segpipe.report.overlays import draw_pictures
from segpipe.report.panels import TITLE_LINE_HEIGHT, Panels, class_color, trust_color
from segpipe.report.plots import PlotCanvas
from segpipe.report.sheet import (
    BLOCK_GAP,
    FOOT,
    HEIGHT,
    MARGIN,
    TEXT_SIZE,
    TEXT_WIDTH,
    WIDTH,
    TextLine,
    draw_disclaimer,
    height_of,
    wrapped,
    write_lines,
)
from segpipe.report.truth import TrueDiagnosis, truth_color, truth_sentence
from segpipe.report.wording import (
    SEPARATOR,
    diagnosis_text,
    finding_sentences,
    name_with_code,
    printable,
    reading_sentences,
    split_names,
    warning_sentences,
)
from segpipe.runs.results import Row, class_codes
from segpipe.types import FloatArray, RgbImage

MAX_IMAGE_SIDE = 1000

# All lengths are inches. The resolution is that of images; text and lines are vectors.
_DPI = 200
_GAP = 0.2
# Two columns of pictures, and one of bars.
_COLUMN = (TEXT_WIDTH - 2 * _GAP) / 3
# Above the title of a panel, and below its caption.
_ABOVE_TITLE, _BELOW_CAPTION = 0.2, 0.1

_BAR_PITCH = 0.34
_BARS_CAPTION = 0.3
_MIN_IMAGE_HEIGHT = 0.8
_ROUNDING = 1e-6
# Beyond these width-to-height ratios an image does not fill its panel.
_RATIOS = (0.75, 1.9)
_LABELS = 1.7  # width of the labels of the lesion's numbers
_PATCH, _PATCH_GAP, _PATCH_BORDER = 0.11, 0.05, Stroke(GRAY, 0.5)

_DIAGNOSIS_SIZE, _TITLE_SIZE, _SMALL_SIZE, _TINY_SIZE = 20, 10, 8, 7
_NUMBER_HEIGHT = _SMALL_SIZE * LINE_HEIGHT
# Without date and file name: the same finding gives the same bytes, and nobody is identified.
_METADATA = {"Title": "segpipe finding", "Creator": "segpipe", "CreationDate": None}


@dataclass(frozen=True)
class PageContent:
    """Everything on the page of a finding.

    Attributes:
        title: Name of the image, usually its file name; any characters.
        row: Row of the results, see `Finding.to_dict`.
        pictures: Drawings of the finding, RGB uint8, by the keys of `PICTURE_FOLDERS` and in their order; at least the image.
        malignant: Codes of the malignant classes.
        points: Operating points; empty where none are known.
        coverage: Coverage of the prediction set; None if unknown.
        explained: Name of the class that the heatmap explains; None if unknown.
        about: Sentences on provenance: date, versions, hashes of the models, metrics.
        true: True diagnosis; None if unknown.
        dice: Dice with the true mask; None if unknown.
    """

    title: str
    row: Row
    pictures: Mapping[str, RgbImage]
    malignant: Sequence[str]
    points: Sequence[OperatingPoint]
    coverage: float | None
    explained: str | None
    about: Sequence[str]
    true: TrueDiagnosis | None = None
    dice: float | None = None


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
    canvas = PlotCanvas(WIDTH, HEIGHT, dpi=_DPI)
    draw_page(canvas, page_content(finding, title=title, about=about))
    return canvas.encode_pdf(_METADATA)


def page_content(finding: Finding, *, title: str, about: Sequence[str]) -> PageContent:
    """Collect the content of the page of a finding, see `encode_page`."""
    drawn = draw_pictures(finding, max_side=MAX_IMAGE_SIDE)
    return PageContent(
        title,
        finding.to_dict(),
        {key: drawn[folder] for key, folder in PICTURE_FOLDERS.items() if folder in drawn},
        finding.malignant,
        finding.operating_points,
        set_coverage(finding),
        None if finding.class_map is None else name_with_code(finding.class_map.diagnosis),
        about,
    )


def draw_page(canvas: Canvas, content: PageContent) -> None:
    """Draw a page on a canvas of A4.

    Args:
        canvas: Canvas of `WIDTH` and `HEIGHT`.
        content: Content of the page.

    Raises:
        ValueError: The texts leave no room for the panels.
    """
    head, notes = _head(content), _notes(content)
    foot = wrapped(content.about, size=_TINY_SIZE, color=GRAY)
    foot_top = FOOT - height_of(foot)
    top = MARGIN + height_of(head)
    write_lines(canvas, MARGIN, head)
    bottom = _draw_body(canvas, content, top=top, room=foot_top - BLOCK_GAP - height_of(notes) - top)
    write_lines(canvas, bottom + _BELOW_CAPTION, notes)
    write_lines(canvas, foot_top, foot)
    draw_disclaimer(canvas)


def _head(content: PageContent) -> list[TextLine]:
    row, malignant = content.row, content.malignant
    certainty, *localization = finding_sentences(row, malignant, content.points)
    if content.dice is not None:
        localization[0] += f"; Dice with the true outline {content.dice:.2f}"
    suspicious, _ = judge_suspicion(row, malignant, content.points)
    trust, true = trust_text(row), content.true
    diagnosis = elide(diagnosis_text(row, malignant), TEXT_WIDTH, size=_DIAGNOSIS_SIZE, bold=True)
    return [
        TextLine(elide(f"segpipe{SEPARATOR}{printable(content.title)}", TEXT_WIDTH, size=TEXT_SIZE), color=GRAY),
        TextLine(diagnosis, _DIAGNOSIS_SIZE, bold=True, color=class_color(row["diagnosis"] in malignant)),
        *([] if true is None else wrapped([truth_sentence(true)], bold=True, color=trust_color(truth_color(true)))),
        *wrapped(warning_sentences(split_names(row["warnings"])), bold=True),
        # Bold, because the diagnosis above may be benign.
        *wrapped([certainty], bold=suspicious, separator=SEPARATOR),
        *wrapped(localization),
        *([] if trust is None else wrapped([f"{trust.mark} {trust.heading}"], bold=True, color=trust_color(trust.color))),
        *wrapped([evidence_paragraph(row, content.coverage)], size=_SMALL_SIZE),
    ]


def _notes(content: PageContent) -> list[TextLine]:
    title = TextLine(translate("How to read this page"), _TITLE_SIZE, bold=True)
    return [title, *wrapped(reading_sentences(content.row), size=_SMALL_SIZE)]


def _draw_body(canvas: Canvas, content: PageContent, *, top: float, room: float) -> float:
    """Draw pictures above numbers, and bars beside them; return the lower end."""
    panels, bars = Panels(canvas, _TITLE_SIZE, _TINY_SIZE), Panels(canvas, _TITLE_SIZE, _SMALL_SIZE)
    numbers = _numbers_height(content.row)
    bottom = _draw_pictures(panels, content, top=top, room=room - numbers)
    if numbers:
        _draw_numbers(panels, content.row, bottom)
    codes = class_codes(content.row, content.malignant)
    first = top + _ABOVE_TITLE + _TITLE_SIZE * TITLE_LINE_HEIGHT
    height = min(len(codes) * _BAR_PITCH, top + room - first - _BARS_CAPTION)
    area = Area(MARGIN + 2 * (_COLUMN + _GAP), first, _COLUMN, height)
    bars.draw_probabilities(area, {code: content.row[f"p_{code}"] for code in codes}, content.malignant, lines=2)
    return max(bottom + numbers, area.bottom + _BARS_CAPTION)


def _draw_pictures(panels: Panels, content: PageContent, *, top: float, room: float) -> float:
    """Draw the pictures in two columns; return their lower end."""
    texts = picture_texts(content.row, explained=content.explained)
    shown = [(*texts[key], picture) for key, picture in content.pictures.items()]
    rows = [shown[start : start + 2] for start in range(0, len(shown), 2)]
    titles = [max(len(wrap(title, _COLUMN, size=_TITLE_SIZE, bold=True)) for title, _, _ in row) for row in rows]
    captions = [max(len(wrap(caption, _COLUMN, size=_TINY_SIZE)) for _, caption, _ in row) for row in rows]
    above = [_ABOVE_TITLE + lines * _TITLE_SIZE * TITLE_LINE_HEIGHT for lines in titles]
    below = [lines * _TINY_SIZE * TITLE_LINE_HEIGHT + _BELOW_CAPTION for lines in captions]
    pixel_height, pixel_width = content.pictures["image"].shape[:2]
    ratio = min(max(pixel_width / pixel_height, _RATIOS[0]), _RATIOS[1])
    height = min(_COLUMN / ratio, (room - sum(above) - sum(below)) / len(rows))
    if height < _MIN_IMAGE_HEIGHT - _ROUNDING:
        raise ValueError(f"about must leave room on the page for the image, got {len(content.about)} lines; shorten it")
    for row, space_above, space_below in zip(rows, above, below, strict=True):
        for column, (title, caption, picture) in enumerate(row):
            area = Area(MARGIN + column * (_COLUMN + _GAP), top + space_above, _COLUMN, height)
            panels.show(area, wrap(title, _COLUMN, size=_TITLE_SIZE, bold=True), picture, caption)
        top += space_above + height + space_below
    return top


def _numbers_height(row: Row) -> float:
    if not has_numbers(row):
        return 0.0
    return _ABOVE_TITLE + _TITLE_SIZE * TITLE_LINE_HEIGHT + (len(lesion_numbers(row)) + 1) * _NUMBER_HEIGHT


def _draw_numbers(panels: Panels, row: Row, top: float) -> None:
    """Write the numbers of the lesion, and draw its colors as patches."""
    canvas, right = panels.canvas, MARGIN + _LABELS
    top += _ABOVE_TITLE + _TITLE_SIZE * TITLE_LINE_HEIGHT
    panels.write_title(Area(MARGIN, top, 2 * _COLUMN, 0), [translate(NUMBERS_TITLE)])
    for label, value in lesion_numbers(row):
        top += _NUMBER_HEIGHT
        canvas.write(MARGIN, top, label, size=_SMALL_SIZE, color=GRAY)
        canvas.write(right, top, elide(value, 2 * _COLUMN + _GAP - _LABELS, size=_SMALL_SIZE), size=_SMALL_SIZE)
    colors, baseline = lesion_colors(row), top + _NUMBER_HEIGHT
    canvas.write(MARGIN, baseline, translate("Colors ({count} of 6)", count=len(colors)), size=_SMALL_SIZE, color=GRAY)
    for name in colors:
        patch = Area(right, baseline - _PATCH, _PATCH, _PATCH)
        canvas.fill(patch, REFERENCE_RGB.get(name, GRAY))
        canvas.outline(_corners(patch), _PATCH_BORDER)
        canvas.write(patch.right + _PATCH_GAP, baseline, translate(name), size=_TINY_SIZE)
        right = patch.right + 3 * _PATCH_GAP + text_width(translate(name), size=_TINY_SIZE)


def _corners(area: Area) -> FloatArray:
    return np.array([(area.left, area.top), (area.right, area.top), (area.right, area.bottom), (area.left, area.bottom)])
