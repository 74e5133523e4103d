"""Altered cards: each is refused in one line, or gives finite predictions."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segpipe.bundle.card import ClassifierBundle, ClassifierCard, SegmenterCard
from segpipe.bundle.card_file import read_card
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.saving import save_bundle
from segpipe.diagnosis import check_class_name
from segpipe.errors import BundleError
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.io.run_files import CARD
from segpipe.lesion.localization import MaskSource

NUMBERS = (
    *("input.size", "input.mean.0", "input.std.1", "crop.margin_fraction", "temperature", "logit_bias.2", "arguments.dropout"),
    *("training.images", "training.epochs", "training.best_epoch", "training.settings.lr", "operating_point.threshold"),
    *("operating_point.target_sensitivity", "metrics.metrics.accuracy.value", "calibration.images"),
)
NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")
OUT_OF_BOUNDS = {
    "input.size": (-1, 0, 1, 15, 2049, 20_000, 10**9, 10**40),
    "input.mean.0": (-0.1, 1.1, 1e308, -1e308),
    "input.std.1": (0, -0.2, 1e-308, 1e-4, 11, 1e308),
    "crop.margin_fraction": (-0.1, 10.5, 1e308),
    "temperature": (0, -1, 1e-308, 1e-4, 1001, 1e308),
    "logit_bias.2": (1001, -1001, 1e308),
    "operating_point.threshold": (-0.1, 1.1, 1e308),
}
WRONG_TYPES = {
    "format": (None, 1, "segpipe-bundle-2", ["segpipe-bundle-1"]),
    "kind": (None, 1, "segmenter", ["classifier"], {"classifier": 1}),
    "input": (None, 224, [224], "224"),
    "input.size": (True, "224", 224.5, None, [224], {"size": 224}),
    "input.mean": ("0.5", 0.5, [0.5], [0.5] * 4, [True, 0.5, 0.5], ["0.5", 0.5, 0.5], None),
    "crop": (None, "tight", 0.25, []),
    "crop.whole_image": (0, 1, "true", None),
    "crop.keep_background": (1, "no", None),
    "crop.margin_fraction": (True, "0.25", None, [0.25]),
    "crop.border": (True, "mirror", "", None, ["reflect"]),
    "temperature": (True, "1.5", None, [1.5]),
    "logit_bias": (0.0, "0", [True] * 7, ["0"] * 7, [0.0] * 6, [0.0] * 8, None),
    "classes": ("mel", None, 7, {"mel": 0}, [1, 2, 3], [["mel"], ["nv"]], [None, "nv"]),
    "malignant": ("mel", None, True, [True], [["mel"]]),
    "training": (None, "much", []),
    "training.images": (True, "7", 7.5, None),
    "training.leaks_allowed": (0, "false", None),
    "training.seen": ([], "all", {"train": 1}),
    "operating_point.threshold": (True, "0.3", None),
    "operating_point.diagnosis": (1, True, None, "wart"),
    "metrics": (None, 1, []),
    "metrics.images": (None, "70", True, 1.5),
    "metrics.metrics": (None, 1, "good", [], {"dice": 0.9}, {"dice": None}, {"dice": {"value": 0.9}}),
    "metrics.metrics.accuracy": (0.9, None, {"value": "0.9", "low": None, "high": None}, {"value": [1], "low": 0, "high": 1}),
    "licence": (None, 1, ["free"]),
}
BAD_NAMES = (
    *("", " ", " mel", "mel ", "mel\n", "a\nb", "a\r\nb", "a\tb", "a\0b", "a\x1bb", "a\x7fb", "a\x85b", "a\u2028b", "\ufeffmel"),
    *("a,b", "a;b", "a|b", 'a"b', "a'b", "`a`", "a\\b", "a/b", "../..", "..", ".", "-x", "+x", "=x", "@x", "(x)", "&x", "x&"),
    *(
        "=cmd|' /C calc'!A0",
        "@SUM(1)",
        "<script>alert(1)</script>",
        "<b>",
        "a<b",
        "a>b",
        "{{x}}",
        "${x}",
        "$x$",
        "%s",
        "a:b",
        "a*b",
    ),
    *(
        "\ud800",
        "a\udcff",
        "\u202emel",
        "a\u200bb",
        "a\u00a0b",
        "\u0301a",
        "e\u0301",
        "malignant",
        "flagged",
        "predicted",
        "a" * 65,
    ),
)
GOOD_NAMES = (
    *(
        "0",
        "Ä",
        "a b",
        "mole (dark)",
        "x-1",
        "a.b",
        "c&d",
        "IV+",
        "nævus",
        "Muttermal (gutartig)",
        "良性",
        "родинка",
        "तिल",
        "a" * 64,
    ),
)


def altered(card: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Change one value of a card, at a dotted key whose parents exist."""
    copy = json.loads(json.dumps(card))
    *path, last = key.split(".")
    inner = copy
    for name in path:
        inner = inner[int(name) if isinstance(inner, list) else name]
    inner[int(last) if isinstance(inner, list) else last] = value
    return copy


def renamed(card: dict[str, Any], name: str) -> dict[str, Any]:
    """Rename one class everywhere in a card."""
    text = json.dumps(card)
    for place in ("classes", "malignant"):
        card = altered(card, place, [name if code == "bcc" else code for code in card[place]])
    assert json.dumps(card) != text
    return card


@pytest.fixture(scope="module")
def card(classifier: ClassifierBundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Card with a value for each field."""
    folder = tmp_path_factory.mktemp("whole") / "classifier"
    save_bundle(folder, classifier.model, classifier.card)
    content: dict[str, Any] = json.loads((folder / CARD).read_text())
    figure = {"value": 0.8, "low": 0.7, "high": 0.9}
    return content | {
        "logit_bias": [0.0] * 7,
        "metrics": {"images": 70, "metrics": {"accuracy": figure}},
        "calibration": {"images": 70},
        "operating_point": {"diagnosis": "mel", "threshold": 0.3, "target_sensitivity": 0.9},
        "training": content["training"] | {"settings": {"lr": 0.1}},
    }


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[[bytes], None]:
    """Check that a card with some content is refused in one line."""

    def call(content: bytes) -> None:
        (tmp_path / CARD).write_bytes(content)
        with pytest.raises(BundleError) as caught:
            read_card(tmp_path, "classifier", ClassifierCard)
        assert str(caught.value).removeprefix(str(tmp_path)).isprintable()
        assert CARD in str(caught.value) or "kind" in str(caught.value) or "bundle.classifier=" in str(caught.value)
        assert len(str(caught.value)) < 700

    return call


def test_unchanged_card_is_read(card: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(json.dumps(card))
    read = read_card(tmp_path, "classifier", ClassifierCard)
    assert (read.temperature, read.logit_bias, read.metrics["images"]) == (1.5, (0.0,) * 7, 70)


@pytest.mark.parametrize("word", NO_NUMBERS)
@pytest.mark.parametrize("key", NUMBERS)
def test_value_that_is_not_a_number_is_refused(
    card: dict[str, Any], refuse: Callable[[bytes], None], key: str, word: str
) -> None:
    refuse(json.dumps(altered(card, key, "HERE")).replace('"HERE"', word).encode())


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in OUT_OF_BOUNDS.items() for value in values])
def test_number_out_of_bounds_is_refused(card: dict[str, Any], refuse: Callable[[bytes], None], key: str, value: float) -> None:
    refuse(json.dumps(altered(card, key, value)).encode())


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG_TYPES.items() for value in values])
def test_value_of_another_type_is_refused(card: dict[str, Any], refuse: Callable[[bytes], None], key: str, value: Any) -> None:
    refuse(json.dumps(altered(card, key, value)).encode())


@pytest.mark.parametrize("name", BAD_NAMES)
def test_unsafe_class_name_is_refused(card: dict[str, Any], refuse: Callable[[bytes], None], name: str) -> None:
    refuse(json.dumps(renamed(card, name)).encode())
    refuse(json.dumps(renamed(card, name), ensure_ascii=False).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_common_class_name_is_read(card: dict[str, Any], tmp_path: Path, name: str) -> None:
    check_class_name(name)
    (tmp_path / CARD).write_text(json.dumps(renamed(card, name)))
    assert name in read_card(tmp_path, "classifier", ClassifierCard).classes


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", []),
        ("classes", ["mel"]),
        ("classes", ["mel", "nv", "mel"]),
        ("malignant", ["mel", "mel"]),
        ("malignant", ["mel", "cancer"]),
        ("malignant", ["MEL"]),
    ],
)
def test_class_list_that_contradicts_itself_is_refused(
    card: dict[str, Any], refuse: Callable[[bytes], None], key: str, value: list[str]
) -> None:
    refuse(json.dumps(altered(card, key, value)).encode())


@pytest.mark.parametrize(
    ("malignant", "read"), [(["malignant"], True), ([], False), (["benign"], False), (["benign", "malignant"], False)]
)
def test_class_malignant_is_the_only_malignant_one(
    card: dict[str, Any], refuse: Callable[[bytes], None], tmp_path: Path, malignant: list[str], read: bool
) -> None:
    two = card | {"classes": ["benign", "malignant"], "malignant": malignant, "logit_bias": []}
    del two["operating_point"]
    if read:
        (tmp_path / CARD).write_text(json.dumps(two))
        assert read_card(tmp_path, "classifier", ClassifierCard).malignant == ("malignant",)
    else:
        refuse(json.dumps(two).encode())


@pytest.mark.parametrize("where", ["", "input.", "crop.", "training.", "operating_point."])
@pytest.mark.parametrize("name", ["temprature", "a\nb\x1b[2J", "\u202e"])
def test_unknown_field_is_refused(card: dict[str, Any], refuse: Callable[[bytes], None], where: str, name: str) -> None:
    refuse(json.dumps(altered(card, where + name, 1)).encode())


def contents(text: str) -> Iterator[bytes]:
    """Yield invalid variants of the text of a card."""
    yield from (b"", b" ", b"{", b"null", b"1", b'"card"', b"[]", b"[1, 2]", b"{}", b"\x00" * 100, b"\xff\xfe{}", b"PK\x03\x04")
    yield text[:-1].encode()
    yield text.encode("utf-16")
    yield text.encode("utf-32")
    yield text.encode("utf-8-sig")
    yield text.replace('"d"', '"d\u00e9"').encode("latin-1")
    yield (text + text).encode()
    yield text.replace("{", "{'a': 1,", 1).encode()
    yield text.replace("{", "{,", 1).encode()
    yield text.replace("{", '{"temperature": 9,', 1).encode()  # twice
    yield text.replace('{"size"', '{"size": 32, "size"', 1).encode()
    yield text.replace('"lr": 0.1', '"lr": ' + "[" * 150 + "]" * 150).encode()
    yield text.replace('"lr": 0.1', '"lr": ' + "[" * 100_000 + "]" * 100_000).encode()
    yield text.replace('"lr": 0.1', '"lr": ' + '{"a":' * 50_000 + "1" + "}" * 50_000).encode()
    yield text.replace('"lr": 0.1', '"lr": ' + "9" * 10_000).encode()
    yield text.replace('"lr": 0.1', '"lr": 0.1, "bytes": "\\ud83d"').encode()
    yield text.replace('"lr": 0.1', '"lr": 0.1, "\\udfff": 1').encode()
    yield text.replace('"lr": 0.1', '"lr": 0x1').encode()
    yield text.replace('"lr": 0.1', '"lr": .1').encode()
    yield text.replace("}", " // a remark\n}", 1).encode()


def test_content_that_is_not_strict_json_is_refused(card: dict[str, Any], refuse: Callable[[bytes], None]) -> None:
    text = json.dumps(card)
    found = list(contents(text))
    assert len(set(found)) == len(found) and text.encode() not in found
    for content in found:
        refuse(content)


@pytest.mark.parametrize("size", [16, 33, 100, 1000])
def test_input_size_that_a_unet_cannot_halve_is_refused(bundles: Path, tmp_path: Path, size: int) -> None:
    content = json.loads((bundles / "segmenter" / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps(altered(content, "input.size", size)))
    with pytest.raises(BundleError, match=rf"input\.size must be a multiple of 32 .*got {size}"):
        read_card(tmp_path, "segmenter", SegmenterCard)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("input.size", size) for size in (16, 33, 250)),
        *(("temperature", temperature) for temperature in (1e-3, 1, 1000)),
        *(("logit_bias", [bias] * 3 + [-bias] * 4) for bias in (1000, -1000.0, 0)),
        *(("input.mean", [mean] * 3) for mean in (0, 1.0)),
        *(("input.std", [std] * 3) for std in (0.001, 10)),
        *(("crop.margin_fraction", margin) for margin in (0, 10, 3)),
        ("crop", {"whole_image": True, "keep_background": False}),
        ("crop", {"margin_fraction": 10, "border": "reflect"}),
        ("malignant", []),
    ],
)
def test_card_within_the_bounds_gives_finite_predictions(
    card: dict[str, Any], bundles: Path, tmp_path: Path, key: str, value: Any
) -> None:
    folder = shutil.copytree(bundles / "classifier", tmp_path / "classifier")
    (folder / CARD).write_text(json.dumps(altered(card, key, value)))
    ensemble = ClassifierEnsemble(
        [TorchClassifier(load_classifier(folder), "cpu")], views=VIEWS["flips"], explained="predicted", batch_size=8
    )
    pipeline = Pipeline(Localizer(None, start=MaskSource.CONTOUR), ensemble)
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    (finding,) = pipeline([image])
    assert math.isclose(sum(finding.probabilities.values()), 1)
    assert finding.p_malignant is None or 0 <= finding.p_malignant <= 1 + 1e-9
    assert finding.class_map is not None and finding.tta_spread is not None
    assert np.isfinite(finding.class_map.values).all() and math.isfinite(finding.tta_spread)
