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
    listed,
    open_finding,
    open_settings,
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


def switch(page: "Page", name: str) -> None:
    page.locator(".st-key-settings").get_by_text(name, exact=True).click()


def slide(page: "Page", name: str, value: int) -> "Locator":
    """Set a slider by keys, and return it."""
    slider = page.get_by_role("slider", name=name)
    slider.focus()
    step = int(slider.get_attribute("step") or 1)
    count = (value - int(slider.input_value())) // step
    for _ in range(abs(count)):
        slider.press("ArrowRight" if count > 0 else "ArrowLeft")
    expect(slider).to_have_value(str(value))
    return slider


def style(page: "Page", selector: str, name: str) -> str:
    return str(page.locator(selector).evaluate("(one, name) => getComputedStyle(one).getPropertyValue(name)", name))


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


def test_slider_changes_the_opacity_of_the_heatmap(page: "Page") -> None:
    upload(page, MELANOMA)
    predictions(page)
    assert style(page, ".fade .above", "opacity") == "0.45"
    slide(page, "Heatmap opacity", 80)
    assert style(page, ".fade .above", "opacity") == "0.8"
    expect(page.locator(".fade output")).to_have_text("80 %")
    assert style(page, ".wipe .above", "clip-path") == "inset(0px 0% 0px 0px)"
    assert horizontal_overflow(page) == 0


def test_slider_uncovers_the_photograph_below_the_outline(page: "Page") -> None:
    upload(page, MELANOMA)
    predictions(page)
    stage = page.locator(".wipe .stage")
    outlined = stage.screenshot()
    slide(page, "Outline over the photograph", 0)
    photograph = stage.screenshot()
    slide(page, "Outline over the photograph", 50)
    half = stage.screenshot()
    assert len({outlined, photograph, half}) == 3
    assert style(page, ".wipe .above", "clip-path") == "inset(0px 50% 0px 0px)"


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


def test_list_of_several_images_equals_the_table_of_the_command_line(
    page: "Page", generated: Path, broken: Path, tmp_path: Path
) -> None:
    expected = command_line_results(tmp_path / "out", folder=generated)
    upload(page, *(generated / f"{code}.png" for code in GENERATED), broken)
    names = listed(page)
    (error,) = errors(page, 1)
    assert error.startswith("broken.jpg: ")
    assert names == list(expected.sort_values("p_malignant", ascending=False)["path"]) and len(names) == len(GENERATED)
    found = pd.read_csv(io.BytesIO(download(page, "Table (CSV)")), keep_default_na=False).sort_values("path")
    pd.testing.assert_frame_equal(
        found.drop(columns="latency_ms").reset_index(drop=True), expected.drop(columns="latency_ms"), atol=TOLERANCE, rtol=0
    )
    assert list(found.columns) == list(expected.columns)
    for row in expected.to_dict("records"):
        open_finding(page, row["path"])
        expect(page.locator(".prediction")).to_contain_text([percent(row["confidence"])])
        assert json.loads(download(page, DATA))["finding"]["path"] == row["path"]
        page.get_by_role("button", name="All results").click()
        assert listed(page) == names


def test_finding_opens_at_its_top(visit: Visit) -> None:
    page = visit(viewport={"width": 1280, "height": 500})
    upload(page, *SAMPLES[:MAX_FILES])
    open_finding(page, listed(page)[-1])
    expect(page.get_by_role("button", name="All results")).to_be_in_viewport()
    assert page.get_by_test_id("stMain").evaluate("main => main.scrollTop") == 0


def test_spinner_turns_over_the_photograph_that_is_being_worked_on(page: "Page") -> None:
    upload(page, *SAMPLES[:MAX_FILES])
    working = page.get_by_role("status").filter(has=page.locator(".spinner"))
    expect(working).to_be_visible()
    expect(working).to_contain_text(re.compile(r"synthetic_\w+\.jpg \(\d of 6\)"))
    assert len(listed(page)) == MAX_FILES
    expect(working).to_have_count(0)


def test_two_visits_stand_side_by_side(page: "Page") -> None:
    upload(page, *SAMPLES[:2])
    names = listed(page)
    open_finding(page, names[0])
    choose(page, "Side by side with", names[1])
    expect(page.locator(".filename")).to_have_text(names)
    expect(page.locator(".change th[scope=row]").first).to_have_text("Probability of malignancy")
    left, right = (page.locator(".wipe").nth(number).bounding_box() for number in (0, 1))
    assert left is not None and right is not None and left["y"] == pytest.approx(right["y"], abs=150) and left["x"] < right["x"]
    assert horizontal_overflow(page) == 0


def test_page_is_in_german_for_german_browsers_and_by_choice(visit: Visit) -> None:
    page = visit(locale="de-AT")
    expect(page.get_by_text("Kein Medizinprodukt")).to_be_in_viewport(ratio=1)
    assert page.get_by_test_id("stFileUploaderDropzone").evaluate("one => getComputedStyle(one, '::before').content") == (
        '"Fotos hier ablegen"'
    )
    page.get_by_role("button", name="Melanom", exact=True).click()
    assert "Melanom (mel)" in predictions(page)[0]
    expect(page.get_by_text("Kein Medizinprodukt")).to_be_in_viewport(ratio=1)
    report = pypdfium2.PdfDocument(download(page, "Bericht (PDF)"))[0].get_textpage().get_text_bounded()
    assert "Kein Medizinprodukt" in report and "Melanom (mel)" in report
    found = page.locator(".filename").inner_text()
    choose(page, "Sprache", "English")
    expect(page.locator(".prediction")).to_contain_text(["melanoma (mel)"])
    expect(page.get_by_text(DISCLAIMER)).to_be_in_viewport(ratio=1)
    assert page.locator(".filename").inner_text() == found


def test_uploads_survive_a_change_of_the_language(page: "Page") -> None:
    upload(page, MELANOMA)
    predictions(page)
    choose(page, "Language", "Deutsch")
    expect(page.locator(".prediction")).to_contain_text(["Melanom (mel)"])
    expect(page.get_by_test_id("stFileChip")).to_have_count(1)


def test_only_the_first_of_too_many_images_are_analyzed(page: "Page") -> None:
    upload(page, *SAMPLES)
    names = listed(page)
    (error,) = errors(page, 1)
    assert len(SAMPLES) == MAX_FILES + 1 and f"{MAX_FILES} photographs" in error and f"got {len(SAMPLES)}" in error
    assert sorted(names) == [path.name for path in SAMPLES[:MAX_FILES]]


def test_copy_of_a_model_gives_the_same_results(page: "Page", generated: Path) -> None:
    upload(page, generated / "mel.png", generated / "nv.png")
    names = listed(page)
    open_settings(page)
    choose(page, "Compare with", COPY)
    expect(page.locator(".row .model")).to_have_count(4)
    original, copied = (download(page, f"Table of {label} (CSV)") for label in ("shipped", COPY))
    frames = [pd.read_csv(io.BytesIO(content)).drop(columns="latency_ms") for content in (original, copied)]
    pd.testing.assert_frame_equal(*frames, atol=TOLERANCE, rtol=0)
    open_finding(page, names[0])
    expect(page.locator(".prediction")).to_have_count(2)
    left, right = (page.locator(".probabilities").nth(number).inner_text() for number in (0, 1))
    assert left == right and "%" in left and len(set(predictions(page))) == 1
    for title in ("shipped", COPY):
        expect(page.get_by_role("heading", level=2, name=title, exact=True)).to_be_visible()


def test_toggles_switch_heatmap_and_views_off(page: "Page") -> None:
    upload(page, MELANOMA)
    predictions(page)
    expect(page.get_by_text("Spread over the views")).to_be_visible()
    expect(page.get_by_role("slider")).to_have_count(2)
    open_settings(page)
    switch(page, "Heatmap")
    expect(page.get_by_role("slider")).to_have_count(1)
    expect(page.get_by_role("img", name=re.compile("^Heatmap"))).to_have_count(0)
    switch(page, "Test-time augmentation")
    expect(page.get_by_text("Spread over the views")).to_have_count(0)
    expect(page.get_by_role("img", name=re.compile("^Image:"))).to_be_visible()
    data = json.loads(download(page, DATA))
    assert data["views"] == 1 and data["finding"]["tta_spread"] is None and data["finding"]["heatmap_in_lesion"] is None


def test_camera_picture_is_analyzed(page: "Page") -> None:
    page.get_by_role("button", name="Take a picture").click()
    page.wait_for_function("() => document.querySelector('video')?.readyState === 4")
    page.get_by_role("button", name="Take Photo").click()
    assert "confidence" in predictions(page)[0]
    assert json.loads(download(page, DATA))["finding"]["path"] == "camera.jpg"


def test_samples_are_one_click_away(page: "Page") -> None:
    for code, name in (("nv", "Melanocytic nevus"), ("mel", "Melanoma")):
        page.get_by_role("button", name=name, exact=True).click()
        assert name_with_code(code) in predictions(page)[0]
        expect(page.locator(".filename")).to_have_text(f"synthetic_{code}.jpg")
        assert json.loads(download(page, DATA))["finding"]["path"] == f"synthetic_{code}.jpg"
        page.get_by_role("button", name="Start again").click()
    expect(page.locator(".sample")).to_have_count(3)


def test_drop_zone_fills_the_first_screen(visit: Visit) -> None:
    page = visit(viewport={"width": 1280, "height": 900})
    zone = page.get_by_test_id("stFileUploaderDropzone").bounding_box()
    assert zone is not None and zone["width"] > 0.8 * 1280 and zone["height"] > 0.3 * 900
    for number in range(3):
        expect(page.locator(".sample").nth(number)).to_be_in_viewport(ratio=1)
    words = page.get_by_test_id("stMain").inner_text().lower()
    assert not [
        word for word in ("u-net", "grad-cam", "classifier", "segmenter", "csv", "bundle", "tta", "augmentation") if word in words
    ]
    expect(page.get_by_test_id("stFileUploaderDropzone").get_by_role("button", name="Upload").last).to_be_visible()


def test_performance_page_shows_plots_first_and_the_model_card(visit: Visit) -> None:
    page = visit("performance", viewport={"width": 1280, "height": 900})
    plots = page.get_by_test_id("stImage").locator("img")
    expect(plots).to_have_count(4)
    for number in range(4):
        expect(plots.nth(number)).to_be_in_viewport(ratio=1)
        assert plots.nth(number).evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    expect(page.locator(".tiles")).to_be_in_viewport(ratio=1)
    tiles = page.locator(".tiles").inner_text()
    for text in (
        "Melanoma (mel): flagged where present",
        "94.8 %",
        "Balanced accuracy",
        "Macro AUROC",
        "Mean Dice of the outlines",
    ):
        assert text in tiles
    page.get_by_text("All numbers: the model card").click()
    for text in ("balanced accuracy", "localizer: mean Dice", "segmenter alone", "of ham10000, part test (test set "):
        expect(page.get_by_test_id("stMain")).to_contain_text(text)


def test_model_without_test_metrics_says_so(visit: Visit) -> None:
    page = visit("performance")
    expect(page.locator(".tiles")).to_be_visible()
    open_settings(page)
    choose(page, "Classifier", UNTESTED)
    expect(page.get_by_test_id("stMain")).to_contain_text("no test metrics")
    expect(page.locator(".tiles")).to_have_count(0)


def test_uploads_survive_visits_of_other_pages(page: "Page") -> None:
    upload(page, MELANOMA)
    found = predictions(page)
    page.get_by_role("link", name="Guide").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Guide")
    assert page.locator(".prediction").count() == 0 and not page.get_by_test_id("stFileChip").is_visible()
    page.get_by_role("link", name="Analyze").click()
    expect(page.get_by_test_id("stFileChip")).to_be_visible()
    assert predictions(page) == found


def test_images_of_one_name_are_numbered(page: "Page", generated: Path) -> None:
    contents = [(generated / f"{code}.png").read_bytes() for code in ("mel", "nv")]
    upload(page, *({"name": "image.png", "mimeType": "image/png", "buffer": content} for content in contents))
    listed(page)
    hashes = []
    for name in ("image.png", "image.png (2)"):
        open_finding(page, name)
        hashes.append(json.loads(download(page, DATA))["finding"]["sha256"])
        page.get_by_role("button", name="All results").click()
    assert hashes == [hashlib.sha256(content).hexdigest() for content in contents]


def test_guide_has_a_section_for_each_output(visit: Visit) -> None:
    page = visit("guide")
    expect(page.get_by_role("heading", level=1)).to_have_text("Guide")
    for title in ("Image", "Crop", "Diagnosis and probabilities", "How far to trust this", "Two visits", "Heatmap", "Privacy"):
        expect(page.get_by_role("heading", level=2, name=title, exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "performance", "guide"])
def test_pages_fit_a_phone_and_keep_the_disclaimer(visit: Visit, path: str, scheme: Any) -> None:
    page = visit(path, color_scheme=scheme, **PHONE)
    page.get_by_role("heading", level=1).wait_for()
    if not path:
        upload(page, MELANOMA)
        predictions(page)
    disclaimer = page.get_by_text(DISCLAIMER)
    expect(disclaimer).to_have_count(1)
    for _ in range(2):
        expect(disclaimer).to_be_in_viewport(ratio=1)
        assert horizontal_overflow(page) == 0
        page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, main.scrollHeight)")
        assert covered(page) < 0.5
    assert page.get_by_test_id("stBottom").get_by_role("button").count() == 0


def covered(page: "Page") -> float:
    """Fraction of the window that lies under something fixed, at most."""
    return float(
        page.evaluate(
            """() => Math.max(0, ...[...document.querySelectorAll("*")]
                .filter((one) => ["fixed", "sticky"].includes(getComputedStyle(one).position)
                    && getComputedStyle(one).visibility === "visible" && getComputedStyle(one).pointerEvents !== "none")
                .map((one) => one.getBoundingClientRect())
                .map((box) => (box.width * box.height) / (innerWidth * innerHeight)))"""
        )
    )


def test_settings_and_list_cover_nothing_on_a_phone(visit: Visit) -> None:
    page = visit(**PHONE)
    upload(page, *SAMPLES[:2])
    listed(page)
    open_settings(page)
    expect(page.locator(".st-key-settings").get_by_text("Heatmap", exact=True)).to_be_visible()
    assert covered(page) < 0.5 and horizontal_overflow(page) == 0
    assert page.get_by_test_id("stSidebar").count() == 0


def test_controls_have_names_and_are_reached_by_keyboard(page: "Page") -> None:
    upload(page, MELANOMA)
    predictions(page)
    expect(page.get_by_role("img")).to_have_count(4)  # those below have no name of their own
    open_settings(page)
    controls = re.findall(
        r"^ *- '?((?:button|slider|switch|combobox|radio|textbox|checkbox|link|img)\b.*)$",
        page.locator("body").aria_snapshot(),
        re.MULTILINE,
    )
    assert len(controls) > 20 and [control for control in controls if not re.match(r'\w+ "[^"]', control)] == []
    assert all(page.locator("img").evaluate_all("images => images.map(image => image.hasAttribute('alt'))"))
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText")
        reached.add(name.strip().splitlines()[-1])  # the name of an icon is a line above the label
    assert {
        "Add files",
        f"Remove {MELANOMA.name}",
        "Heatmap opacity",
        "Outline over the photograph",
        REPORT,
        FIGURE,
        DATA,
    } <= reached, reached
