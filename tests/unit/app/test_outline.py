"""Correction of an outline on the page, without a browser."""

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

import segpipe.app
from segpipe.app import outline
from segpipe.app.analysis import analyze, correct_outline
from segpipe.app.findings import Panel, _by_model
from segpipe.app.uploads import Analysis, Upload, decode_upload, encode_mask
from segpipe.bundle.card_file import SHIPPED
from segpipe.data.synthetic.photo import make_image
from segpipe.errors import ImageError
from segpipe.inference.loading import load_pipeline
from segpipe.inference.pipeline import Pipeline
from segpipe.io.images import encode_png
from segpipe.lesion.polygon import outline_polygon
from segpipe.types import BoolMask

PAGES = Path(segpipe.app.__file__).with_name("pages.py")
MAX_PIXELS = 10**7
SQUARE = [[0.25, 0.25], [0.5, 0.25], [0.5, 0.5], [0.25, 0.5]]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(device="cpu", tta="none")


def an_upload(height: int = 300, width: int = 400) -> Upload:
    image, _ = make_image("mel", np.random.default_rng(0), (height, width))
    return Upload("key", "a lesion.png", encode_png(image))


def analyzed(pipeline: Pipeline, upload: Upload) -> Analysis:
    return analyze(pipeline, decode_upload(upload, least_side=pipeline.least_side, max_pixels=MAX_PIXELS))


@pytest.fixture(scope="module")
def found(pipeline: Pipeline) -> Analysis:
    return analyzed(pipeline, an_upload())


def decoded(png: bytes) -> BoolMask:
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.asarray(image) > 127


def test_corrected_outline_gives_another_finding_and_keeps_the_found_one(pipeline: Pipeline, found: Analysis) -> None:
    corrected = correct_outline(pipeline, found, SQUARE)
    row = corrected.row
    assert (row["mask_source"], found.row["mask_source"]) == ("given", "unet")
    assert (row["box_top"], row["box_left"]) == (75, 100) and abs(row["mask_area_fraction"] - 1 / 16) < 0.002
    assert (row["path"], row["sha256"]) == (found.row["path"], found.row["sha256"])
    assert corrected.found is found and row["confidence"] != found.row["confidence"]
    again = correct_outline(pipeline, corrected, [*SQUARE[:3], [0.3, 0.6]])
    assert again.found is found and again.row["box_bottom"] > row["box_bottom"]


def test_simplified_outline_gives_nearly_the_found_mask(pipeline: Pipeline, found: Analysis) -> None:
    corners = outline_polygon(found.finding.localization.mask).tolist()
    mask = correct_outline(pipeline, found, corners).finding.mask
    assert (mask & found.finding.mask).sum() / (mask | found.finding.mask).sum() > 0.95


def test_mask_is_in_the_size_of_the_photograph(pipeline: Pipeline) -> None:
    large = analyzed(pipeline, an_upload(2000, 2401))
    corrected = correct_outline(pipeline, large, SQUARE)
    assert large.finding.photograph.image.shape[:2] == (1000, 1201)
    for analysis in (large, corrected):
        np.testing.assert_array_equal(decoded(encode_mask(analysis)), analysis.finding.mask)
        assert analysis.finding.mask.shape == (2000, 2401)
    assert corrected.row["box_top"] == 500


@pytest.mark.parametrize("corners", [None, [[0, 0]], [[0.5, 0.5]] * 2, [["a", 1]] * 3])
def test_other_content_from_a_browser_is_refused(pipeline: Pipeline, found: Analysis, corners: object) -> None:
    with pytest.raises(ImageError, match="outline must"):
        correct_outline(pipeline, found, corners)


def test_outline_without_an_area_is_refused(pipeline: Pipeline) -> None:
    large = analyzed(pipeline, an_upload(2000, 2401))
    with pytest.raises(ImageError, match="encloses nothing"):
        correct_outline(pipeline, large, [[0.5, 0.5]] * 3)


def test_lack_of_memory_is_one_line_for_a_visitor(found: Analysis) -> None:
    with pytest.raises(ImageError, match="make it smaller"):
        correct_outline(Mock(side_effect=MemoryError), found, SQUARE)


def test_gate_may_refuse_a_corrected_outline(found: Analysis) -> None:
    refusing = load_pipeline(device="cpu", tta="none", gate="refuse")
    with pytest.raises(ImageError, match="gate rejects it"):
        correct_outline(refusing, found, [[0, 0], [1, 0], [1, 1], [0, 1]])


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mock]:
    """Editor that sends `outline` at the next run of the page."""
    component = Mock(return_value=SimpleNamespace(outline=None))
    monkeypatch.setattr(outline, "_editor", lambda: component)
    yield component


def press(page: AppTest, label: str) -> None:
    next(button for button in page.button if button.label == label).click().run()
    assert not page.exception


def send(page: AppTest, editor: Mock, corners: Any) -> None:
    """Send corners once, as a trigger does."""
    editor.side_effect = [SimpleNamespace(outline=corners), *[SimpleNamespace(outline=None)] * 3]
    page.run()
    assert not page.exception
    editor.side_effect = None


def shown(page: AppTest) -> str:
    return " ".join(element.value for element in page.get("html"))


def test_page_computes_the_finding_with_an_outline_and_goes_back(monkeypatch: pytest.MonkeyPatch, editor: Mock) -> None:
    monkeypatch.setattr("sys.argv", ["main.py", "device=cpu"])
    page = AppTest.from_file(str(PAGES), default_timeout=120).run()
    page.file_uploader[0].set_value([("a.png", an_upload().content, "image/png")]).run()
    before = shown(page)
    assert "given by the user" not in before and not editor.called
    press(page, outline.OPEN)
    data = editor.call_args.kwargs["data"]
    assert data["picture"].startswith("data:image/jpeg;base64,") and 3 <= len(data["corners"]) <= 40
    assert (data["width"], data["height"]) == (400, 300)
    send(page, editor, [[0, 0]])
    assert len(page.error) == 1 and shown(page) == before
    send(page, editor, SQUARE)
    assert not page.error and "given by the user" in shown(page)
    assert outline.CORRECTED in [caption.value for caption in page.caption]
    (analysis,) = page.session_state["results"].values()
    assert analysis.row["mask_source"] == "given"
    labels = [button.label for button in page.button]
    assert outline.CLOSE not in labels and {outline.OPEN, outline.RESTORE} <= set(labels)
    press(page, outline.RESTORE)
    assert shown(page) == before and outline.RESTORE not in [button.label for button in page.button]


def test_outline_of_either_model_can_be_corrected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, editor: Mock) -> None:
    shutil.copytree(SHIPPED / "classifier", tmp_path / "other")
    st.cache_data.clear()
    monkeypatch.setattr("sys.argv", ["main.py", "device=cpu", f"bundles={tmp_path}"])
    page = AppTest.from_file(str(PAGES), default_timeout=120).run()
    page.selectbox(key="Compare with").select_index(1).run()
    page.file_uploader[0].set_value([("a.png", an_upload().content, "image/png")]).run()
    buttons = [button for button in page.button if button.label == outline.OPEN]
    assert len(buttons) == 2
    buttons[1].click().run()
    send(page, editor, SQUARE)
    sources = [analysis.row["mask_source"] for analysis in page.session_state["results"].values()]
    assert sources == ["unet", "given"]
    assert [button.label for button in page.button].count(outline.RESTORE) == 1


def test_two_photographs_are_compared_by_the_same_model(found: Analysis, pipeline: Pipeline) -> None:
    one, other = ([Panel(found, pipeline, f"{name} {model}", model, Mock()) for model in "ab"] for name in ("one", "other"))
    assert _by_model([one, other[1:]]) == [[one[0]], [one[1], other[1]]]


def test_editor_of_a_whole_image_starts_without_an_outline(found: Analysis, editor: Mock) -> None:
    localization = replace(found.finding.localization, mask=np.ones_like(found.finding.mask))
    whole = replace(found, finding=replace(found.finding, localization=localization))
    assert outline._edit(whole, Mock(), key="a__b") is None
    assert "__" not in editor.call_args.kwargs["key"]
    assert editor.call_args.kwargs["data"]["corners"] == []
