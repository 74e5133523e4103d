"""Web page without a browser: analyses, downloads and messages."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pypdfium2
import pytest
import streamlit as st
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from starlette.formparsers import MultiPartParser
from streamlit.runtime import Runtime
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.memory_session_storage import MemorySessionStorage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.session_manager import SessionInfo
from streamlit.testing.v1 import AppTest

import segpipe.app
from segpipe.app import bundles, main
from segpipe.app.analysis import analyze, encode_json, encode_report, encode_table
from segpipe.app.bundles import find_bundles, is_test_of
from segpipe.app.findings import HEATMAP_OPACITY
from segpipe.app.inputs import SHOWN_SAMPLES
from segpipe.app.parts import in_current_language, literal
from segpipe.app.uploads import Analysis, Upload, decode_upload, make_names_unique, safe_stem
from segpipe.app.visits import changes
from segpipe.bundle.card_file import SHIPPED
from segpipe.config import SAMPLES
from segpipe.config.composing import compose_config
from segpipe.data.synthetic.photo import make_image
from segpipe.errors import ConfigError, ImageError
from segpipe.evaluation.score import PLOTS
from segpipe.inference.loading import load_pipeline
from segpipe.inference.pipeline import Pipeline
from segpipe.io.images import encode_png
from segpipe.io.run_files import CARD, WEIGHTS
from segpipe.language import current_language, in_language, translate
from segpipe.report.overlays import encode_jpeg
from segpipe.report.wording import DISCLAIMER, percent
from segpipe.runs.results import result_columns

PAGES = Path(segpipe.app.__file__).with_name("pages.py")
MAX_PIXELS = 10**6


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(device="cpu")


@pytest.fixture(scope="module")
def upload() -> Upload:
    image, _ = make_image("mel", np.random.default_rng(0), (300, 400))
    return Upload("key", "a lesion.png", encode_png(image))


def analyze_upload(pipeline: Pipeline, upload: Upload, *, max_pixels: int = MAX_PIXELS) -> Analysis:
    return analyze(pipeline, decode_upload(upload, least_side=pipeline.least_side, max_pixels=max_pixels))


@pytest.fixture(scope="module")
def analysis(pipeline: Pipeline, upload: Upload) -> Analysis:
    return analyze_upload(pipeline, upload)


def test_analysis_equals_the_finding_of_the_pipeline(pipeline: Pipeline, upload: Upload, analysis: Analysis) -> None:
    image = np.asarray(Image.open(io.BytesIO(upload.content)))
    finding = pipeline([image])[0]
    assert np.array_equal(analysis.finding.photograph.image, image)
    assert analysis.finding.probabilities == pytest.approx(finding.probabilities, abs=1e-6)
    assert analysis.row["diagnosis"] == finding.diagnosis
    assert analysis.row["path"] == "a lesion.png"


def test_row_of_a_reduced_image_is_in_pixels_of_the_original(pipeline: Pipeline) -> None:
    image, _ = make_image("nv", np.random.default_rng(1), (2000, 2400))
    analysis = analyze_upload(pipeline, Upload("key", "large.png", encode_png(image)), max_pixels=image.size)
    assert analysis.finding.photograph.image.shape == (1000, 1200, 3)
    box = analysis.finding.box
    assert analysis.finding.mask.shape == (2000, 2400)
    assert (analysis.row["box_top"], analysis.row["box_right"]) == (box.top, box.right)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"%PDF-1.7 and more", "not an image"),
        (encode_png(np.zeros((1001, 1000, 3), dtype=np.uint8)), "more than max_pixels=1000000"),
        (encode_png(np.zeros((50, 50, 3), dtype=np.uint8))[:60], "damaged"),
        (encode_jpeg(np.zeros((50, 50, 3), dtype=np.uint8))[:-60] + b"\xff\xd9", "damaged"),
        (encode_png(np.zeros((1, 1, 3), dtype=np.uint8)), "at least 8"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
    ],
)
def test_unusable_file_is_an_error_with_a_reason(pipeline: Pipeline, content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        analyze_upload(pipeline, Upload("key", "x.jpg", content))


def test_lack_of_memory_is_an_error(upload: Upload) -> None:
    class Exhausted:
        least_side = 100

        def __call__(self, _: object, *, masks: object) -> None:
            raise MemoryError

    with pytest.raises(ImageError, match="needs more memory than there is"):
        analyze_upload(Exhausted(), upload)  # type: ignore[arg-type]


def test_json_contains_row_models_and_disclaimer(analysis: Analysis, pipeline: Pipeline) -> None:
    content = json.loads(encode_json(analysis, pipeline))
    assert content["finding"] == analysis.row
    assert content["models"]["classifier"] == pipeline.ensemble.networks[0].sha256
    assert content["views"] == 8
    assert content["notice"].startswith("Not a medical device")


def test_table_has_the_columns_of_results_csv(analysis: Analysis) -> None:
    rows = list(csv.DictReader(io.StringIO(encode_table([analysis, analysis]).decode())))
    assert len(rows) == 2
    assert list(rows[0]) == result_columns(list(analysis.finding.probabilities))
    assert float(rows[0]["confidence"]) == pytest.approx(analysis.finding.confidence, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a lesion.png", "a_lesion"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\evil.jpg", "evil"),
        ("", "image"),
        ("...", "image"),
        ("x" * 300 + ".jpg", "x" * 60),
        ("mädchen 写真.jpg", "mädchen_写真"),
        ('"; rm -rf ~ \n.jpg', "rm_-rf"),
    ],
)
def test_names_of_downloads_contain_no_path(name: str, stem: str) -> None:
    assert safe_stem(name) == stem


def test_uploads_of_one_name_are_numbered() -> None:
    uploads = [Upload(str(number), name, b"") for number, name in enumerate(("a.jpg", "b.jpg", "a.jpg", "a.jpg"))]
    assert [upload.name for upload in make_names_unique(uploads)] == ["a.jpg", "b.jpg", "a.jpg (2)", "a.jpg (3)"]


@pytest.mark.parametrize("module", ["analysis", "bundles", "parts", "visits"])
def test_analyses_and_bundles_need_no_streamlit(module: str) -> None:
    code = f"import sys, segpipe.app.{module}; sys.exit('streamlit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_literal_text_has_no_markdown() -> None:
    assert literal("![x](http://a.b) <i> $_$ :red[y]") == (r"\!\[x\]\(http\:\/\/a\.b\) \<i\> \$\_\$ \:red\[y\]")
    assert literal("plain words 12") == "plain words 12"


@pytest.mark.parametrize(
    ("measured", "same"),
    [
        (None, True),  # as beside the shipped bundles
        ({"classification": {"test_set": {"sha256": "1"}}, "pipeline": {"classifier": "c"}}, True),
        ({"classification": {"test_set": {"sha256": "2"}}, "pipeline": {"classifier": "c"}}, False),
        ({"classification": {"test_set": {"sha256": "1"}}, "pipeline": {"classifier": "d"}}, False),
        ({"classification": {}}, False),
        ([], False),
    ],
)
def test_plots_beside_a_bundle_belong_to_the_test_on_its_card(tmp_path: Path, measured: Any, same: bool) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "bundle").mkdir()
    card = {"metrics": {"test_set": {"sha256": "1"}, "pipeline": {"classifier": "c"}}}
    (tmp_path / "bundle" / CARD).write_text(json.dumps(card))
    if measured is not None:
        (tmp_path / "test" / "metrics.json").write_text(json.dumps(measured))
    assert is_test_of(tmp_path / "bundle", tmp_path / "test") == same


def test_bundles_are_found_by_their_cards(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "classifier", tmp_path / "runs" / "a" / "bundle")
    shutil.copytree(SHIPPED / "segmenter", tmp_path / "seg")
    shutil.copytree(SHIPPED / "segmenter", tmp_path / ".hidden")
    broken = ("{", "[]", '{"kind": "classifier"}', '{"kind": "classifier", "arguments": 3}', "[" * 100_000 + "]" * 100_000)
    for number, card in enumerate(broken):
        (tmp_path / f"broken{number}").mkdir()
        (tmp_path / f"broken{number}" / CARD).write_text(card)
        (tmp_path / f"broken{number}" / WEIGHTS).write_bytes(b"")
    found = [(bundle.kind, bundle.label, bundle.folder) for bundle in find_bundles(str(tmp_path))]
    assert found == [
        ("classifier", "runs/a/bundle (efficientnet_b0)", str(tmp_path / "runs" / "a" / "bundle")),
        ("segmenter", "seg (tu-efficientnet_b0)", str(tmp_path / "seg")),
    ]


def test_plots_on_the_page_are_those_of_a_test() -> None:
    assert {f"{name}.png" for name in bundles.PLOTS} == set(PLOTS)
    assert {path.name for path in (SHIPPED / "test" / "plots").iterdir()} == set(PLOTS)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("bundels=x", r"unknown key bundels=x; did you mean bundles or bundle\?$"),
        ("+more=1", "unknown key"),
        ("bundles=nowhere", "bundles must be a folder, got 'nowhere'"),
        ("max_files=0", "max_files must be 1 or more, got 0"),
        ("max_pixels=many", "max_pixels must be an integer"),
        ("tta=twelve", "tta must be one of crops, d4, flips, none, got twelve"),
    ],
)
def test_wrong_argument_is_one_line(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        compose_config("app", [argument])
    assert "\n" not in str(refused.value)


def test_path_is_taken_literally(tmp_path: Path) -> None:
    folder = tmp_path / "a b=c,[d]"
    folder.mkdir()
    assert compose_config("app", [f"bundles={folder}"]).bundles == str(folder)


def test_uploads_up_to_the_limit_stay_in_memory() -> None:
    # Streamlit's own limit, where its configuration is not ours.
    assert main.MultiPartParser is MultiPartParser
    assert MultiPartParser.spool_max_size > 200 * 1024 * 1024


def test_expired_session_is_removed_with_its_content() -> None:
    storage = MemorySessionStorage(ttl_seconds=0)
    session = Mock(spec=["id", "shutdown", "session_state", "_fragment_storage"], id="a")
    storage.save(SessionInfo(client=None, session=session))
    runtime = Mock(_session_mgr=Mock(_session_storage=storage))
    main._remove_expired(runtime)
    session.shutdown.assert_called_once()
    session.session_state.clear.assert_called_once()
    session._fragment_storage.clear.assert_called_once()
    runtime.media_file_mgr.remove_orphaned_files.assert_called_once()
    main._remove_expired(runtime)
    session.shutdown.assert_called_once()


def test_streamlit_has_the_undocumented_names_that_the_server_uses() -> None:
    # Those with an underscore are in tests/unit/test_private_parts.py.
    assert isinstance(Runtime.media_file_mgr, property)
    assert isinstance(Runtime.uploaded_file_mgr, property)
    assert "file_storage" in MemoryUploadedFileManager.__init__.__code__.co_names
    assert callable(MediaFileManager.remove_orphaned_files)


def start(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> AppTest:
    """Run the page as for a new visitor."""
    monkeypatch.setattr("sys.argv", ["main.py", *arguments])
    page = AppTest.from_file(str(PAGES), default_timeout=120).run()
    assert not page.exception
    return page


def errors(page: AppTest) -> list[str]:
    """Return the errors on the page without Markdown escapes."""
    return [error.value.replace("\\", "") for error in page.error]


def html(page: AppTest) -> str:
    """Return all parts of the page that are HTML."""
    return " ".join(element.value for element in page.get("html"))


def rows(page: AppTest) -> list[str]:
    """Return the names on the list of results, in its order."""
    return re.findall(r'<p class="name">(.*?)</p>', html(page))


def test_upload_shows_a_result_and_a_bad_file_one_line(monkeypatch: pytest.MonkeyPatch, upload: Upload) -> None:
    page = start(monkeypatch, "device=cpu", "max_files=3")
    assert len(page.title) == 1 and DISCLAIMER in html(page)
    good, bad = (upload.name, upload.content, "image/png"), ("*bad*.jpg", b"no image", "image/jpeg")
    page.file_uploader[0].set_value([good, bad]).run()
    assert not page.exception and not page.title
    (error,) = errors(page)
    assert error.startswith("*bad*.jpg: not an image")
    assert "How far to trust this: " in html(page) and "Typology angle of the skin" in html(page)
    assert 'class="finding viewer wipe"' in html(page) and 'class="finding viewer fade"' in html(page)
    assert f'value="{HEATMAP_OPACITY}"' in html(page) and HEATMAP_OPACITY == 45
    page.file_uploader[0].set_value([good] * 5).run()
    (error,) = errors(page)
    assert "3 photographs" in error and "got 5" in error
    assert rows(page) == ["a lesion.png", "a lesion.png (2)", "a lesion.png (3)"]
    page.toggle(key="explained").set_value(False).run()
    page.button(key=next(button.key for button in page.button if button.key.startswith("show "))).click().run()
    assert 'class="finding viewer wipe"' in html(page) and "viewer fade" not in html(page)
    page.file_uploader[0].clear().run()
    assert len(page.title) == 1 and not rows(page)
    assert page.session_state["results"] == {}


@pytest.mark.parametrize("code", SHOWN_SAMPLES)
def test_sample_is_one_click_away(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    page = start(monkeypatch, "device=cpu")
    page.button(key=f"sample {code}").click().run()
    assert not page.exception and not page.title
    assert f"synthetic_{code}.jpg" in html(page) and 'class="prediction"' in html(page)
    page.button(key="start").click().run()
    assert len(page.title) == 1 and 'class="prediction"' not in html(page)


def test_list_is_sorted_by_probability_of_malignancy_and_opens_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    page = start(monkeypatch, "device=cpu")
    files = [
        (path.name, path.read_bytes(), "image/jpeg") for path in (SAMPLES / f"synthetic_{c}.jpg" for c in ("nv", "mel", "bkl"))
    ]
    page.file_uploader[0].set_value(files).run()
    found = {outcome.name: outcome.finding.p_malignant for outcome in page.session_state["results"].values()}
    names = rows(page)
    assert names == sorted(found, key=lambda name: -found[name]) and len(names) == 3
    assert html(page).count('class="thumbnail"') == 3 and 'class="prediction"' not in html(page)
    page.button(key=[button.key for button in page.button if button.key.startswith("show ")][1]).click().run()
    assert f'<p class="filename">{names[1]}</p>' in html(page) and not rows(page)
    page.button(key="next").click().run()
    assert f'<p class="filename">{names[2]}</p>' in html(page) and page.button(key="next").disabled
    beside = next(box for box in page.selectbox if (box.key or "").startswith("beside "))
    beside.select_index(0).run()
    assert html(page).count('class="prediction"') == 2 and 'class="change"' in html(page)
    page.button(key="back").click().run()
    assert rows(page) == names


@pytest.mark.parametrize("argument", ["language=de", "language=auto"])
def test_page_is_in_german_by_setting_or_by_choice(monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    page = start(monkeypatch, "device=cpu", argument)
    if argument == "language=auto":
        page.selectbox(key="language").set_value("de").run()
    with in_language("de"):
        disclaimer = translate(DISCLAIMER)
        assert [title.value for title in page.title] == [translate("Find, outline and name a skin lesion")]
    assert disclaimer.startswith("Kein Medizinprodukt") and disclaimer in html(page) and DISCLAIMER not in html(page)
    page.button(key="sample mel").click().run()
    assert not page.exception
    assert "Melanom (mel)" in html(page) and "Vertrauenswürdigkeit: " in html(page) and disclaimer in html(page)
    assert re.search(r"\d,\d %", html(page)) and not re.search(r"\d\.\d %", html(page))
    page.selectbox(key="language").set_value("en").run()
    assert "melanoma (mel)" in html(page) and DISCLAIMER in html(page)


def test_downloads_are_in_the_language_of_the_page(analysis: Analysis, pipeline: Pipeline) -> None:
    with in_language("de"):
        write = in_current_language(partial(encode_report, analysis, pipeline))
    text = " ".join(pypdfium2.PdfDocument(write())[0].get_textpage().get_text_bounded().split())
    with in_language("de"):
        assert translate(DISCLAIMER) in text  # up to its last word, which lies on the page
    assert "So liest man diese Seite" in text
    assert "Erstellt am" in text and "balancierte Genauigkeit 0," in text
    assert not {"Created", "averaged", "images", "accuracy", "to"} & set(re.findall(r"\w+", text))
    assert current_language() == "en"


def test_changes_between_two_visits(analysis: Analysis) -> None:
    first = analysis.row
    second = {**first, "p_malignant": first["p_malignant"] / 2, "abcd_diameter_px": first["abcd_diameter_px"] + 12}
    found = {label: (before, after, change) for label, before, after, change in changes(first, second)}
    assert found["Probability of malignancy"][0] == percent(first["p_malignant"])
    assert found["Probability of malignancy"][2] == f"\N{MINUS SIGN}{50 * first['p_malignant']:.1f} percentage points"
    assert found["Largest diameter"][2] == "+12 px"
    assert found["Asymmetry of the shape"][2] == "0.00"
    assert [label for label, *_ in changes({**first, "abcd_asymmetry": None}, second)] == [
        "Probability of malignancy",
        "Lesion area",
    ]


def test_wrong_argument_is_one_line_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    page = start(monkeypatch, "bundels=x")
    (error,) = errors(page)
    assert "bundels=x" in error and "\n" not in error
    assert not page.title


def overflow(file: Path) -> None:
    """Make the logits infinite with finite weights."""
    state = load_file(file)
    save_file(state | {"linear.weight": torch.full_like(state["linear.weight"], 3e38, dtype=torch.float32)}, file)


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(b"none"), overflow])
def test_unusable_bundle_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    shutil.copytree(SHIPPED / "classifier", tmp_path / "broken")
    spoil(tmp_path / "broken" / WEIGHTS)
    st.cache_data.clear()
    page = start(monkeypatch, f"bundles={tmp_path}", "device=cpu")
    page.selectbox(key="Classifier").select_index(1).run()
    assert not page.exception
    assert len(page.error) == 1
    assert "\n" not in page.error[0].value
