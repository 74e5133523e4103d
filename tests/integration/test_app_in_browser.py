"""The web page in a real browser, with the shipped models: what a visitor gets is what the command line says."""

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
    answers,
    at_rest,
    download,
    errors,
    picture,
    serve,
    sideways,
    upload,
)
from conftest import call, results
from PIL import Image

from segpipe.bundle.folder import SHIPPED
from segpipe.data.synthetic.dataset import make_image
from segpipe.report.wording import DISCLAIMER, name_with_code, percent

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]").expect

MELANOMA = next(path for path in SAMPLES if path.stem == "synthetic_mel")
DRAWN = ("mel", "nv", "bcc", "vasc")
MAX_FILES = 6
# By folder and network.
COPY, UNTESTED = "copy/bundle (efficientnet_b0)", "untested (efficientnet_b0)"
NUMBERS = 1e-4
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shipped models, a copy of the classifier to compare it with, and one of which no figures are known."""
    folder = tmp_path_factory.mktemp("bundles")
    shutil.copytree(SHIPPED / "classifier", folder / "copy" / "bundle")
    shutil.copytree(SHIPPED / "classifier", folder / "untested")
    card = json.loads((folder / "untested" / "card.json").read_text(encoding="utf-8"))
    (folder / "untested" / "card.json").write_text(json.dumps(card | {"metrics": {}}), encoding="utf-8")
    with serve(f"bundles={folder}", f"max_files={MAX_FILES}") as server:
        yield server


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four drawn photographs of several sizes."""
    folder, rng = tmp_path_factory.mktemp("drawn"), np.random.default_rng(3)
    for number, code in enumerate(DRAWN):
        Image.fromarray(make_image(code, rng, (150 + 40 * number, 260))[0]).save(folder / f"{code}.png")
    return folder


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """The first half of a photograph."""
    path = tmp_path / "broken.jpg"
    path.write_bytes(MELANOMA.read_bytes()[:20_000])
    return path


def of_command_line(output: Path, **images: Path) -> pd.DataFrame:
    """What the command line says of the same photographs, called with nothing but them."""
    ended = call("run_pipeline", **images, output=output, figures=False)
    assert ended.status == 0, ended.err
    return results(output)


def table(page: "Page") -> "Locator":
    """The table of all findings; it is painted, so this is the one inside the canvas, for screen readers."""
    return page.locator("canvas [role=grid]")


def switch(page: "Page", name: str) -> None:
    page.get_by_test_id("stSidebar").get_by_text(name, exact=True).click()


def choose(page: "Page", box: str, option: str) -> None:
    at_rest(page)
    page.get_by_role("combobox", name=box).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_page_and_command_line_say_the_same_of_a_photograph(page: "Page", tmp_path: Path) -> None:
    expected = of_command_line(tmp_path / "out", image=MELANOMA).iloc[0].to_dict()
    upload(page, MELANOMA)
    (answer,) = answers(page)
    found = json.loads(download(page, DATA))["finding"]
    assert found.keys() == expected.keys() and found["path"] == MELANOMA.name and found["mask_source"] == "unet"
    assert len([name for name in found if name.startswith("p_")]) == 8
    for name, value in expected.items():
        if isinstance(found[name], float) and name != "latency_ms":
            assert found[name] == pytest.approx(float(value), abs=NUMBERS), name
        elif name not in {"latency_ms", "path"}:
            assert str(found[name]).lower() == str(value).lower(), name
    assert f"{name_with_code(expected['diagnosis'])} {percent(expected['confidence'])} confidence" in answer


def test_the_slider_changes_the_heatmap_and_nothing_else(page: "Page") -> None:
    upload(page, MELANOMA)
    answers(page)
    before, photograph = picture(page, "Heatmap"), picture(page, "Photograph")
    slider = page.get_by_role("slider", name="Opacity")
    slider.focus()
    for _ in range(8):
        slider.press("ArrowLeft")
    expect(slider).to_have_value("40")
    page.wait_for_function("before => ![...document.images].some(one => one.src === before)", arg=before)
    at_rest(page)
    faint, strong = (page.request.get(address).body() for address in (picture(page, "Heatmap"), before))
    assert faint != strong and picture(page, "Photograph") == photograph
    assert sideways(page) == 0


def test_report_and_figure_are_what_they_say(page: "Page") -> None:
    upload(page, MELANOMA)
    answers(page)
    report = pypdfium2.PdfDocument(download(page, REPORT))
    assert len(report) == 1
    text = report[0].get_textpage().get_text_bounded()
    assert name_with_code("mel") in text and MELANOMA.name in text and DISCLAIMER in text
    figure = Image.open(io.BytesIO(download(page, FIGURE)))
    figure.load()
    assert figure.format == "PNG" and min(figure.size) > 300


def test_a_batch_is_a_table_that_equals_the_command_lines(page: "Page", drawn: Path, broken: Path, tmp_path: Path) -> None:
    expected = of_command_line(tmp_path / "out", folder=drawn)
    upload(page, *(drawn / f"{code}.png" for code in DRAWN), broken)
    answers(page)
    (error,) = errors(page, 1)
    assert error.startswith("broken.jpg: ")
    expect(table(page)).to_have_attribute("aria-rowcount", str(1 + len(DRAWN)))
    found = pd.read_csv(io.BytesIO(download(page, "Table (CSV)")), keep_default_na=False)
    pd.testing.assert_frame_equal(found.drop(columns="latency_ms"), expected.drop(columns="latency_ms"), atol=NUMBERS, rtol=0)
    assert list(found.columns) == list(expected.columns) and len(found) == len(DRAWN)
    for row in expected.to_dict("records"):
        choose(page, "Photograph", row["path"])
        expect(page.locator(".answer")).to_contain_text([percent(row["confidence"])])
        assert json.loads(download(page, DATA))["finding"]["path"] == row["path"]


def test_of_too_many_photographs_the_first_are_taken(page: "Page") -> None:
    upload(page, *SAMPLES)
    answers(page)
    (error,) = errors(page, 1)
    assert len(SAMPLES) == MAX_FILES + 1 and f"{len(SAMPLES)} files are more than the {MAX_FILES}" in error
    expect(table(page)).to_have_attribute("aria-rowcount", str(1 + MAX_FILES))
    page.get_by_role("combobox", name="Photograph").click()
    expect(page.get_by_role("option")).to_have_text([path.name for path in SAMPLES[:MAX_FILES]])


def test_a_copy_of_a_model_finds_the_same(page: "Page", drawn: Path) -> None:
    upload(page, drawn / "mel.png", drawn / "nv.png")
    answers(page)
    choose(page, "Compare with", COPY)
    expect(page.locator(".answer")).to_have_count(2)
    left, right = (page.locator(".probabilities").nth(number).inner_text() for number in (0, 1))
    assert left == right and "%" in left and len(set(answers(page))) == 1
    assert {"shipped", COPY} <= set(page.get_by_role("heading", level=2).all_inner_texts())
    # Of a wide table only the columns in view are there.
    expect(table(page)).to_have_attribute("aria-colcount", str(1 + 2 * 6))
    ours, copied = (download(page, f"Table of {label} (CSV)") for label in ("shipped", COPY))
    frames = [pd.read_csv(io.BytesIO(content)).drop(columns="latency_ms") for content in (ours, copied)]
    pd.testing.assert_frame_equal(*frames, atol=NUMBERS, rtol=0)


def test_switches_switch_heatmap_and_views_off(page: "Page") -> None:
    upload(page, MELANOMA)
    answers(page)
    expect(page.get_by_text("Agreement of the views")).to_be_visible()
    expect(page.get_by_role("slider")).to_be_visible()
    switch(page, "Heatmap")
    expect(page.get_by_role("slider")).to_have_count(0)
    expect(page.get_by_role("img", name=re.compile("^Heatmap:"))).to_have_count(0)
    switch(page, "Average over views")
    expect(page.get_by_text("Agreement of the views")).to_have_count(0)
    expect(page.get_by_role("img", name=re.compile("^Photograph:"))).to_be_visible()
    data = json.loads(download(page, DATA))
    assert data["views"] == 1 and data["finding"]["tta_spread"] is None and data["finding"]["heatmap_in_lesion"] is None


def test_the_camera_takes_a_photograph(page: "Page") -> None:
    page.get_by_role("radio", name="Camera").click()
    page.wait_for_function("() => document.querySelector('video')?.readyState === 4")
    page.get_by_role("button", name="Take Photo").click()
    assert "confidence" in answers(page)[0]
    assert json.loads(download(page, DATA))["finding"]["path"] == "camera.jpg"


def test_a_sample_is_one_click_away(page: "Page") -> None:
    page.get_by_role("radio", name="Samples").click()
    for code in ("nv", "mel"):
        page.get_by_role("button", name=name_with_code(code), exact=True).click()
        expect(page.locator(".answer")).to_contain_text([name_with_code(code)])
    assert json.loads(download(page, DATA))["finding"]["path"] == MELANOMA.name


def test_how_good_it_is_stands_on_a_page_with_plots(visit: Visit) -> None:
    page = visit("quality")
    for text in ("balanced accuracy", "localizer: mean Dice", "segmenter alone", "of ham10000, part test (test set "):
        expect(page.get_by_test_id("stMain")).to_contain_text(text)
    plots = page.get_by_test_id("stMain").get_by_role("tab")
    for number in range(plots.count()):
        plots.nth(number).click()
        plot = page.get_by_role("img", name=f"{plots.nth(number).inner_text()}:")
        expect(plot).to_be_visible()
        assert plot.evaluate("one => one.decode().then(() => one.naturalWidth)") > 300
    assert plots.count() == 4


def test_a_model_without_figures_is_said_to_have_none(visit: Visit) -> None:
    page = visit("quality")
    expect(page.get_by_test_id("stMain")).to_contain_text("balanced accuracy")
    choose(page, "Classifier", UNTESTED)
    expect(page.get_by_test_id("stMain")).to_contain_text("how good it is is not known")
    expect(page.get_by_test_id("stMain")).not_to_contain_text("balanced accuracy")


def test_photographs_outlast_a_look_at_another_page_or_way(page: "Page") -> None:
    upload(page, MELANOMA)
    found = answers(page)
    page.get_by_role("link", name="What it shows").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What it shows")
    assert page.locator(".answer").count() == 0 and not page.get_by_test_id("stFileChip").is_visible()
    page.get_by_role("link", name="Find and name").click()
    expect(page.get_by_test_id("stFileChip")).to_be_visible()
    assert answers(page) == found
    page.get_by_role("radio", name="Camera").click()
    expect(page.locator(".answer")).to_have_count(0)
    page.get_by_role("radio", name="Files").click()
    assert answers(page) == found


def test_photographs_of_one_name_are_told_apart(page: "Page", drawn: Path) -> None:
    contents = [(drawn / f"{code}.png").read_bytes() for code in ("mel", "nv")]
    upload(page, *({"name": "image.png", "mimeType": "image/png", "buffer": content} for content in contents))
    hashes = []
    for name in ("image.png", "image.png (2)"):
        answers(page)
        choose(page, "Photograph", name)
        expect(page.get_by_role("combobox", name="Photograph")).to_have_value(name)
        answers(page)
        hashes.append(json.loads(download(page, DATA))["finding"]["sha256"])
    assert hashes == [hashlib.sha256(content).hexdigest() for content in contents]


def test_what_it_shows_is_said_in_sections(visit: Visit) -> None:
    page = visit("guide")
    expect(page.get_by_role("heading", level=1)).to_have_text("What it shows")
    titles = page.get_by_role("heading", level=2).all_inner_texts()
    assert {"The photograph", "The crop", "The answer and its probabilities", "The heatmap"} <= {text.strip() for text in titles}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "quality", "guide"])
def test_a_phone_shows_all_of_it_and_the_notice_stays(visit: Visit, path: str, scheme: Any) -> None:
    page = visit(path, color_scheme=scheme, **PHONE)
    if not path:
        upload(page, MELANOMA)
        answers(page)
    page.get_by_role("heading", level=1).wait_for()
    notice = page.get_by_text(DISCLAIMER)
    expect(notice).to_have_count(1)
    for _ in range(2):
        expect(notice).to_be_in_viewport(ratio=1)
        assert sideways(page) == 0
        page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, main.scrollHeight)")
    assert page.get_by_test_id("stBottom").get_by_role("button").count() == 0


def test_everything_has_a_name_and_is_reached_by_the_keyboard(page: "Page") -> None:
    upload(page, MELANOMA)
    answers(page)
    expect(page.get_by_role("img")).to_have_count(3)
    controls = re.findall(
        r"^ *- '?((?:button|slider|switch|combobox|radio|textbox|checkbox|link|img)\b.*)$",
        page.locator("body").aria_snapshot(),
        re.MULTILINE,
    )
    assert len(controls) > 20 and [control for control in controls if not re.match(r'\w+ "[^"]', control)] == []
    assert all(page.locator("img").evaluate_all("all => all.map(one => one.alt.trim())"))
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("(document.activeElement.ariaLabel || document.activeElement.innerText).trim()"))
    assert {"Add files", f"Remove {MELANOMA.name}", "Opacity of the heatmap", REPORT, FIGURE, DATA} <= reached, reached
