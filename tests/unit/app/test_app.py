"""The web page without a browser: what it finds, what it says, what it hands out."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from starlette.formparsers import MultiPartParser
from streamlit.testing.v1 import AppTest

from segpipe.app import finding_view as downloads
from segpipe.app import guard
from segpipe.app.pages import PLOTS as SHOWN_PLOTS
from segpipe.app.pages import is_test_of
from segpipe.app.shared import literal
from segpipe.app.sidebar import CARD, WEIGHTS, find_bundles
from segpipe.app.uploads import Examination, Upload, examine
from segpipe.bundle.folder import CARD as BUNDLE_CARD
from segpipe.bundle.folder import SHIPPED
from segpipe.bundle.folder import WEIGHTS as BUNDLE_WEIGHTS
from segpipe.config.composing import compose_config
from segpipe.data.synthetic.dataset import make_image
from segpipe.errors import ConfigError, ImageError
from segpipe.evaluation.score import PLOTS
from segpipe.inference.loading import load_pipeline
from segpipe.inference.pipeline import Pipeline
from segpipe.io.images import encode_png
from segpipe.report.overlays import encode_jpeg
from segpipe.runs.results import result_columns

PAGES = Path(downloads.__file__).parent / "pages.py"
MAX_PIXELS = 10**6


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(device="cpu")


@pytest.fixture(scope="module")
def photograph() -> Upload:
    image, _ = make_image("mel", np.random.default_rng(0), (300, 400))
    return Upload("key", "a lesion.png", encode_png(image))


@pytest.fixture(scope="module")
def examination(pipeline: Pipeline, photograph: Upload) -> Examination:
    return examine(pipeline, photograph, max_pixels=MAX_PIXELS)


def test_examination_is_what_the_pipeline_says(pipeline: Pipeline, photograph: Upload, examination: Examination) -> None:
    image = np.asarray(Image.open(io.BytesIO(photograph.content)))
    finding = pipeline([image])[0]
    assert np.array_equal(examination.finding.photograph.image, image)
    assert examination.finding.probabilities == pytest.approx(finding.probabilities, abs=1e-6)
    assert examination.row["diagnosis"] == finding.diagnosis
    assert examination.row["path"] == "a lesion.png"


def test_large_photograph_is_reduced_and_its_row_is_in_pixels_of_the_original(pipeline: Pipeline) -> None:
    image, _ = make_image("nv", np.random.default_rng(1), (1400, 1800))
    found = examine(pipeline, Upload("key", "large.png", encode_png(image)), max_pixels=image.size)
    assert found.finding.photograph.image.shape == (700, 900, 3)
    box = found.finding.box
    assert found.finding.mask.shape == (1400, 1800)
    assert (found.row["box_top"], found.row["box_right"]) == (box.top, box.right)


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
def test_what_is_no_photograph_is_refused_with_a_reason(pipeline: Pipeline, content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        examine(pipeline, Upload("key", "x.jpg", content), max_pixels=MAX_PIXELS)


def test_photograph_that_needs_too_much_memory_is_refused(photograph: Upload) -> None:
    class Exhausted:
        least_side = 100

        def __call__(self, _: object) -> None:
            raise MemoryError

    with pytest.raises(ImageError, match="needs more memory than there is"):
        examine(Exhausted(), photograph, max_pixels=MAX_PIXELS)  # type: ignore[arg-type]


def test_json_holds_the_row_the_models_and_the_notice(examination: Examination, pipeline: Pipeline) -> None:
    content = json.loads(downloads.encode_json(examination, pipeline))
    assert content["finding"] == examination.row
    assert content["models"]["classifier"] == pipeline.ensemble.bundles[0].sha256
    assert content["views"] == 8
    assert content["notice"].startswith("Not a medical device")


def test_table_has_the_columns_of_the_command_line(examination: Examination) -> None:
    rows = list(csv.DictReader(io.StringIO(downloads.encode_table([examination, examination]).decode())))
    assert len(rows) == 2
    assert list(rows[0]) == result_columns(list(examination.finding.probabilities))
    assert float(rows[0]["confidence"]) == pytest.approx(examination.finding.confidence, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a lesion.png", "a_lesion"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\evil.jpg", "evil"),
        ("", "photograph"),
        ("...", "photograph"),
        ("x" * 300 + ".jpg", "x" * 60),
        ("mädchen 写真.jpg", "mädchen_写真"),
        ('"; rm -rf ~ \n.jpg', "rm_-rf"),
    ],
)
def test_offered_names_have_no_path_in_them(name: str, stem: str) -> None:
    assert downloads.safe_stem(name) == stem


def test_punctuation_of_a_literal_text_means_nothing_to_markdown() -> None:
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
def test_plots_beside_a_bundle_are_those_of_the_test_on_its_card(tmp_path: Path, measured: Any, same: bool) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "bundle").mkdir()
    card = {"metrics": {"test_set": {"sha256": "1"}, "pipeline": {"classifier": "c"}}}
    (tmp_path / "bundle" / CARD).write_text(json.dumps(card))
    if measured is not None:
        (tmp_path / "test" / "metrics.json").write_text(json.dumps(measured))
    assert is_test_of(tmp_path / "bundle", tmp_path / "test") == same


def test_bundles_are_found_by_what_their_cards_say(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "classifier", tmp_path / "runs" / "a" / "bundle")
    shutil.copytree(SHIPPED / "segmenter", tmp_path / "seg")
    shutil.copytree(SHIPPED / "segmenter", tmp_path / ".hidden")
    broken = ("{", "[]", '{"kind": "classifier"}', '{"kind": "classifier", "arguments": 3}', "[" * 100_000 + "]" * 100_000)
    for number, card in enumerate(broken):
        (tmp_path / f"broken{number}").mkdir()
        (tmp_path / f"broken{number}" / CARD).write_text(card)
        (tmp_path / f"broken{number}" / WEIGHTS).write_bytes(b"")
    find_bundles.clear()
    found = [(bundle.kind, bundle.label, bundle.folder) for bundle in find_bundles(str(tmp_path))]
    assert found == [
        ("classifier", "runs/a/bundle (efficientnet_b0)", str(tmp_path / "runs" / "a" / "bundle")),
        ("segmenter", "seg (tu-efficientnet_b0)", str(tmp_path / "seg")),
    ]


def test_names_that_are_repeated_here_are_those_of_their_owners() -> None:
    assert (CARD, WEIGHTS) == (BUNDLE_CARD, BUNDLE_WEIGHTS)
    assert {f"{name}.png" for name in SHOWN_PLOTS} == set(PLOTS)
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
def test_wrong_call_is_one_line(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        compose_config("app", [argument])
    assert "\n" not in str(refused.value)


def test_path_is_taken_literally(tmp_path: Path) -> None:
    folder = tmp_path / "a b=c,[d]"
    folder.mkdir()
    assert compose_config("app", [f"bundles={folder}"]).bundles == str(folder)


def test_uploads_up_to_the_limit_stay_out_of_files() -> None:
    # Streamlit's own limit, where its configuration is not ours.
    assert guard.MultiPartParser is MultiPartParser
    assert MultiPartParser.spool_max_size > 200 * 1024 * 1024


def start(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> AppTest:
    """The page as a first visitor sees it."""
    monkeypatch.setattr("sys.argv", ["main.py", *arguments])
    page = AppTest.from_file(str(PAGES), default_timeout=120).run()
    assert not page.exception
    return page


def test_finding_follows_an_upload_and_a_bad_file_costs_one_line(monkeypatch: pytest.MonkeyPatch, photograph: Upload) -> None:
    page = start(monkeypatch, "device=cpu", "max_files=3")
    assert [title.value for title in page.title] == ["Find and name a skin lesion"]
    good, bad = (photograph.name, photograph.content, "image/png"), ("*bad*.jpg", b"no image", "image/jpeg")
    page.file_uploader[0].set_value([good, bad]).run()
    assert not page.exception
    assert [error.value.replace("\\", "") for error in page.error] == [
        "*bad*.jpg: not an image: whatever its name, its content must be JPEG, PNG, BMP, TIFF or WebP"
    ]
    assert [slider.label for slider in page.slider] == ["Opacity of the heatmap"]
    page.file_uploader[0].set_value([good] * 5).run()
    assert [error.value.replace("\\", "") for error in page.error] == [
        "5 files are more than the 3 taken at once; these are the first 3"
    ]
    assert len(page.dataframe[0].value) == 3
    page.toggle(key="explained").set_value(False).run()
    assert not page.slider
    page.file_uploader[0].clear().run()
    assert not page.dataframe
    assert page.session_state["findings"] == {}


def test_wrong_call_is_one_line_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    page = start(monkeypatch, "bundels=x")
    assert [error.value.replace("\\", "") for error in page.error] == ["unknown key bundels=x; did you mean bundles or bundle?"]
    assert not page.title


def overflow(file: Path) -> None:
    """Finite weights whose logits are infinite."""
    state = load_file(file)
    save_file(state | {"linear.weight": torch.full_like(state["linear.weight"], 3e38, dtype=torch.float32)}, file)


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(b"none"), overflow])
def test_bundle_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    shutil.copytree(SHIPPED / "classifier", tmp_path / "broken")
    spoil(tmp_path / "broken" / WEIGHTS)
    find_bundles.clear()
    page = start(monkeypatch, f"bundles={tmp_path}", "device=cpu")
    page.selectbox(key="Classifier").select_index(1).run()
    assert not page.exception
    assert len(page.error) == 1
    assert "\n" not in page.error[0].value
