"""PDF report of a run: overview, contact sheets, and image pages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe import __version__
from segpipe.io.files import counted, display_path, write_file
from segpipe.io.images import read_image
from segpipe.io.passes import follow
from segpipe.io.run_files import PDF_REPORT
from segpipe.report.canvas import GRAY, INK, LINE_HEIGHT, Area, Stroke, elide
from segpipe.report.contents import ReportContents, ReportImage, collect_contents
from segpipe.report.html_finding import PICTURE_FOLDERS
from segpipe.report.html_table import run_facts
from segpipe.report.html_truth import tiles, truth_context
from segpipe.report.overlays import PHOTOGRAPHS
from segpipe.report.page import PageContent, draw_page
from segpipe.report.panels import class_color, trust_color
from segpipe.report.pdf_canvas import PdfCanvas
from segpipe.report.sheet import (
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
from segpipe.report.truth import NO_TRUTH, VERDICT_SIGNS, ReportTruth, truth_color
from segpipe.report.wording import class_name, malignant_sign, mark_unsure, percent, printable, split_names, warning_titles
from segpipe.runs.results import Row

_COLUMNS, _ROWS = 4, 5
PER_SHEET = _COLUMNS * _ROWS

# Lengths are inches, sizes points.
_TITLE_SIZE, _VALUE_SIZE, _HEADING_SIZE, _SMALL_SIZE, _TINY_SIZE = 20, 16, 11, 8, 7
_GAP, _CELL_GAP = 0.15, 0.14
_CELL = (TEXT_WIDTH - (_COLUMNS - 1) * _CELL_GAP) / _COLUMNS
_SHEET_TOP = MARGIN + 0.3
_CELL_HEIGHT = (FOOT - _SHEET_TOP) / _ROWS
_CELL_LINES = 4
_TILES, _TILE_HEIGHT, _TILE_PADDING = 3, 0.8, 0.1
_LABELS = 1.6  # width of the labels of facts
_MATRIX_LABELS, _MATRIX_CELL, _MATRIX_WIDTH, _MATRIX_PADDING = 2.0, 0.42, 4.6, 0.06
_LINE = Stroke((221, 225, 230), 0.8)
_PAPER = (246, 247, 249)


def write_pdf_report(
    output: Path,
    rows: Sequence[Row],
    names: Mapping[str, Path],
    failures: Sequence[tuple[str, str]],
    summary: Mapping[str, Any],
    *,
    truth: ReportTruth = NO_TRUTH,
    pages: bool = True,
) -> Path:
    """Write `report.pdf`: overview, sheets of 20 images, and image pages.

    The images follow their probability of malignancy, the largest first. The pictures of `report_pictures` must already be in
    their folders, named after the images with .jpg.

    Args:
        output: Output folder of the run, with the masks and the pictures.
        rows: Rows of the results, see `Finding.to_dict`.
        names: Name of each image among the results by the path of its row, see `result_names`.
        failures: Path and reason of each image without a result.
        summary: Content of `summary.json`.
        truth: True diagnoses and masks, as far as they are known.
        pages: False to leave out the pages of the single images.

    Returns:
        Path of `report.pdf`.

    Raises:
        OutputError: The file cannot be written.
    """
    contents = collect_contents(output, rows, names, failures, summary, truth=truth)
    canvas = PdfCanvas(WIDTH, HEIGHT, title=f"segpipe report: {counted(len(rows), 'image')}")
    _draw_overview(canvas, contents)
    for start in range(0, len(rows), PER_SHEET):
        _draw_sheet(canvas, contents, start)
    for image in follow(contents.images if pages else (), len(rows), "pages of the report"):
        canvas.new_page(bookmark=printable(image.row["path"]))
        draw_page(canvas, _page_content(image, contents))
    write_file(output / PDF_REPORT, canvas.encode())
    return output / PDF_REPORT


def _page_content(image: ReportImage, contents: ReportContents) -> PageContent:
    pictures = {key: contents.output / folder / image.picture for key, folder in PICTURE_FOLDERS.items()}
    hashes = [(role.capitalize(), model) for role, models in contents.models.items() for model in models]
    about = [f"{role}, SHA-256 {sha256}" for role, sha256 in (("File", image.row["sha256"]), *hashes)]
    return PageContent(
        image.row["path"],
        image.row,
        {key: read_image(path) for key, path in pictures.items() if path.is_file()},
        contents.malignant,
        contents.points,
        contents.coverage,
        contents.explained_class(image.row),
        [*about, f"segpipe {__version__}"],
        image.true,
        None if image.mask is None else image.mask.dice,
    )


def _draw_overview(canvas: PdfCanvas, contents: ReportContents) -> None:
    canvas.new_page(bookmark="Overview")
    title = TextLine(f"segpipe report: {counted(len(contents.images), 'image')}", _TITLE_SIZE, bold=True)
    folder = contents.settings.get("folder")
    lines = [title, *wrapped([] if folder is None else [display_path(Path(folder))], color=GRAY, separator="/")]
    top = _draw_tiles(canvas, tiles(contents), write_lines(canvas, MARGIN, lines) + _GAP)
    truth = truth_context(contents)
    if truth is not None:
        top = _draw_matrix(canvas, truth["confusion"], top + 2 * _GAP)
        top = _draw_points(canvas, truth["points"], top + _GAP)
    _draw_facts(canvas, run_facts(contents), top + 2 * _GAP)
    draw_disclaimer(canvas)


def _draw_tiles(canvas: PdfCanvas, shown: Sequence[Mapping[str, Any]], top: float) -> float:
    """Draw the large numbers in rows; return their lower end."""
    width = (TEXT_WIDTH - (_TILES - 1) * _GAP) / _TILES
    room = width - 2 * _TILE_PADDING
    for number, tile in enumerate(shown):
        row, column = divmod(number, _TILES)
        area = Area(MARGIN + column * (width + _GAP), top + row * (_TILE_HEIGHT + _GAP), width, _TILE_HEIGHT)
        canvas.fill(area, _PAPER)
        left = area.left + _TILE_PADDING
        canvas.write(left, area.top + 0.19, tile["label"], size=_SMALL_SIZE, color=GRAY)
        canvas.write(left, area.top + 0.46, tile["value"], size=_VALUE_SIZE, bold=True)
        canvas.write(left, area.top + 0.66, elide(tile["note"], room, size=_TINY_SIZE), size=_TINY_SIZE, color=GRAY)
    return top + -(-len(shown) // _TILES) * (_TILE_HEIGHT + _GAP) - _GAP


def _draw_matrix(canvas: PdfCanvas, confusion: Mapping[str, Any], top: float) -> float:
    """Draw the confusion matrix; return its lower end."""
    top = write_lines(canvas, top, [TextLine("Confusion matrix", _HEADING_SIZE, bold=True)])
    top = write_lines(canvas, top, [TextLine("Rows: true diagnosis. Columns: predicted.", _SMALL_SIZE, color=GRAY)]) + 0.2
    cell = min(_MATRIX_CELL, _MATRIX_WIDTH / len(confusion["classes"]))
    size, left = min(_SMALL_SIZE, cell * 20), MARGIN + _MATRIX_LABELS
    last = left + (len(confusion["classes"]) + 1) * cell + 0.1
    canvas.write(last, top - 0.05, "right", size=size, color=GRAY, align="right")
    for column, item in enumerate(confusion["classes"]):
        end = left + (column + 1) * cell - _MATRIX_PADDING
        canvas.write(end, top - 0.05, elide(item["code"], cell, size=size), size=size, color=GRAY, align="right")
    for number, row in enumerate(confusion["rows"]):
        baseline = top + (number + 0.62) * cell
        label = f"{malignant_sign(row['malignant'])}{row['name']}"
        canvas.write(MARGIN, baseline, elide(label, _MATRIX_LABELS - 0.1, size=size), size=size)
        for column, item in enumerate(row["cells"]):
            area = Area(left + column * cell, top + number * cell, cell - 0.02, cell - 0.02)
            canvas.fill(area, _PAPER)
            canvas.fill(area, class_color(not item["correct"]), opacity=0.6 * float(item["fraction"]))
            color = INK if item["count"] else GRAY
            canvas.write(area.right - _MATRIX_PADDING, baseline, f"{item['count']:,}", size=size, color=color, align="right")
        canvas.write(last, baseline, row["found"], size=size, color=GRAY, align="right")
    return top + len(confusion["rows"]) * cell


def _draw_points(canvas: PdfCanvas, points: Sequence[Mapping[str, Any]], top: float) -> float:
    """Write the numbers of the operating points; return their lower end."""
    texts = [
        f"Suspicious for {point['target'][:1].lower()}{point['target'][1:]} from {point['threshold']}: "
        f"found {' '.join(point['found'])}, false alarms {' '.join(point['alarms'])}"
        for point in points
    ]
    return write_lines(canvas, top, wrapped(texts, size=_SMALL_SIZE))


def _draw_facts(canvas: PdfCanvas, facts: Sequence[tuple[str, str]], top: float) -> None:
    """Write the facts of the run, on a new page if necessary."""
    heading = TextLine("About this run", _HEADING_SIZE, bold=True)
    texts = [(label, wrapped([text], width=TEXT_WIDTH - _LABELS)) for label, text in facts]
    if top + heading.height + sum(height_of(lines) for _, lines in texts) > FOOT:
        draw_disclaimer(canvas)
        canvas.new_page()
        top = MARGIN
    top = write_lines(canvas, top, [heading])
    for label, lines in texts:
        write_lines(canvas, top, [TextLine(label, color=GRAY)])
        top = write_lines(canvas, top, lines, left=MARGIN + _LABELS)


def _draw_sheet(canvas: PdfCanvas, contents: ReportContents, start: int) -> None:
    """Draw a sheet of small pictures."""
    shown = contents.images[start : start + PER_SHEET]
    heading = f"Images {start + 1:,} to {start + len(shown):,} of {len(contents.images):,}, by probability of malignancy"
    legend = "Confidence and probability of malignancy below each diagnosis; in bold: suspicious"
    canvas.new_page(bookmark=heading)
    canvas.write(MARGIN, MARGIN, heading, size=TEXT_SIZE, bold=True)
    canvas.write(MARGIN, MARGIN + 0.16, legend, size=_TINY_SIZE, color=GRAY)
    for number, image in enumerate(shown):
        row, column = divmod(number, _COLUMNS)
        area = Area(MARGIN + column * (_CELL + _CELL_GAP), _SHEET_TOP + row * _CELL_HEIGHT, _CELL, _CELL_HEIGHT)
        _draw_cell(canvas, image, contents, area)
    draw_disclaimer(canvas)


def _draw_cell(canvas: PdfCanvas, image: ReportImage, contents: ReportContents, area: Area) -> None:
    line = _TINY_SIZE * LINE_HEIGHT
    picture = read_image(contents.output / PHOTOGRAPHS / image.picture)
    height = area.height - _CELL_LINES * line - _CELL_GAP
    ratio = picture.shape[1] / picture.shape[0]
    canvas.draw_image(Area(area.left, area.top, area.width, height).fit(ratio), picture)
    for number, text in enumerate(_cell_lines(image, contents.malignant)):
        baseline = area.top + height + (number + 1) * line
        shown = elide(text.text, area.width, size=_TINY_SIZE, bold=text.bold)
        canvas.write(area.left, baseline, shown, size=_TINY_SIZE, bold=text.bold, color=text.color)


def _cell_lines(image: ReportImage, malignant: Sequence[str]) -> list[TextLine]:
    row, true = image.row, image.true
    unsure = warning_titles(split_names(row["warnings"]))
    name = mark_unsure(malignant_sign(row["diagnosis"] in malignant) + class_name(row["diagnosis"]), unsure)
    malignancy = "" if row["p_malignant"] is None else f", malignancy {percent(row['p_malignant'])}"
    lines = [
        TextLine(display_path(Path(Path(row["path"]).name)), color=GRAY),
        TextLine(name, bold=True, color=class_color(row["diagnosis"] in malignant)),
        TextLine(f"{percent(row['confidence'])}{malignancy}", bold=image.suspicious),
    ]
    if true is not None:
        verdict = true.verdict if true.correct else f"truly {class_name(true.code)}"
        color = trust_color(truth_color(true))
        lines.append(TextLine(f"{VERDICT_SIGNS[true.verdict]} {verdict}", bold=not true.correct, color=color))
    return lines
