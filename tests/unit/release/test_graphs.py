"""ONNX graphs of all networks: equal to PyTorch, without weights of their own."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions
from tiny import TRAINING, drawn_batch
from torch import Tensor, nn
from torch.nn import functional

from segpipe.bundle.card import ClassifierBundle, ClassifierCard, SegmenterCard
from segpipe.bundle.card_file import SHIPPED
from segpipe.bundle.folder import load_bundle
from segpipe.bundle.graphs import read_graph
from segpipe.bundle.saving import save_bundle
from segpipe.data.synthetic.dataset import make_image
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.errors import BundleError
from segpipe.inference.heatmap import scale_to_unit
from segpipe.inference.torch_runtime import HeadPass
from segpipe.io.run_files import CARD, GRADCAM_GRAPH, MODEL_GRAPH, WEIGHTS
from segpipe.lesion.crop import CropRule, resize_square
from segpipe.models.classifier import build_classifier
from segpipe.models.preprocessing import InputSpec, images_to_batch
from segpipe.models.unet import build_unet
from segpipe.release import graphs, tracing
from segpipe.release.graphs import add_graphs

SPEC = InputSpec(64)
# Every network of conf/classifier, each attention and both precisions.
CLASSIFIERS = [
    ("baseline_cnn", "spatial", False),
    ("convnextv2_atto", "none", True),
    ("convnextv2_nano", "channel", False),
    ("efficientnet_b0", "none", False),
    ("efficientnet_b0", "cbam", True),
    ("mobilenetv2_100", "cbam", True),
    ("mobilenetv4_conv_small_050", "none", False),
    ("resnet18", "cbam", False),
]
ENCODERS = [
    ("tu-test_efficientnet", False),
    ("tu-convnextv2_atto", True),
    ("tu-baseline_cnn", True),
    ("resnet18", False),
    ("mobilenet_v2", True),
    ("mit_b0", False),
]


def fit_statistics(model: nn.Module) -> None:
    """Fit the statistics of BatchNorm to random weights, in one pass."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1
    with torch.no_grad():
        model.train()(drawn_batch(SPEC))
    model.eval()


def drawn_images(size: int, count: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(5)
    return np.stack([resize_square(make_image(CODES[number % 7], rng, (60, 80))[0], size) for number in range(count)])


def open_graph(folder: Path, name: str) -> InferenceSession:
    """Open a graph as a runtime does: from the checked bytes, with the weights in the folder."""
    options = SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return InferenceSession(read_graph(folder, name, load_bundle(folder).card), options, providers=["CPUExecutionProvider"])


def assert_close(found: NDArray[np.float32], expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=tolerance * float(expected.abs().max()))


def assert_weights_are_referred_to(folder: Path, name: str) -> None:
    model = onnx.load(folder / name, load_external_data=False)
    assert "CastLike" not in {node.op_type for node in model.graph.node}
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    for tensor in model.graph.initializer:
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        assert external or np.prod(tensor.dims) <= tracing.INLINE_VALUES


def assert_classifier_agrees(folder: Path, sizes: Sequence[int] = (1, 3, 8)) -> None:
    bundle = load_bundle(folder)
    assert isinstance(bundle, ClassifierBundle)
    sessions = {name: open_graph(folder, name) for name in (MODEL_GRAPH, GRADCAM_GRAPH)}
    for count in sizes:
        batch = images_to_batch(list(drawn_images(bundle.card.input.size, count)), bundle.card.input, torch.device("cpu"))
        target = torch.arange(count) % len(CODES)
        with torch.no_grad():
            head_pass = HeadPass(bundle.model.head, bundle.model.features(batch))
        logits, features = sessions[MODEL_GRAPH].run(["logits", "features"], {"images": batch.contiguous().numpy()})
        (maps,) = sessions[GRADCAM_GRAPH].run(["maps"], {"features": features, "target": target.numpy()})
        assert_close(logits, head_pass.logits, 1e-4)
        assert_close(torch.from_numpy(logits).softmax(1).numpy(), head_pass.logits.softmax(1), 1e-4)
        assert_close(maps, head_pass.maps(target), 1e-4)
        assert_close(scale_to_unit(maps), torch.from_numpy(scale_to_unit(head_pass.maps(target).numpy())), 1e-3)


def assert_segmenter_agrees(folder: Path, sizes: Sequence[int] = (1, 3, 8)) -> None:
    bundle = load_bundle(folder)
    session = open_graph(folder, MODEL_GRAPH)
    for count in sizes:
        batch = images_to_batch(list(drawn_images(bundle.card.input.size, count)), bundle.card.input, torch.device("cpu"))
        (logits,) = session.run(["logits"], {"images": batch.contiguous().numpy()})
        with torch.no_grad():
            assert_close(logits, bundle.model(batch), 1e-4)


@pytest.mark.parametrize(("name", "attention", "half"), CLASSIFIERS)
def test_classifier_agrees_with_torch(name: str, attention: str, half: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments = {"name": name, "attention": attention}
    model = build_classifier(classes=len(CODES), **arguments)
    fit_statistics(model)
    card = ClassifierCard(
        arguments=arguments, input=SPEC, training=TRAINING, classes=CODES, malignant=MALIGNANT_CODES, crop=CropRule()
    )
    folder = tmp_path / "bundle"
    save_bundle(folder, model, card, half=half)
    records = add_graphs(folder, drawn_images(64, 3), source="drawn")
    assert load_bundle(folder).card.graphs == records
    assert [(name, record.images, record.source) for name, record in records.items()] == [
        (MODEL_GRAPH, 3, "drawn"),
        (GRADCAM_GRAPH, 3, "drawn"),
    ]
    assert_classifier_agrees(folder)
    for graph in records:
        assert_weights_are_referred_to(folder, graph)


@pytest.mark.parametrize(("encoder", "half"), ENCODERS)
def test_segmenter_agrees_with_torch(encoder: str, half: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments = {"encoder": encoder, "decoder_channels": [16, 16, 8, 8, 8]}
    unet = build_unet(**arguments)
    fit_statistics(unet)
    save_bundle(tmp_path / "bundle", unet, SegmenterCard(arguments=arguments, input=SPEC, training=TRAINING), half=half)
    records = add_graphs(tmp_path / "bundle", drawn_images(64, 3), source="drawn")
    assert [*records] == [MODEL_GRAPH]
    assert_segmenter_agrees(tmp_path / "bundle")
    assert_weights_are_referred_to(tmp_path / "bundle", MODEL_GRAPH)


def test_every_configured_classifier_is_tested() -> None:
    conf = Path(__file__).parents[3] / "conf" / "classifier"
    named = {
        line.partition(": ")[2] for path in conf.glob("*.yaml") for line in path.read_text().splitlines() if "name: " in line
    }
    assert named - {"???"} <= {name for name, _, _ in CLASSIFIERS}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "segmenter"])
def test_shipped_model_agrees_with_torch(kind: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHIPPED / kind, tmp_path / kind))
    records = add_graphs(folder, drawn_images(load_bundle(folder).card.input.size, 3), source="drawn")
    assert all(record.largest_difference < 1e-4 for record in records.values())
    agrees = assert_classifier_agrees if kind == "classifier" else assert_segmenter_agrees
    agrees(folder, sizes=(1, 3))


@pytest.fixture
def folder(bundles: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundles / "classifier", tmp_path / "classifier"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_export_changes_no_weights_and_is_repeatable(folder: Path) -> None:
    before, card = contents(folder), load_bundle(folder).card
    add_graphs(folder, drawn_images(96, 2), source="drawn")
    first = contents(folder)
    assert first.keys() == {WEIGHTS, CARD, MODEL_GRAPH, GRADCAM_GRAPH}
    assert first[WEIGHTS] == before[WEIGHTS]
    add_graphs(folder, drawn_images(96, 2), source="drawn")
    assert contents(folder) == first
    assert replace(load_bundle(folder).card, graphs={}) == card


def test_inputs_and_outputs_are_named_and_sized(folder: Path) -> None:
    add_graphs(folder, drawn_images(96, 1), source="drawn")
    model, gradcam = open_graph(folder, MODEL_GRAPH), open_graph(folder, GRADCAM_GRAPH)
    assert [(value.name, value.shape) for value in model.get_inputs()] == [("images", ["N", 3, 96, 96])]
    assert [(value.name, value.shape[0]) for value in model.get_outputs()] == [("logits", "N"), ("features", "N")]
    assert [(value.name, value.type) for value in gradcam.get_inputs()] == [
        ("features", "tensor(float)"),
        ("target", "tensor(int64)"),
    ]
    assert [value.name for value in gradcam.get_outputs()] == ["maps"]


def test_a_graph_that_differs_is_not_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)

    class Shifted(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features = self.model.features(images)
            return self.model.head(features) + torch.arange(7) / 100, features

    monkeypatch.setattr(tracing, "_WithFeatures", Shifted)
    with pytest.raises(BundleError, match=r"model\.onnx must differ from PyTorch by at most 0\.001, got 0\.00\d+"):
        add_graphs(folder, drawn_images(96, 2), source="drawn")
    assert contents(folder) == before


def test_weights_that_are_not_stored_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)
    monkeypatch.setattr(graphs, "stored_tensors", lambda _: {})
    with pytest.raises(BundleError, match=r"[\d,]+ values is not a tensor of model\.safetensors; use runtime=torch"):
        add_graphs(folder, drawn_images(96, 2), source="drawn")
    assert contents(folder) == before


def test_a_head_without_a_gradient_in_onnx_is_refused_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)
    monkeypatch.setattr(tracing, "_BACKWARD", {})
    with pytest.raises(BundleError, match=r"cannot be exported, .*convolution_backward") as caught:
        add_graphs(folder, drawn_images(96, 2), source="drawn")
    assert "\n" not in str(caught.value)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "images", [np.zeros((0, 96, 96, 3), np.uint8), np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 96, 96, 3))]
)
def test_images_that_are_no_inputs_are_refused(folder: Path, images: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 of the shape \(N, 96, 96, 3\)"):
        add_graphs(folder, images, source="drawn")


def test_weights_of_older_versions_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS)
    with pytest.raises(BundleError, match=r"model\.safetensors must have metadata.*output="):
        add_graphs(folder, drawn_images(96, 1), source="drawn")


@pytest.mark.parametrize("pooled", [1, 2, 3, 5, 7, 9])
def test_gradient_of_adaptive_pooling(pooled: int) -> None:
    features = torch.randn(2, 3, 5, 7, requires_grad=True)
    output = functional.adaptive_avg_pool2d(features, (pooled, pooled + 1))
    gradient = torch.randn_like(output)
    (expected,) = torch.autograd.grad(output, features, gradient)
    torch.testing.assert_close(tracing._adaptive_pooling_backward(gradient, features), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": (5, 3), "stride": (3, 2), "padding": (2, 0), "dilation": (1, 2)},
        {"kernel_size": 1, "stride": 4, "groups": 2},
    ],
)
def test_gradient_of_convolutions(options: dict[str, Any]) -> None:
    convolution = nn.Conv2d(4, 6, **options)
    features = torch.randn(2, 4, 11, 14, requires_grad=True)
    output = convolution(features)
    gradient = torch.randn_like(output)
    (expected,) = torch.autograd.grad(output, features, gradient)
    layout = (
        convolution.stride,
        convolution.padding,
        convolution.dilation,
        False,
        (0, 0),
        convolution.groups,
        [True, False, False],
    )
    found, *others = tracing._convolution_backward(gradient, features, convolution.weight, None, *layout)
    torch.testing.assert_close(found, expected)
    assert others == [None, None]
