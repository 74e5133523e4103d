"""HTML report in a browser, opened from disk: sorting, filters and pages of images."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap
from segpipe.io.files import display_path
from segpipe.io.images import write_png
from segpipe.lesion.crop import cut_out, resize_square
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.html_report import write_report
from segpipe.report.overlays import report_pictures
from segpipe.report.truth import ReportTruth
from segpipe.runs.results import Row
from segpipe.runs.source import result_names
from segpipe.types import Box, Photograph, mask_box

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = 300
ODD_NAME = "odd # ? % \"'<b> \n\U0001f9ec\udcff.jpg"
SUMMARY = {
    "images": IMAGES,
    "images_per_second": 2.0,
    "settings": None,
    "models": {"segmenter": "a" * 64, "classifier": "b" * 64},
    "malignant": list(MALIGNANT_CODES),
    "warnings": {},
    "operating_points": [{"target": "mel", "threshold": 0.3}],
    "versions": {},
    "platform": "Linux",
}


def drawn_finding(number: int, rng: np.random.Generator) -> Finding:
    """Generated image with random probabilities; every third mask is from the contour."""
    image, mask = make_image(CODES[number % len(CODES)], rng, (60, 80))
    probs = rng.dirichlet(np.full(len(CODES), 0.4))
    box = Box(0, 0, 60, 60)
    source = MaskSource.UNET if number % 3 else MaskSource.CONTOUR
    return Finding(
        photograph=Photograph(image, *image.shape[:2]),
        localization=Localization(mask, mask_box(mask), source, () if number % 3 else ("unet:unsure",)),
        window=box,
        crop=resize_square(cut_out(image, mask, box, keep_background=True), 64),
        probabilities=dict(zip(CODES, probs.tolist(), strict=True)),
        malignant=MALIGNANT_CODES,
        operating_points=(OperatingPoint("mel", 0.3),),
        tta_spread=float(rng.uniform(0, 0.1)) if number % 2 else None,
        class_map=ClassMap(rng.random((3, 3), dtype=np.float32), CODES[int(probs.argmax())]) if number % 4 else None,
    )


def suspicious(row: Row) -> bool:
    return row["flagged"] or row["diagnosis"] in MALIGNANT_CODES


def true_codes(rows: list[Row]) -> dict[str, str]:
    """True diagnoses of all images but every tenth: each second one is right, the others are drawn."""
    rng = np.random.default_rng(1)
    drawn = {row["path"]: CODES[rng.integers(len(CODES))] for row in rows}
    labeled = [row for number, row in enumerate(rows) if number % 10]
    return {row["path"]: row["diagnosis"] if number % 2 else drawn[row["path"]] for number, row in enumerate(labeled)}


def is_pair(truth: dict[str, str], pair: tuple[str, str], row: Row) -> bool:
    return (truth.get(row["path"]), row["diagnosis"]) == pair


def missed(row: Row, truth: dict[str, str]) -> bool:
    return truth.get(row["path"]) in MALIGNANT_CODES and not suspicious(row)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """Report of 300 images, and its rows."""
    output, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    names = result_names([Path(ODD_NAME), *(Path(f"part {number % 2}/image_{number}.jpg") for number in range(1, IMAGES))])
    rows: list[Row] = []
    for number, (relative, name) in enumerate(names.items()):
        finding = drawn_finding(number, rng)
        rows.append(replace(finding, path=display_path(relative), sha256="c" * 64, latency_ms=5.0).to_dict())
        write_png(output / "masks" / name, finding.localization.mask)
        for folder, picture in report_pictures(finding).items():
            path = output / folder / name.with_suffix(".jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
    rows.sort(key=lambda row: str(row["path"]))
    path_names = {display_path(path): name for path, name in names.items()}
    masks = {row["path"]: output / "masks" / path_names[row["path"]] for row in rows}
    truth = ReportTruth(true_codes(rows), masks)
    write_report(output, rows, path_names, [("bad.jpg", "empty")], SUMMARY, truth=truth)
    return output, rows


@pytest.fixture
def page(run: tuple[Path, list[Row]], browser: "Browser") -> "Iterator[Page]":
    """Open the report; check for errors and foreign requests at the end."""
    faults: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    page.on("request", lambda request: None if request.url.startswith("file:") else faults.append(request.url))
    page.goto((run[0] / "report.html").as_uri())
    yield page
    context.close()
    assert faults == []


def column(page: "Page", key: str) -> list[str]:
    return [text.strip() for text in page.locator(f"tbody td.{key}").all_inner_texts()]


def percentages(page: "Page", key: str) -> list[float]:
    return [float(text.strip(" %<>")) for text in column(page, key) if text != "\N{EN DASH}"]


def count(page: "Page") -> int:
    found = re.fullmatch(rf"([\d,]+) of {IMAGES} images", page.locator("#count").inner_text())
    assert found
    return int(found[1].replace(",", ""))


def sort(page: "Page", key: str) -> str | None:
    header = page.locator(f"th[data-key={key}]")
    header.get_by_role("button").click()
    return header.get_attribute("aria-sort")


def expect_filter(page: "Page", rows: list[Row], condition: Callable[[Row], Any]) -> None:
    expected = {str(row["path"]) for row in rows if condition(row)}
    assert 0 < len(expected) < IMAGES and count(page) == len(expected)
    assert set(column(page, "path")) <= expected and len(column(page, "path")) == min(len(expected), 100)


def test_table_sorts_by_confidence_in_both_directions(page: "Page", run: tuple[Path, list[Row]]) -> None:
    expected = sorted((round(100 * row["confidence"], 1) for row in run[1]), reverse=True)
    assert sort(page, "confidence") == "descending"
    assert percentages(page, "confidence") == pytest.approx(expected[:100], abs=0.11)
    assert sort(page, "confidence") == "ascending"
    assert percentages(page, "confidence") == pytest.approx(expected[:-101:-1], abs=0.11)
    others = page.locator("th[aria-sort]:not([data-key=confidence])").evaluate_all(
        "headers => headers.map(header => header.ariaSort)"
    )
    assert set(others) == {"none"}


def test_missing_values_come_last_in_both_directions(page: "Page") -> None:
    for _ in range(2):
        sort(page, "spread")
        assert "\N{EN DASH}" not in column(page, "spread")


def test_headers_work_with_the_keyboard(page: "Page") -> None:
    page.locator("th[data-key=malignant] button").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("th[data-key=confidence]").get_attribute("aria-sort") == "descending"


def test_filters_select_rows_and_update_the_count(page: "Page", run: tuple[Path, list[Row]]) -> None:
    rows = run[1]
    assert count(page) == IMAGES
    page.select_option("[name=diagnosis]", "mel")
    expect_filter(page, rows, lambda row: row["diagnosis"] == "mel")
    page.select_option("[name=source]", "contour")
    expect_filter(page, rows, lambda row: row["diagnosis"] == "mel" and row["mask_source"] == "contour")
    page.get_by_role("button", name="Show all").click()
    page.locator("#count").filter(has_text=f"{IMAGES} of").wait_for()
    page.fill("[name=least]", "40")
    page.fill("[name=most]", "60.5")
    expect_filter(page, rows, lambda row: 0.4 <= row["confidence"] <= 0.605)
    page.check("[name=suspicious]")
    expect_filter(page, rows, lambda row: 0.4 <= row["confidence"] <= 0.605 and suspicious(row))
    page.fill("[name=text]", "PART 1/")
    expect_filter(page, rows, lambda row: 0.4 <= row["confidence"] <= 0.605 and suspicious(row) and "part 1/" in row["path"])
    page.fill("[name=text]", "no such path")
    assert count(page) == 0 and "No images match" in page.locator("#table tbody").inner_text()


def test_table_is_split_into_pages(page: "Page") -> None:
    seen = column(page, "path")
    for _ in range(2):
        page.get_by_role("button", name="Next").click()
        seen += column(page, "path")
    assert len(set(seen)) == IMAGES and page.get_by_role("button", name="Next").is_disabled()
    assert page.locator("#page").inner_text() == "page 3 of 3"


def loaded(page: "Page", pictures: str) -> list[int]:
    """Widths of pictures; 0 for one that did not load."""
    width = "image => image.decode().then(() => image.naturalWidth, () => 0)"
    widths: list[int] = page.locator(pictures).evaluate_all(f"images => Promise.all(images.map({width}))")
    return widths


def test_page_of_an_image_opens_and_going_back_keeps_the_filters(page: "Page") -> None:
    page.fill("[name=text]", "image_77.")
    sort(page, "confidence")
    assert loaded(page, "tbody img") == [80, 80]
    page.locator("tbody td.path a").click()
    page.wait_for_url("**/report/pages/**")
    assert page.locator("h1").count() == 1 and "part 1/image_77.jpg" in page.locator("header").inner_text()
    assert loaded(page, "figure img") == [80, 64, 80, 80]
    assert page.get_by_text("Not a medical device").is_visible()
    page.go_back()
    assert count(page) == 1 and page.locator("[name=text]").input_value() == "image_77."
    assert page.locator("th[data-key=confidence]").get_attribute("aria-sort") == "descending"


def test_name_with_special_characters_leads_to_its_page(page: "Page") -> None:
    page.fill("[name=text]", "odd #")
    (shown,) = column(page, "path")  # shortened in its middle
    name = display_path(Path(ODD_NAME))
    assert shown == f"{name[:13]}\N{HORIZONTAL ELLIPSIS}{name[-10:]}"
    assert page.locator("tbody td.path a").get_attribute("title") == name
    assert all(loaded(page, "tbody img"))
    page.locator("tbody td.path a").click()
    page.wait_for_url("**/report/pages/**")
    assert all(loaded(page, "figure img"))
    page.get_by_role("link", name="All images").click()
    assert count(page) == IMAGES


def test_pictures_out_of_sight_are_loaded_lazily(page: "Page") -> None:
    waiting = page.locator("tbody img").evaluate_all("images => images.filter(image => !image.complete).length")
    assert waiting > 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone(page: "Page", scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    for _ in range(2):
        widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert widths == [390, 390]
        disclaimer = page.get_by_text("Not a medical device").bounding_box()
        assert disclaimer and disclaimer["y"] + disclaimer["height"] <= 844.5
        page.goto(page.locator("tbody td.path a, nav a[rel=next]").first.evaluate("link => link.href"))


def test_table_starts_with_the_most_malignant(page: "Page", run: tuple[Path, list[Row]]) -> None:
    expected = sorted((round(100 * row["p_malignant"], 1) for row in run[1]), reverse=True)
    assert percentages(page, "malignant") == pytest.approx(expected[:100], abs=0.11)
    assert page.locator("th[data-key=malignant]").get_attribute("aria-sort") == "descending"
    assert "sort" not in page.url


def test_cell_of_the_confusion_matrix_filters_the_table(page: "Page", run: tuple[Path, list[Row]]) -> None:
    rows = run[1]
    truth = true_codes(rows)
    pairs = Counter((truth[row["path"]], row["diagnosis"]) for row in rows if row["path"] in truth)
    cells = page.locator(".matrix td button")
    assert sum(int(text) for text in cells.all_inner_texts()) == len(truth) and cells.count() == len(pairs)
    for true, predicted in [next(pair for pair in pairs if (pair[0] == pair[1]) is right) for right in (True, False)]:
        cell = page.locator(f".matrix td [data-truth={true}][data-diagnosis={predicted}]")
        assert int(cell.inner_text()) == pairs[true, predicted]
        page.check("[name=suspicious]")
        cell.focus()
        page.keyboard.press("Enter")
        expect_filter(page, rows, partial(is_pair, truth, (true, predicted)))
        assert cell.get_attribute("aria-pressed") == "true"
        assert page.locator("[name=truth]").input_value() == true
        assert not page.locator("[name=suspicious]").is_checked()
    cell.click()
    assert count(page) == IMAGES and cell.get_attribute("aria-pressed") == "false"
    page.locator(".matrix thead [data-diagnosis=bkl]").click()
    expect_filter(page, rows, lambda row: row["diagnosis"] == "bkl")
    page.locator(".matrix tbody th [data-truth=bcc]").click()
    expect_filter(page, rows, lambda row: truth.get(row["path"]) == "bcc")


def test_filters_show_wrong_malignant_and_missed_images(page: "Page", run: tuple[Path, list[Row]]) -> None:
    rows = run[1]
    truth = true_codes(rows)
    conditions: dict[str, Callable[[Row], bool]] = {
        "wrong": lambda row: row["path"] in truth and truth[row["path"]] != row["diagnosis"],
        "malignant": lambda row: truth.get(row["path"]) in MALIGNANT_CODES,
        "missed": lambda row: missed(row, truth),
    }
    for name, condition in conditions.items():
        tile, box = page.locator(f"[data-filter={name}]"), page.locator(f"input[name={name}]")
        assert int(tile.locator(".value").inner_text()) == sum(map(condition, rows))
        tile.click()
        expect_filter(page, rows, condition)
        assert box.is_checked() and tile.get_attribute("aria-pressed") == "true"
        box.uncheck()
        assert count(page) == IMAGES and tile.get_attribute("aria-pressed") == "false"
    page.check("[name=missed]")
    assert {text.partition(":")[0] for text in column(page, "truth")} == {"\N{BALLOT X} wrong"}
    page.reload()
    expect_filter(page, rows, conditions["missed"])


def test_truth_sorts_missed_images_first_and_unknown_ones_last(page: "Page", run: tuple[Path, list[Row]]) -> None:
    truth = true_codes(run[1])
    assert sort(page, "truth") == "descending"
    number = sum(missed(row, truth) for row in run[1])
    shown = column(page, "truth")
    assert 0 < number < 100 and all("missed" in text for text in shown[:number]) and "missed" not in shown[number]
    assert sort(page, "dice") == "ascending"


def test_true_outline_lies_over_the_photograph_and_can_be_hidden(page: "Page") -> None:
    page.goto(page.locator("tbody td.path a").first.evaluate("link => link.href"))
    image, outline = (page.locator(f"figure.image {kind}") for kind in ("img", "svg"))
    assert image.bounding_box() == outline.bounding_box()
    box = page.locator("figure.image input")
    assert outline.is_visible()
    box.uncheck()
    assert not outline.is_visible()


@pytest.mark.parametrize("width", [360, 1280])
def test_names_are_not_broken_within_a_word(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.fill("[name=text]", "image_")
    lines = page.locator("tbody td.path .nowrap").evaluate_all("parts => parts.map((part) => part.getClientRects().length)")
    assert len(lines) == 200 and set(lines) == {1}
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_parts_of_the_report_have_names(page: "Page") -> None:
    names = page.locator("button, svg[role=img], table, select, input").evaluate_all(
        """parts => parts.map((part) =>
            part.ariaLabel || part.innerText || part.labels?.[0]?.innerText || part.getAttribute("aria-labelledby") || "")"""
    )
    assert all(name.strip() for name in names)
    assert page.locator(".matrix td button").first.get_attribute("aria-label").startswith("True ")
    assert "expected calibration error" in (page.locator(".plot svg").last.get_attribute("aria-label") or "")
