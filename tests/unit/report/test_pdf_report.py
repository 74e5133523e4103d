"""PDF report of a run: overview, contact sheets, a page for each image."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
from findings import add_evidence, drawn_finding

from segpipe.diagnosis import MALIGNANT_CODES, full_name
from segpipe.io.images import write_png
from segpipe.report import pdf_report
from segpipe.report.overlays import report_pictures
from segpipe.report.pdf_report import PER_SHEET, write_pdf_report
from segpipe.report.truth import NO_TRUTH, ReportTruth
from segpipe.report.wording import DISCLAIMER
from segpipe.runs.results import Row
from segpipe.runs.source import result_names

IMAGES = PER_SHEET + 3
SUMMARY: dict[str, Any] = {
    "images": IMAGES,
    "images_per_second": 2.0,
    "settings": {"folder": "photos", "explain": {"diagnosis": None}},
    "models": {"segmenter": "a" * 64, "classifier": ["b" * 64]},
    "malignant": list(MALIGNANT_CODES),
    "warnings": {},
    "operating_points": [{"target": "mel", "threshold": 0.1}],
    "versions": {},
    "platform": "Linux",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row], dict[str, Path]]:
    """Output folder of a run over 23 images, its rows and their names."""
    output, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    names = result_names([Path(f"part 1/image_{number:02}.jpg") for number in range(IMAGES)])
    rows: list[Row] = []
    for relative, name in names.items():
        image = rng.integers(120, 220, (90, 120, 3), dtype=np.uint8)
        found = add_evidence(drawn_finding(90, 120, image=image))
        shares = rng.dirichlet(np.ones(len(found.probabilities)))
        probs = dict(zip(found.probabilities, shares.tolist(), strict=True))
        found = replace(found, probabilities=probs, path=relative.as_posix(), sha256="c" * 64)
        rows.append(found.to_dict())
        write_png(output / "masks" / name, found.mask)
        for folder, picture in report_pictures(found).items():
            path = output / folder / name.with_suffix(".jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
    return output, rows, {path.as_posix(): name for path, name in names.items()}


def texts(run: tuple[Path, list[Row], dict[str, Path]], *, truth: ReportTruth = NO_TRUTH, pages: bool = True) -> list[str]:
    """Text of each page of the report."""
    output, rows, names = run
    path = write_pdf_report(output, rows, names, [], SUMMARY, truth=truth, pages=pages)
    assert path == output / "report.pdf"
    with pypdfium2.PdfDocument(path) as document:
        sizes = {tuple(round(length * 25.4 / 72) for length in page.get_size()) for page in document}
        assert sizes == {(210, 297)}
        return [" ".join(page.get_textpage().get_text_range().split()) for page in document]


def test_pages_follow_overview_and_sheets_by_probability(run: tuple[Path, list[Row], dict[str, Path]]) -> None:
    overview, first, second, *pages = texts(run)
    ordered = sorted(run[1], key=lambda row: -row["p_malignant"])
    assert len(pages) == IMAGES and all(DISCLAIMER in page for page in (overview, first, second, *pages))
    assert "photos" in overview and f"{IMAGES} images" in overview
    for number, (row, page) in enumerate(zip(ordered, pages, strict=True)):
        name = Path(row["path"]).name
        assert name in page and "Numbers of the lesion" in page and "Colors" in page and "Shape" in page
        assert (name in first) is (number < PER_SHEET) and (name in second) is (number >= PER_SHEET)


def test_contact_sheet_has_no_pages_of_single_images(run: tuple[Path, list[Row], dict[str, Path]]) -> None:
    pages = texts(run, pages=False)
    assert len(pages) == 3 and not any("How to read" in page for page in pages)


def test_truth_is_on_overview_sheets_and_pages(run: tuple[Path, list[Row], dict[str, Path]]) -> None:
    rows = run[1]
    truth = ReportTruth(
        {row["path"]: "mel" for row in rows}, {row["path"]: run[0] / "masks" / run[2][row["path"]] for row in rows}
    )
    overview, first, _, *pages = texts(run, truth=truth)
    right = sum(row["diagnosis"] == "mel" for row in rows)
    assert "Confusion matrix" in overview and f"{right} of {IMAGES}" in overview and "Dice" in overview
    assert first.count("right") + first.count("truly") == PER_SHEET
    for page in pages:
        assert f"the true diagnosis is {full_name('mel')}" in page and "Dice with the true outline 1.00" in page


def test_facts_that_do_not_fit_below_the_matrix_get_a_page(
    run: tuple[Path, list[Row], dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf_report, "run_facts", lambda _: [(f"fact {number}.", "text") for number in range(50)])
    overview, facts, *sheets = texts(run, pages=False)
    assert len(sheets) == 2 and "fact 0." not in overview and "fact 0." in facts and "fact 49." in facts
    assert DISCLAIMER in overview and DISCLAIMER in facts


def test_file_is_small_and_has_an_outline(run: tuple[Path, list[Row], dict[str, Path]]) -> None:
    texts(run)
    report = run[0] / "report.pdf"
    assert report.stat().st_size < IMAGES * 150_000
    with pypdfium2.PdfDocument(report) as document:
        titles = [bookmark.get_title() for bookmark in document.get_toc()]
        assert document.get_metadata_dict(skip_empty=True)["Title"] == f"segpipe report: {IMAGES} images"
    assert titles[0] == "Overview" and len(titles) == 3 + IMAGES and titles[3].startswith("part 1/")
