"""Bundles: equal numbers after loading, and refusal of damaged or foreign ones."""

import copy
import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from segpipe import __version__
from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.bundle.card_file import SHIPPED
from segpipe.bundle.file_formats import IDENTITY
from segpipe.bundle.folder import load_classifier, load_segmenter
from segpipe.bundle.saving import save_bundle
from segpipe.errors import BundleError, OutputError
from segpipe.io.run_files import CARD, WEIGHTS
from segpipe.metrics.conformal import ConformalSets
from segpipe.metrics.operating_points import OperatingPoint, ValidationProbs
from segpipe.models.classifier import build_classifier
from segpipe.models.preprocessing import InputSpec

Tensors = dict[str, Tensor]

BATCH = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(bundles: Path, tmp_path: Path) -> Path:
    """Bundle of a classifier, to be damaged."""
    return Path(shutil.copytree(bundles / "classifier", tmp_path / "classifier"))


def edit_card(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))


def test_a_loaded_model_gives_the_same_numbers(bundles: Path, segmenter: SegmenterBundle, classifier: ClassifierBundle) -> None:
    with torch.no_grad():
        assert torch.equal(load_segmenter(bundles / "segmenter").model(BATCH), segmenter.model(BATCH))
        assert torch.equal(load_classifier(bundles / "classifier").model(BATCH), classifier.model(BATCH))


def test_half_precision_halves_the_file_and_keeps_close_numbers(classifier: ClassifierBundle, tmp_path: Path) -> None:
    for half in (False, True):
        save_bundle(tmp_path / str(half), classifier.model, classifier.card, half=half)
    sizes = [(tmp_path / str(half) / WEIGHTS).stat().st_size for half in (False, True)]
    assert sizes[1] < 0.7 * sizes[0]
    loaded = load_classifier(tmp_path / "True").model
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    with torch.no_grad():
        torch.testing.assert_close(loaded(BATCH).softmax(1), classifier.model(BATCH).softmax(1), rtol=0, atol=0.01)


def test_loaded_card_equals_the_saved_one(bundles: Path, segmenter: SegmenterBundle, classifier: ClassifierBundle) -> None:
    assert load_segmenter(bundles / "segmenter").card == segmenter.card
    loaded = load_classifier(bundles / "classifier").card
    assert loaded == classifier.card
    assert (type(loaded.classes), type(loaded.input.mean)) == (tuple, tuple)


def test_card_holds_versions(classifier: ClassifierBundle) -> None:
    assert classifier.card.versions.items() >= {"segpipe": __version__, "torch": torch.__version__.partition("+")[0]}.items()


def test_an_operating_point_and_metrics_are_kept(classifier: ClassifierBundle, tmp_path: Path) -> None:
    points = (OperatingPoint("mel", 0.3, 0.95, {"sensitivity": {"value": 0.9, "low": None}}), OperatingPoint("malignant", 0.5))
    validation = ValidationProbs.pack(["b" * 8, "a" * 8], np.array([1, 0]), np.full((2, 7), 1 / 7))
    metrics = {"dice": {"value": 0.9, "low": None}}
    card = replace(classifier.card, operating_points=points, validation=validation, metrics=metrics)
    save_bundle(tmp_path / "bundle", classifier.model, card)
    assert load_classifier(tmp_path / "bundle").card == card


def test_prediction_sets_are_kept_and_older_cards_have_none(classifier: ClassifierBundle, tmp_path: Path) -> None:
    classes, folder = classifier.card.classes, tmp_path / "bundle"
    sets = ConformalSets(0.9, dict.fromkeys(classes, 0.5), {code: number for number, code in enumerate(classes)})
    hashes = ["b" * 8, "a" * 8]
    validation = ValidationProbs.pack(hashes, np.array([1, 0]), np.full((2, 7), 1 / 7), lesions=["d" * 8, "c" * 8])
    card = replace(classifier.card, conformal=sets, validation=validation)
    save_bundle(folder, classifier.model, card)
    loaded = load_classifier(folder).card
    assert loaded == card and loaded.validation is not None
    assert loaded.validation.lesions == "c" * 8 + "d" * 8

    def damage(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda card: card["conformal"].update({key: value})

    for key, wrong in [
        ("coverage", 1.5),
        ("coverage", "0.9"),
        ("thresholds", dict.fromkeys(classes, 2.0)),
        ("thresholds", {"wart": 0.5}),
        ("images", dict.fromkeys(classes, 1.5)),
        ("level", 0.1),
    ]:
        save_bundle(folder, classifier.model, card)
        edit_card(folder, damage(key, wrong))
        with pytest.raises(BundleError, match=r"card\.json is damaged, .*conformal"):
            load_classifier(folder)
    for content in ({}, {"conformal": None}):
        save_bundle(folder, classifier.model, card)
        edit_card(
            folder, lambda card, content=content: (card.pop("conformal"), card["validation"].pop("lesions"), card.update(content))
        )
        older = load_classifier(folder).card
        assert older == replace(card, conformal=None, validation=replace(validation, lesions=""))


def test_single_operating_point_of_earlier_cards_is_read_with_its_test_metrics(folder: Path) -> None:
    flagged = {f"{name}_flagged": {"value": 0.9, "low": 0.8, "high": 1.0} for name in ("sensitivity", "specificity")}

    def age(card: dict[str, Any]) -> None:
        del card["operating_points"], card["validation"]
        card.update(
            operating_point={"diagnosis": "mel", "threshold": 0.3, "target_sensitivity": 0.95},
            metrics={"images": 10, "metrics": flagged},
        )

    edit_card(folder, age)
    test = {name: flagged[f"{name}_flagged"] for name in ("sensitivity", "specificity")}
    assert load_classifier(folder).card.operating_points == (OperatingPoint("mel", 0.3, 0.95, test),)
    edit_card(folder, lambda card: card.update(metrics={}))
    assert load_classifier(folder).card.operating_points == (OperatingPoint("mel", 0.3, 0.95),)
    edit_card(folder, lambda card: card.update(operating_point=None))
    assert load_classifier(folder).card.operating_points == ()
    for wrong in ({"diagnosis": "wart", "threshold": 0.5}, {"diagnosis": "mel"}, "mel", {"diagnosis": "mel", "threshold": 2}):
        edit_card(folder, lambda card, wrong=wrong: card.update(operating_point=wrong))
        with pytest.raises(BundleError, match=r"card\.json is damaged, .*operating_points"):
            load_classifier(folder)


def test_loaded_model_is_in_eval_mode_and_has_its_hash(bundles: Path, segmenter: SegmenterBundle, tmp_path: Path) -> None:
    loaded = load_segmenter(bundles / "segmenter")
    assert not any(module.training for module in loaded.model.modules())
    save_bundle(tmp_path / "same", segmenter.model, replace(segmenter.card, metrics={"dice": 1}))
    assert load_segmenter(tmp_path / "same").sha256 == loaded.sha256
    with torch.no_grad():
        next(segmenter.model.parameters()).mul_(2)
        save_bundle(tmp_path / "other", segmenter.model, segmenter.card)
        next(segmenter.model.parameters()).div_(2)
    assert load_segmenter(tmp_path / "other").sha256 != loaded.sha256


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_file_permissions_follow_the_umask(classifier: ClassifierBundle, tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        save_bundle(tmp_path / "bundle", classifier.model, classifier.card)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "bundle").iterdir()} == {mode}
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == 0o777 & ~umask


def test_bundle_is_replaced_without_leftovers(folder: Path, classifier: ClassifierBundle) -> None:
    save_bundle(folder, classifier.model, replace(classifier.card, temperature=2.0))
    assert load_classifier(folder).card.temperature == 2.0
    assert sorted(path.name for path in folder.iterdir()) == [CARD, WEIGHTS]
    assert [path.name for path in folder.parent.iterdir()] == ["classifier"]


def test_a_failed_save_leaves_the_old_bundle(folder: Path, classifier: ClassifierBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match=r"classifier: the bundle cannot be written \(No space left on device\)"):
            save_bundle(folder, classifier.model, classifier.card)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["classifier"]


def test_the_wrong_kind_is_refused(bundles: Path) -> None:
    with pytest.raises(BundleError, match=r"must be the bundle of a segmenter, got that of a classifier; .*bundle\.segmenter="):
        load_segmenter(bundles / "classifier")
    with pytest.raises(BundleError, match="must be the bundle of a classifier, got that of a segmenter"):
        load_classifier(bundles / "segmenter")


def test_a_missing_bundle_and_missing_weights_are_refused(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"absent: a bundle must be a folder with model\.safetensors and card\.json"):
        load_classifier(folder / "absent")
    (folder / WEIGHTS).unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors cannot be read \(No such file or directory\)"):
        load_classifier(folder)


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.999])
def test_truncated_weights_are_refused(folder: Path, kept: float) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(BundleError, match=r"model\.safetensors is damaged or no safetensors file"):
        load_classifier(folder)


def test_random_bytes_and_pickled_weights_are_refused(folder: Path, classifier: ClassifierBundle) -> None:
    (folder / WEIGHTS).write_bytes(bytes(range(256)) * 40)
    with pytest.raises(BundleError, match="is damaged or no safetensors file"):
        load_classifier(folder)
    torch.save(classifier.model.state_dict(), folder / WEIGHTS)
    with pytest.raises(BundleError, match="is damaged or no safetensors file"):
        load_classifier(folder)


def first_value(value: float, dtype: torch.dtype = torch.float32) -> Callable[[Tensors], Tensors]:
    def change(state: Tensors) -> Tensors:
        weight = state["linear.weight"].to(dtype)
        weight[0, 0] = value
        return state | {"linear.weight": weight}

    return change


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float, dtype: torch.dtype) -> None:
    save_file(first_value(value, dtype)(load_file(folder / WEIGHTS)), folder / WEIGHTS)
    with pytest.raises(BundleError, match=r"linear\.weight holds values that are not finite; train or copy it again"):
        load_classifier(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first_value(1e300, torch.float64), "linear.weight holds values that are not finite"),
        (lambda state: state | {"linear.bias": torch.zeros(7, dtype=torch.int8)}, "linear.bias must be of type .*float32.*int8"),
        (lambda state: state | {"linear.bias": torch.zeros(7, dtype=torch.bool)}, "linear.bias must be of type"),
        (lambda state: state | {"linear.bias": torch.zeros(7, dtype=torch.complex64)}, "linear.bias must be of type"),
        (lambda state: {name: state[name].float() for name in state}, "num_batches_tracked must be of type .*int64.*float32"),
        (lambda state: state | {"linear.bias": torch.zeros(6)}, "size mismatch for linear.bias"),
        (lambda state: state | {"linear.bias": torch.zeros(7, 1)}, "size mismatch for linear.bias"),
        (lambda state: state | {"linear.weight": state["linear.weight"].T.contiguous()}, "size mismatch for linear.weight"),
        (lambda state: state | {"more": torch.zeros(1)}, "Unexpected key.*more"),
        (lambda state: {name: state[name] for name in state if name != "linear.bias"}, "Missing key.*linear.bias"),
        (lambda state: {name.upper(): state[name] for name in state}, "Missing key"),
        (lambda _: {}, "Missing key"),
    ],
)
def test_weights_of_another_network_are_refused(folder: Path, change: Callable[[Tensors], Tensors], message: str) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
    with pytest.raises(BundleError, match=message) as caught:
        load_classifier(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(8),
        (2**63).to_bytes(8, "little") + b"{}",
        (10**9).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}" + bytes(1000),
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        b"\x30" + bytes(7) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0',
        b"\x35" + bytes(7) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}' + bytes(4),
    ],
)
def test_false_header_is_refused(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.safetensors is damaged or no safetensors file|Missing key") as caught:
        load_classifier(folder)
    assert str(caught.value).isprintable()


def test_oversized_weights_are_not_read_into_memory(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 2**34)  # sparse
    with pytest.raises(BundleError, match=r"model\.safetensors must have at most [0-9,]+ bytes"):
        load_classifier(folder)


@pytest.mark.parametrize(
    "reorder",
    [
        lambda classes: [classes[1], classes[0], *classes[2:]],
        lambda classes: classes[::-1],
        lambda classes: ["wart", *classes[1:]],
    ],
)
def test_changed_class_order_is_detected_by_the_weights(folder: Path, reorder: Callable[[list[str]], list[str]]) -> None:
    edit_card(folder, lambda card: card.update(classes=reorder(card["classes"]), malignant=[]))
    with pytest.raises(BundleError, match=r"weights and card do not belong together .*mel.*; copy both files again"):
        load_classifier(folder)


def test_weights_of_older_versions_without_metadata_are_read(folder: Path) -> None:
    edit_card(folder, lambda card: card.update(classes=card["classes"][::-1]))
    state = load_file(folder / WEIGHTS)
    for metadata in (None, {"format": "pt"}):
        save_file(state, folder / WEIGHTS, metadata)
        assert load_classifier(folder).card.classes[-1] == "mel"


@pytest.mark.parametrize("said", ["", "{", "1", "null", "[]", "{}", '{"kind": "classifier"}', "[" * 100_000])
def test_damaged_metadata_are_refused(folder: Path, said: str) -> None:
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, {IDENTITY: said})
    with pytest.raises(BundleError, match=r"model\.safetensors is damaged"):
        load_classifier(folder)


def test_same_weights_give_the_same_file(classifier: ClassifierBundle, tmp_path: Path) -> None:
    for number in range(8):
        save_bundle(tmp_path / str(number), classifier.model, classifier.card)
    assert len({(tmp_path / str(number) / WEIGHTS).read_bytes() for number in range(8)}) == 1


@pytest.mark.parametrize("place", [0.2, 0.5, 0.999])
def test_changed_byte_of_a_tensor_is_detected(folder: Path, place: float) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[int(place * len(content))] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.safetensors is damaged, its tensors are not those that were saved"):
        load_classifier(folder)


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_shipped_weights_have_metadata(kind: str) -> None:
    with safe_open(SHIPPED / kind / WEIGHTS, "pt") as file:
        said = json.loads(file.metadata()[IDENTITY])
    card = json.loads((SHIPPED / kind / CARD).read_text())
    assert said["kind"] == card["kind"] == kind
    assert said["classes"] == card.get("classes")


@pytest.mark.parametrize("value", [float("nan"), 1e5])
def test_bundle_that_could_not_be_loaded_is_not_written(classifier: ClassifierBundle, tmp_path: Path, value: float) -> None:
    model = copy.deepcopy(classifier.model)
    with torch.no_grad():
        model.linear.weight[0, 0] = value  # 1e5 is more than float16 holds
    with pytest.raises(BundleError, match=r"linear\.weight holds values that are not finite"):
        save_bundle(tmp_path / "bundle", model, classifier.card, half=True)
    spec = replace(classifier.card.input)
    object.__setattr__(spec, "size", True)
    with pytest.raises(BundleError, match=r"input\.size"):
        save_bundle(tmp_path / "bundle", classifier.model, replace(classifier.card, input=spec))
    assert not list(tmp_path.iterdir())


def test_scores_and_settings_that_are_not_finite_are_written_as_null(classifier: ClassifierBundle, tmp_path: Path) -> None:
    training = replace(classifier.card.training, settings={"clip": float("inf"), "deep": [{"lr": float("nan")}, 1.5]})
    scores = {"images": 1, "metrics": {"ece": {"value": float("nan"), "low": None, "high": None}}}
    save_bundle(tmp_path / "bundle", classifier.model, replace(classifier.card, training=training, metrics=scores))
    loaded = load_classifier(tmp_path / "bundle").card
    assert loaded.training.settings == {"clip": None, "deep": [{"lr": None}, 1.5]}
    assert loaded.metrics["metrics"]["ece"]["value"] is None


def test_network_that_does_not_accept_the_input_size_is_refused(classifier: ClassifierBundle, tmp_path: Path) -> None:
    arguments = {"name": "test_convnext", "attention": "none"}  # halves an image too often for 16 pixels
    model = build_classifier(classes=len(classifier.card.classes), **arguments)
    save_bundle(tmp_path / "bundle", model, replace(classifier.card, arguments=arguments, input=InputSpec(16)))
    with pytest.raises(BundleError, match=r"weights and card do not belong together \(.*size"):
        load_classifier(tmp_path / "bundle")


def test_weights_of_another_model_are_refused(folder: Path, bundles: Path) -> None:
    shutil.copy(bundles / "segmenter" / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(BundleError, match=r"weights and card do not belong together .*segmenter.*classifier"):
        load_classifier(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[1, 2]", "is not that of a segpipe-bundle-1"),
        (b'{"format": "else"}', "is not that of a segpipe-bundle-1"),
    ],
)
def test_content_that_is_not_a_card_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / CARD).write_bytes(content)
    with pytest.raises(BundleError, match=rf"card\.json .*{message}"):
        load_classifier(folder)


@pytest.mark.parametrize("field", ["arguments", "input", "training", "classes", "malignant", "crop"])
def test_card_without_a_field_is_refused_with_its_name(folder: Path, field: str) -> None:
    edit_card(folder, lambda card: card.pop(field))
    with pytest.raises(BundleError, match=rf"card\.json is damaged, {field}: "):
        load_classifier(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("classes", "mel", "classes: "),
        ("classes", ["mel", "mel"], "classes must be two or more, .* got mel, mel and"),
        ("classes", [], "classes must be two or more"),
        ("malignant", ["cancer"], "must be among the classes, got cancer"),
        ("input", {"size": "large"}, r"input\.size: "),
        ("input", {"size": -1}, r"input: .*size must be 16 to 2048 .*got -1"),
        ("input", {"size": 64, "mean": [0.5]}, r"input\.mean"),
        ("crop", {"margin_fraction": -1}, "margin_fraction must be 0 or more"),
        ("temperature", 0, r"temperature must lie in \[0\.001, 1000\], got 0"),
        ("temperature", None, "temperature: "),
        ("operating_points", [{"target": "mel"}], r"operating_points\.0\.threshold: "),
        ("operating_points", [{"target": "mel", "threshold": 1.5}], r"threshold must be in \[0, 1\], got 1\.5"),
        ("operating_points", [{"target": "wart", "threshold": 0.5}], "must be among the classes, got .*wart"),
        ("operating_points", [{"target": "mel", "threshold": 0.5}] * 2, "each target once, got mel, mel"),
        ("validation", {"images": "a" * 8, "labels": "AAA=", "probs": "AAAAAA=="}, "probabilities of 7 classes"),
        ("validation", {"images": "a" * 8, "labels": "é", "probs": "AAAA"}, "validation must be base64"),
        ("validation", {"images": "a" * 8, "labels": "CQA=", "probs": "AAAA" * 9 + "AA=="}, "probabilities of 7 classes"),
        ("training", "much", "training: "),
        ("size", 1, r"size: unknown key"),
        ("crop", {"margin": 0.1}, r"crop\.margin: unknown key"),
        ("input", {"size": 64, "mean": [0.5, 0.5, True]}, r"input\.mean\.2: "),
        ("temperature", "1", "temperature: "),
        ("operating_points", [{"target": "mel", "threshold": 0.5, "level": 1}], r"operating_points\.0\.level: unknown key"),
    ],
)
def test_a_card_with_a_wrong_value_is_refused(folder: Path, field: str, value: object, message: str) -> None:
    edit_card(folder, lambda card: card.update({field: value}))
    with pytest.raises(BundleError, match=rf"card\.json is damaged, .*{message}"):
        load_classifier(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "test_efficientnet", "code": "import os"}, "unexpected keyword argument 'code'"),
        ({"name": "no_such_network", "attention": "none"}, "must be a network that timm knows, got 'no_such_network'"),
        ({"name": "hf-hub:some/model", "attention": "none"}, "must be a network that timm knows"),
        ({"name": ["test_efficientnet"], "attention": "none"}, ""),
        ({"name": "test_efficientnet", "attention": "os.system"}, "attention must be one of"),
        ({}, "missing .* 'name'"),
    ],
)
def test_unknown_arguments_of_the_builder_are_refused(folder: Path, arguments: dict[str, Any], message: str) -> None:
    edit_card(folder, lambda card: card.update(arguments=arguments))
    with pytest.raises(BundleError, match=rf"classifier: weights and card do not belong together \(.*{message}"):
        load_classifier(folder)


def test_encoder_cannot_name_a_file_or_a_download(bundles: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundles / "segmenter", tmp_path / "segmenter"))
    edit_card(folder, lambda card: card["arguments"].update(encoder="tu-hf-hub:some/model"))
    with pytest.raises(BundleError, match=r"encoder must be a network that .* knows, .* got 'tu-hf-hub:some/model'"):
        load_segmenter(folder)
