"""Graphs of bundles: damaged, foreign and tampered ones are refused in one line."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file

from segpipe.bundle.card import ClassifierBundle, ClassifierCard, fingerprint
from segpipe.bundle.card_file import read_card, read_model
from segpipe.bundle.file_formats import parse_model
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.graphs import read_graph
from segpipe.bundle.records import GraphRecord
from segpipe.bundle.saving import save_bundle
from segpipe.errors import BundleError
from segpipe.io.run_files import CARD, GRADCAM_GRAPH, GRAPHS, MODEL_GRAPH, WEIGHTS
from segpipe.release.graphs import add_graphs

Change = Callable[[onnx.ModelProto], Any]


@pytest.fixture(scope="module")
def exported(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle of a classifier with its graphs."""
    folder = Path(shutil.copytree(bundles / "classifier", tmp_path_factory.mktemp("exported") / "classifier"))
    add_graphs(folder, np.zeros((1, 96, 96, 3), np.uint8), source="black")
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """Copy of that bundle, to be tampered with."""
    return Path(shutil.copytree(exported, tmp_path / "classifier"))


def read(folder: Path, name: str = MODEL_GRAPH) -> bytes:
    return read_graph(folder, name, read_card(folder, "classifier", ClassifierCard))


def replace_graph(folder: Path, content: bytes, name: str = MODEL_GRAPH) -> None:
    """Replace a graph and list its hash, as whoever tampers with a whole bundle would."""
    (folder / name).write_bytes(content)
    card = json.loads((folder / CARD).read_text())
    card["graphs"][name]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / CARD).write_text(json.dumps(card))


def tamper(folder: Path, change: Change) -> None:
    model = onnx.load(folder / MODEL_GRAPH, load_external_data=False)
    change(model)
    replace_graph(folder, model.SerializeToString())


def assert_refused(folder: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert "run segpipe export bundle.classifier=" in str(caught.value)


def external(model: onnx.ModelProto) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL)


def entry(tensor: onnx.TensorProto, key: str) -> Any:
    return next(item for item in tensor.external_data if item.key == key)


def within(node: onnx.NodeProto, tensor: onnx.TensorProto | None = None) -> Change:
    """Add a node to a graph that an attribute of another node holds."""
    inner = helper.make_graph([node], "inner", [], [], [] if tensor is None else [tensor])
    return lambda model: model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))


def foreign_tensor(location: str) -> onnx.TensorProto:
    tensor = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_an_exported_graph_is_read_as_written(folder: Path) -> None:
    for name in GRAPHS:
        assert read(folder, name) == (folder / name).read_bytes()


def test_parser_agrees_with_the_library(exported: Path) -> None:
    model = onnx.load(exported / MODEL_GRAPH, load_external_data=False)
    (graph,) = parse_model((exported / MODEL_GRAPH).read_bytes())[7]
    assert len(graph[1]) == len(model.graph.node)
    found = [[(item[1][0].decode(), item[2][0].decode()) for item in tensor.get(13, [])] for tensor in graph[5]]
    assert found == [[(item.key, item.value) for item in tensor.external_data] for tensor in model.graph.initializer]


def test_changed_byte_is_refused(folder: Path) -> None:
    content = bytearray((folder / MODEL_GRAPH).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / MODEL_GRAPH).write_bytes(content)
    assert_refused(folder, r"model\.onnx must have the SHA-256 in card\.json")


def test_missing_and_unlisted_graphs_are_refused(folder: Path) -> None:
    (folder / MODEL_GRAPH).unlink()
    with pytest.raises(BundleError, match=r"model\.onnx cannot be read \(No such file"):
        read(folder)
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"graphs": {}}))
    with pytest.raises(BundleError, match=r"card\.json must list gradcam\.onnx, got no graph"):
        read(folder, GRADCAM_GRAPH)


def test_damaged_content_is_refused_or_harmless(folder: Path) -> None:
    """Whatever the bytes are, there is no error but a BundleError."""
    original = (folder / GRADCAM_GRAPH).read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"\xff" * 100, b"\x3a" + b"\xff" * 12, *(original[: int(at)] for at in rng.integers(1, len(original), 10))]
    for at, value in zip(rng.integers(0, len(original), 60), rng.integers(0, 256, 60), strict=True):
        damaged.append(original[:at] + bytes([value]) + original[at + 1 :])
    refused = 0
    for content in damaged:
        replace_graph(folder, content, GRADCAM_GRAPH)
        try:
            read(folder, GRADCAM_GRAPH)
        except BundleError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused >= 13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.graph.node.append(helper.make_node("Run", [], ["y"], domain="evil")), "got the domain b'evil'"),
        (lambda model: model.opset_import.append(helper.make_opsetid("com.microsoft", 1)), "got the domain b'com.microsoft'"),
        (within(helper.make_node("Run", [], ["y"], domain="evil")), "got the domain b'evil'"),
        (lambda model: model.functions.add(name="f", domain="evil"), "field 25 of a model must not occur"),
        (lambda model: model.training_info.add(), "field 20 of a model must not occur"),
        (lambda model: model.graph.sparse_initializer.add(), "field 15 of a graph must not occur"),
        (lambda model: model.ClearField("graph"), "must hold one graph"),
    ],
)
def test_operators_that_are_not_standard_are_refused(folder: Path, change: Change, message: str) -> None:
    tamper(folder, change)
    assert_refused(folder, message)


LOCATIONS = ["/etc/passwd", "../model.safetensors", "./model.safetensors", "other.safetensors", "", "MODEL.SAFETENSORS"]


@pytest.mark.parametrize("location", LOCATIONS)
def test_external_data_of_another_file_are_refused(folder: Path, location: str) -> None:
    tamper(folder, lambda model: setattr(entry(external(model), "location"), "value", location))
    assert_refused(folder, r"external data must have location=model\.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        within(helper.make_node("Identity", ["w"], ["y"]), foreign_tensor("/etc/passwd")),
        within(helper.make_node("Constant", [], ["y"], value=foreign_tensor("/etc/passwd"))),
        lambda model: model.graph.node.append(helper.make_node("Constant", [], ["y"], value=foreign_tensor("/etc/passwd"))),
        lambda model: external(model).external_data.add(key="checksum", value="0"),
        lambda model: external(model).ClearField("external_data"),
        lambda model: external(model).external_data.pop(),
    ],
)
def test_other_external_data_are_refused_wherever_they_are(folder: Path, change: Change) -> None:
    tamper(folder, change)
    assert_refused(folder, r"external data must have location=model\.safetensors, offset and length")


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("text", ["4", "99999999999", "-4", " {}", "{}.0", ""])
def test_external_data_that_are_no_tensor_are_refused(folder: Path, key: str, text: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        item = entry(external(model), key)
        item.value = text.format(item.value)

    tamper(folder, edit)
    assert_refused(folder, r"external data must be a tensor of model\.safetensors")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "segmenter"),
        ("classes", ["mel", "nv"]),
        ("size", 64),
        ("mean", [0.5, 0.5, 0.5]),
        ("std", [1, 1, 1]),
        ("tensors", "0" * 64),
        ("further", 1),
    ],
)
def test_metadata_of_another_model_are_refused(folder: Path, key: str, value: object) -> None:
    def edit(model: onnx.ModelProto) -> None:
        (item,) = model.metadata_props
        item.value = json.dumps(json.loads(item.value) | {key: value})

    tamper(folder, edit)
    assert_refused(folder, f"exported for another model: {key} must be")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_damaged_metadata_are_refused(folder: Path, text: str) -> None:
    tamper(folder, lambda model: setattr(model.metadata_props[0], "value", text))
    assert_refused(folder, r"model\.onnx cannot be used")


def test_missing_and_repeated_metadata_are_refused(folder: Path) -> None:
    tamper(folder, lambda model: model.metadata_props.append(model.metadata_props[0]))
    assert_refused(folder, "an entry occurs twice")
    tamper(folder, lambda model: model.ClearField("metadata_props"))
    assert_refused(folder, "its metadata must be the entry segpipe, got none")


@pytest.mark.parametrize(("field", "value"), [("size", 128), ("mean", [0.4, 0.4, 0.4]), ("std", [1.0, 1.0, 1.0])])
def test_graph_of_another_card_is_refused(folder: Path, field: str, value: object) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"input": card["input"] | {field: value}}))
    assert_refused(folder, f"exported for another model: {field} must be")


def test_graph_with_other_weights_is_refused(folder: Path, classifier: ClassifierBundle) -> None:
    with torch.no_grad():
        classifier.model.linear.bias.add_(1)
        save_bundle(folder.parent / "other", classifier.model, classifier.card)
        classifier.model.linear.bias.sub_(1)
    shutil.copy(folder.parent / "other" / WEIGHTS, folder / WEIGHTS)
    assert_refused(folder, "exported for another model: tensors must be")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    assert_refused(folder, r"model\.safetensors is shorter than its header says")


def test_weights_are_checked_without_the_network(folder: Path) -> None:
    content, loaded = (folder / WEIGHTS).read_bytes(), load_classifier(folder)
    model = read_model(folder, "classifier", ClassifierCard)
    assert (model.card, model.sha256, model.weight_count) == (loaded.card, loaded.sha256, loaded.weight_count)
    assert model.sha256 == hashlib.sha256(content).hexdigest()
    (folder / WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"model\.safetensors is damaged, its tensors are not those that were saved"):
        read_model(folder, "classifier", ClassifierCard)
    for damaged in (b"", b"\xff" * 20, content[:7], b"\x02" + b"\0" * 7 + b"[]"):
        (folder / WEIGHTS).write_bytes(damaged)
        with pytest.raises(BundleError, match=r"model\.safetensors is damaged or no safetensors file"):
            read_model(folder, "classifier", ClassifierCard)
    (folder / WEIGHTS).unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors cannot be read"):
        read_model(folder, "classifier", ClassifierCard)
    with pytest.raises(BundleError, match=r"model\.safetensors cannot be read"):
        read(folder)


def test_weights_without_metadata_have_no_graph(folder: Path) -> None:
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS)
    assert_refused(folder, r"model\.safetensors has no hash of its tensors")


@pytest.mark.parametrize("levels", [50, 5000])
def test_nested_graphs_are_checked_at_any_depth(folder: Path, levels: int) -> None:
    def wrap(content: bytes, *tags: bytes) -> bytes:
        for tag in tags:
            length, size = len(content), b""
            while length > 0x7F:
                size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
            content = tag + size + bytes([length]) + content
        return content

    graph = wrap(b"\x3a\x04evil", b"\x0a")  # a graph with a node of a foreign domain
    for _ in range(levels):
        graph = wrap(graph, b"\x32", b"\x2a", b"\x0a")  # the graph in an attribute of a node of a graph
    replace_graph(folder, wrap(graph, b"\x3a"))
    assert_refused(folder, "got the domain b'evil'" if levels == 50 else "nested too deeply")


def test_new_metrics_keep_the_graphs_of_a_bundle(folder: Path) -> None:
    bundle = load_classifier(folder)
    before = {name: (folder / name).read_bytes() for name in GRAPHS}
    save_bundle(folder, bundle.model, replace(bundle.card, metrics={"dice": 1}))
    assert load_classifier(folder).card.graphs == bundle.card.graphs
    assert {name: read(folder, name) for name in GRAPHS} == before


@pytest.mark.parametrize("change", ["weights", "half", "input", "unlisted", "missing", "damaged"])
def test_graphs_that_do_not_fit_are_removed(folder: Path, change: str) -> None:
    bundle = load_classifier(folder)
    card = bundle.card
    if change == "weights":
        with torch.no_grad():
            bundle.model.linear.bias.add_(1)
    elif change == "input":
        card = replace(card, input=replace(card.input, size=128))
    elif change == "unlisted":
        card = replace(card, graphs={})
    elif change == "missing":
        (folder / GRADCAM_GRAPH).unlink()
    elif change == "damaged":
        (folder / MODEL_GRAPH).write_bytes(b"")
    (folder / "notes.txt").write_text("kept")
    save_bundle(folder, bundle.model, card, half=change == "half")
    assert {path.name for path in folder.iterdir()} == {CARD, WEIGHTS, "notes.txt"}
    assert load_classifier(folder).card == replace(card, graphs={})


def test_a_copy_into_another_folder_lists_no_graphs(folder: Path) -> None:
    bundle = load_classifier(folder)
    save_bundle(folder.parent / "copy", bundle.model, bundle.card)
    assert load_classifier(folder.parent / "copy").card.graphs == {}


def test_graphs_do_not_change_the_fingerprint(folder: Path) -> None:
    bundle = load_classifier(folder)
    assert bundle.card.graphs
    assert fingerprint(bundle.card, bundle.sha256) == fingerprint(replace(bundle.card, graphs={}), bundle.sha256)


def test_card_with_a_graph_of_another_name_is_refused(classifier: ClassifierBundle) -> None:
    with pytest.raises(ValueError, match=r"graphs must be among model\.onnx, gradcam\.onnx, got \.\./x"):
        replace(classifier.card, graphs={"../x": GraphRecord("0", 0.0, 1, "drawn")})
