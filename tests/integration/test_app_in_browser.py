"""Web page in a browser with the shipped models: results equal those of the command line."""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pypdfium2
import pytest
from app_server import (
    DATA,
    FIGURE,
    REPORT,
    SAMPLES,
    Server,
    Visit,
    download,
    errors,
    horizontal_overflow,
    picture,
    predictions,
    serve,
    upload,
    wait_until_drawn,
)
from conftest import call, results
from PIL import Image

from segpipe.bundle.card_file import SHIPPED
from segpipe.data.synthetic.photo import make_image
from segpipe.report.wording import DISCLAIMER, name_with_code, percent

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]").expect

MELANOMA = next(path for path in SAMPLES if path.stem == "synthetic_mel")
GENERATED = ("mel", "nv", "bcc", "vasc")
MAX_FILES = 6
# Labels: folder and network.
COPY, UNTESTED = "copy/bundle (efficientnet_b0)", "untested (efficientnet_b0)"
TOLERANCE = 1e-4
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the shipped models, a copy of the classifier, and one without test metrics."""
    folder = tmp_path_factory.mktemp("bundles")
    shutil.copytree(SHIPPED / "classifier", folder / "copy" / "bundle")
    shutil.copytree(SHIPPED / "classifier", folder / "untested")
    card = json.loads((folder / "untested" / "card.json").read_text(encoding="utf-8"))
    (folder / "untested" / "card.json").write_text(json.dumps(card | {"metrics": {}}), encoding="utf-8")
    with serve(f"bundles={folder}", f"max_files={MAX_FILES}") as server:
        yield server


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with four generated images of several sizes."""
    folder, rng = tmp_path_factory.mktemp("generated"), np.random.default_rng(3)
    for number, code in enumerate(GENERATED):
        Image.fromarray(make_image(code, rng, (150 + 40 * number, 260))[0]).save(folder / f"{code}.png")
    return folder


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Truncated image file."""
    path = tmp_path / "broken.jpg"
    path.write_bytes(MELANOMA.read_bytes()[:20_000])
    return path


def command_line_results(output: Path, **images: Path) -> pd.DataFrame:
    """Results of the command line for the same images with default settings."""
    ended = call("run_pipeline", **images, output=output, figures=False)
    assert ended.status == 0, ended.err
    return results(output)


def table(page: "Page") -> "Locator":
    """Table of all results: the accessible grid inside the canvas."""
    return page.locator("canvas [role=grid]")


def switch(page: "Page", name: str) -> None:
    page.get_by_test_id("stSidebar").get_by_text(name, exact=True).click()


def choose(page: "Page", box: str, option: str) -> None:
    wait_until_drawn(page)
    page.get_by_role("combobox", name=box).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_result_of_an_image_equals_that_of_the_command_line(page: "Page", tmp_path: Path) -> None:
    expected = command_line_results(tmp_path / "out", image=MELANOMA).iloc[0].to_dict()
    upload(page, MELANOMA)
    (prediction,) = predictions(page)
    found = json.loads(download(page, DATA))["finding"]
    assert found.keys() == expected.keys() and found["path"] == MELANOMA.name and found["mask_source"] == "unet"
    assert len([name for name in found if name.startswith("p_")]) == 8
    for name, value in expected.items():
        if isinstance(found[name], float) and name != "latency_ms":
            assert found[name] == pytest.approx(float(value), abs=TOLERANCE), name
        elif name not in {"latency_ms", "path"}:
            assert ("" if found[name] is None else str(found[name]).lower()) == str(value).lower(), name
    assert page.get_by_text(f"How far to trust this: {expected['trust']}").is_visible()
    assert f"{name_with_code(expected['diagnosis'])} {percent(expected['confidence'])} confidence" in prediction


def test_slider_changes_only_the_heatmap(page: "Page") -> None:
    upload(page, MELANOMA)
    predictions(page)
    before, image = picture(page, "Heatmap"), picture(page, "Image")
    slider = page.get_by_role("slider", name="Heatmap opacity")
    slider.focus()
    for _ in range(8):
        slider.press("ArrowLeft")
    expect(slider).to_have_value("40")
    page.wait_for_function("before => ![...document.images].some(one => one.src === before)", arg=before)
    wait_until_drawn(page)
    faint, strong = (page.request.get(url).body() for url in (picture(page, "Heatmap"), before))
    assert faint != strong and picture(page, "Image") == image
    assert horizontal_overflow(page) == 0


def test_report_is_a_pdf_page_and_figure_a_png(page: "Page") -> None:
    upload(page, MELANOMA)
    predictions(page)
    report = pypdfium2.PdfDocument(download(page, REPORT))
    assert len(report) == 1
    text = report[0].get_textpage().get_text_bounded()
    assert name_with_code("mel") in text and MELANOMA.name in text and DISCLAIMER in text
    figure = Image.open(io.BytesIO(download(page, FIGURE)))
    figure.load()
    assert figure.format == "PNG" and min(figure.size) > 300


def test_table_of_several_images_equals_that_of_the_command_line(
    page: "Page", generated: Path, broken: Path, tmp_path: Path
) -> None:
    expected = command_line_results(tmp_path / "out", folder=generated)
    upload(page, *(generated / f"{code}.png" for code in GENERATED), broken)
    predictions(page)
    (error,) = errors(page, 1)
    assert error.startswith("broken.jpg: ")
    expect(table(page)).to_have_attribute("aria-rowcount", str(1 + len(GENERATED)))
    found = pd.read_csv(io.BytesIO(download(page, "Table (CSV)")), keep_default_na=False)
    pd.testing.assert_frame_equal(found.drop(columns="latency_ms"), expected.drop(columns="latency_ms"), atol=TOLERANCE, rtol=0)
    assert list(found.columns) == list(expected.columns) and len(found) == len(GENERATED)
    for row in expected.to_dict("records"):
        choose(page, "Image", row["path"])
        expect(page.locator(".prediction")).to_contain_text([percent(row["confidence"])])
        assert json.loads(download(page, DATA))["finding"]["path"] == row["path"]


def test_only_the_first_of_too_many_images_are_analyzed(page: "Page") -> None:
    upload(page, *SAMPLES)
    predictions(page)
    (error,) = errors(page, 1)
    assert len(SAMPLES) == MAX_FILES + 1 and f"{MAX_FILES} images" in error and f"got {len(SAMPLES)}" in error
    expect(table(page)).to_have_attribute("aria-rowcount", str(1 + MAX_FILES))
    page.get_by_role("combobox", name="Image").click()
    expect(page.get_by_role("option")).to_have_text([path.name for path in SAMPLES[:MAX_FILES]])


def test_copy_of_a_model_gives_the_same_results(page: "Page", generated: Path) -> None:
    upload(page, generated / "mel.png", generated / "nv.png")
    predictions(page)
    choose(page, "Compare with", COPY)
    expect(page.locator(".prediction")).to_have_count(2)
    left, right = (page.locator(".probabilities").nth(number).inner_text() for number in (0, 1))
    assert left == right and "%" in left and len(set(predictions(page))) == 1
    for title in ("shipped", COPY):
        expect(page.get_by_role("heading", level=2, name=title, exact=True)).to_be_visible()
    # Of a wide table only the visible columns exist.
    expect(table(page)).to_have_attribute("aria-colcount", str(1 + 2 * 7))
    original, copied = (download(page, f"Table of {label} (CSV)") for label in ("shipped", COPY))
    frames = [pd.read_csv(io.BytesIO(content)).drop(columns="latency_ms") for content in (original, copied)]
    pd.testing.assert_frame_equal(*frames, atol=TOLERANCE, rtol=0)


def test_toggles_switch_heatmap_and_views_off(page: "Page") -> None:
    upload(page, MELANOMA)
    predictions(page)
    expect(page.get_by_text("Spread over the views")).to_be_visible()
    expect(page.get_by_role("slider")).to_be_visible()
    switch(page, "Heatmap")
    expect(page.get_by_role("slider")).to_have_count(0)
    expect(page.get_by_role("img", name=re.compile("^Heatmap"))).to_have_count(0)
    switch(page, "Test-time augmentation")
    expect(page.get_by_text("Spread over the views")).to_have_count(0)
    expect(page.get_by_role("img", name=re.compile("^Image:"))).to_be_visible()
    data = json.loads(download(page, DATA))
    assert data["views"] == 1 and data["finding"]["tta_spread"] is None and data["finding"]["heatmap_in_lesion"] is None


def test_camera_picture_is_analyzed(page: "Page") -> None:
    page.get_by_role("radio", name="Camera").click()
    page.wait_for_function("() => document.querySelector('video')?.readyState === 4")
    page.get_by_role("button", name="Take Photo").click()
    assert "confidence" in predictions(page)[0]
    assert json.loads(download(page, DATA))["finding"]["path"] == "camera.jpg"


def test_sample_is_analyzed_after_one_click(page: "Page") -> None:
    page.get_by_role("radio", name="Samples").click()
    for code in ("nv", "mel"):
        page.get_by_role("button", name=name_with_code(code), exact=True).click()
        expect(page.locator(".prediction")).to_contain_text([name_with_code(code)])
    assert json.loads(download(page, DATA))["finding"]["path"] == MELANOMA.name


def test_performance_page_shows_model_card_and_plots(visit: Visit) -> None:
    page = visit("performance")
    for text in ("balanced accuracy", "localizer: mean Dice", "segmenter alone", "of ham10000, part test (test set "):
        expect(page.get_by_test_id("stMain")).to_contain_text(text)
    plots = page.get_by_test_id("stMain").get_by_role("tab")
    for number in range(plots.count()):
        plots.nth(number).click()
        plot = page.get_by_role("img", name=f"{plots.nth(number).inner_text()}:")
        expect(plot).to_be_visible()
        assert plot.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    assert plots.count() == 4


def test_model_without_test_metrics_says_so(visit: Visit) -> None:
    page = visit("performance")
    expect(page.get_by_test_id("stMain")).to_contain_text("balanced accuracy")
    choose(page, "Classifier", UNTESTED)
    expect(page.get_by_test_id("stMain")).to_contain_text("no test metrics")
    expect(page.get_by_test_id("stMain")).not_to_contain_text("balanced accuracy")


def test_uploads_survive_visits_of_other_pages_and_sources(page: "Page") -> None:
    upload(page, MELANOMA)
    found = predictions(page)
    page.get_by_role("link", name="Guide").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Guide")
    assert page.locator(".prediction").count() == 0 and not page.get_by_test_id("stFileChip").is_visible()
    page.get_by_role("link", name="Analyze").click()
    expect(page.get_by_test_id("stFileChip")).to_be_visible()
    assert predictions(page) == found
    page.get_by_role("radio", name="Camera").click()
    expect(page.locator(".prediction")).to_have_count(0)
    page.get_by_role("radio", name="Files").click()
    assert predictions(page) == found


def test_images_of_one_name_are_numbered(page: "Page", generated: Path) -> None:
    contents = [(generated / f"{code}.png").read_bytes() for code in ("mel", "nv")]
    upload(page, *({"name": "image.png", "mimeType": "image/png", "buffer": content} for content in contents))
    hashes = []
    for name in ("image.png", "image.png (2)"):
        predictions(page)
        choose(page, "Image", name)
        expect(page.get_by_role("combobox", name="Image")).to_have_value(name)
        predictions(page)
        hashes.append(json.loads(download(page, DATA))["finding"]["sha256"])
    assert hashes == [hashlib.sha256(content).hexdigest() for content in contents]


def test_guide_has_a_section_for_each_output(visit: Visit) -> None:
    page = visit("guide")
    expect(page.get_by_role("heading", level=1)).to_have_text("Guide")
    for title in ("Image", "Crop", "Diagnosis and probabilities", "How far to trust this", "Similar cases", "Heatmap", "Privacy"):
        expect(page.get_by_role("heading", level=2, name=title, exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "performance", "guide"])
def test_pages_fit_a_phone_and_keep_the_disclaimer(visit: Visit, path: str, scheme: Any) -> None:
    page = visit(path, color_scheme=scheme, **PHONE)
    if not path:
        upload(page, MELANOMA)
        predictions(page)
    page.get_by_role("heading", level=1).wait_for()
    disclaimer = page.get_by_text(DISCLAIMER)
    expect(disclaimer).to_have_count(1)
    for _ in range(2):
        expect(disclaimer).to_be_in_viewport(ratio=1)
        assert horizontal_overflow(page) == 0
        page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, main.scrollHeight)")
    assert page.get_by_test_id("stBottom").get_by_role("button").count() == 0


def test_controls_have_names_and_are_reached_by_keyboard(page: "Page") -> None:
    upload(page, MELANOMA)
    predictions(page)
    expect(page.get_by_role("img")).to_have_count(4)
    controls = re.findall(
        r"^ *- '?((?:button|slider|switch|combobox|radio|textbox|checkbox|link|img)\b.*)$",
        page.locator("body").aria_snapshot(),
        re.MULTILINE,
    )
    assert len(controls) > 20 and [control for control in controls if not re.match(r'\w+ "[^"]', control)] == []
    assert all(page.locator("img").evaluate_all("images => images.map(image => image.alt.trim())"))
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("(document.activeElement.ariaLabel || document.activeElement.innerText).trim()"))
    assert {"Add files", f"Remove {MELANOMA.name}", "Heatmap opacity", REPORT, FIGURE, DATA} <= reached, reached
