"""Runtimes: the same findings from each, chosen by bundle, device and precision."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.saving import save_bundle
from segpipe.data.synthetic.dataset import make_image
from segpipe.diagnosis import CODES
from segpipe.errors import BundleError, ConfigError, PredictionError
from segpipe.inference import resources
from segpipe.inference.finding import Finding
from segpipe.inference.loading import load_pipeline
from segpipe.inference.onnx_runtime import OnnxClassifier, OnnxSegmenter, normalize
from segpipe.inference.runtimes import Runtime
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.io.run_files import MODEL_GRAPH
from segpipe.models.preprocessing import InputSpec, images_to_batch
from segpipe.release.export import export_in_place
from segpipe.types import RgbImage

RUNTIMES = ("onnx", "openvino")


@pytest.fixture(scope="module")
def exported(
    segmenter: SegmenterBundle, ensemble: list[ClassifierBundle], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A segmenter and three classifiers on disk, with graphs."""
    folder = tmp_path_factory.mktemp("exported")
    named = {"segmenter": segmenter} | {f"classifier{number}": bundle for number, bundle in enumerate(ensemble)}
    for name, bundle in named.items():
        save_bundle(folder / name, bundle.model, bundle.card, half=True)
        export_in_place(folder / name)
    return {name: folder / name for name in named}


@pytest.fixture(scope="module")
def photographs() -> list[RgbImage]:
    rng = np.random.default_rng(5)
    return [make_image(code, rng, (90, 120))[0] for code in CODES]


def find(exported: dict[str, Path], photographs: list[RgbImage], *, members: int = 1, **options: str) -> list[Finding]:
    classifiers = [exported[f"classifier{number}"] for number in range(members)]
    return load_pipeline(classifiers, exported["segmenter"], **options)(photographs)


def require_runtime(runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("tta", ["none", "d4", "crops"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_findings_equal_those_of_torch(
    runtime: str, tta: str, members: int, exported: dict[str, Path], photographs: list[RgbImage]
) -> None:
    require_runtime(runtime)
    expected = find(exported, photographs, members=members, tta=tta, runtime="torch")
    found = find(exported, photographs, members=members, tta=tta, runtime=runtime)
    for one, other in zip(found, expected, strict=True):
        assert one.diagnosis == other.diagnosis
        np.testing.assert_allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-4)
        np.testing.assert_allclose(one.class_map.values, other.class_map.values, atol=1e-3)
        assert (one.mask == other.mask).mean() > 0.999
        assert one.box == other.box


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_pooled_features_equal_those_of_torch(runtime: str, exported: dict[str, Path]) -> None:
    require_runtime(runtime)
    folders = [folder for name, folder in exported.items() if name.startswith("classifier")]
    loaded = (Runtime.of(name, device="cpu").load_classifiers(folders) for name in (runtime, "torch"))
    for one, other in zip(*loaded, strict=True):
        size = one.card.input.size
        squares = np.random.default_rng(0).integers(0, 256, (5, size, size, 3), np.uint8)
        found, expected = (network(squares, batch_size=2).features for network in (one, other))
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_findings_do_not_depend_on_the_batch(batch_size: int, exported: dict[str, Path], photographs: list[RgbImage]) -> None:
    pipelines = [
        load_pipeline(exported["classifier0"], exported["segmenter"], runtime="onnx", batch_size=size) for size in (8, batch_size)
    ]
    expected, found = (pipeline(photographs) for pipeline in pipelines)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-5)


def test_the_number_of_cores_changes_no_finding(exported: dict[str, Path], photographs: list[RgbImage]) -> None:
    pipeline = load_pipeline(exported["classifier0"], exported["segmenter"], runtime="onnx")
    expected = pipeline(photographs[:2])
    pipeline.use_threads(1)
    assert pipeline.threads == 1
    for one, other in zip(pipeline(photographs[:2]), expected, strict=True):
        np.testing.assert_allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-5)


def test_each_thread_has_its_own_number_of_cores(exported: dict[str, Path]) -> None:
    network, seen = OnnxSegmenter(exported["segmenter"]), list[int]()
    network.use_threads(3)
    thread = threading.Thread(target=lambda: (network.use_threads(1), seen.append(network.threads)))
    thread.start()
    thread.join()
    assert (seen, network.threads) == ([1], 3)


def test_threads_share_a_network(exported: dict[str, Path], photographs: list[RgbImage]) -> None:
    pipeline = load_pipeline(exported["classifier0"], exported["segmenter"], runtime="onnx", tta="none")
    expected = [finding.probabilities for finding in pipeline(photographs)]
    found: dict[int, list[dict[str, float]]] = {}
    threads = [
        threading.Thread(target=lambda number=number: found.update({number: [f.probabilities for f in pipeline(photographs)]}))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for probabilities in found.values():
        for one, other in zip(probabilities, expected, strict=True):
            np.testing.assert_allclose(list(one.values()), list(other.values()), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 16, 16, 3), (5, 33, 33, 3)])
def test_normalization_equals_that_of_torch(shape: tuple[int, ...]) -> None:
    import torch

    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    spec = InputSpec(shape[1], mean=(0.2, 0.5, 0.7), std=(0.1, 0.2, 0.3))
    expected = images_to_batch(images, spec, torch.device("cpu")).contiguous().numpy()
    np.testing.assert_array_equal(normalize(images, spec), expected)


def test_numbers_that_are_not_finite_are_refused(exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    network = OnnxClassifier(exported["classifier0"])
    outputs = [np.full((1, 7), np.nan, np.float32), np.zeros((1, 4, 3, 3), np.float32)]
    monkeypatch.setattr(network, "_run", lambda number, feeds: outputs)
    with pytest.raises(PredictionError, match="the classifier gave a number that is not finite"):
        network(np.zeros((1, 96, 96, 3), np.uint8), batch_size=8)


def test_auto_takes_onnx_where_there_is_a_graph(
    exported: dict[str, Path], classifier: ClassifierBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_best_device", lambda: "cpu")
    save_bundle(tmp_path / "plain", classifier.model, classifier.card)
    assert Runtime.of().choose_for(exported["classifier0"]) == "onnx"
    assert Runtime.of().choose_for(tmp_path / "plain") == "torch"
    assert Runtime.of(precision="bfloat16").choose_for(exported["classifier0"]) == "torch"
    assert Runtime("auto", "cuda", "float32").choose_for(exported["classifier0"]) == "torch"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_bundle_without_a_graph_is_refused(runtime: str, classifier: ClassifierBundle, tmp_path: Path) -> None:
    require_runtime(runtime)
    save_bundle(tmp_path / "plain", classifier.model, classifier.card)
    with pytest.raises(BundleError, match=rf"must have model.onnx for runtime={runtime}, got none; segpipe export adds it"):
        Runtime.of(runtime, device="cpu").load_classifiers([tmp_path / "plain"])


@pytest.mark.parametrize(
    ("runtime", "precision", "allowed"),
    [("onnx", "bfloat16", "float32"), ("onnx", "float16", "float32"), ("openvino", "float16", "float32, bfloat16")],
)
def test_a_precision_that_a_runtime_lacks_is_refused(runtime: str, precision: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=rf"precision must be one of {allowed} with runtime={runtime}, got {precision}"):
        Runtime.of(runtime, device="cpu", precision=precision)


def test_bfloat16_is_close(exported: dict[str, Path], photographs: list[RgbImage]) -> None:
    pytest.importorskip("openvino")
    expected = find(exported, photographs, runtime="onnx")
    found = find(exported, photographs, runtime="openvino", precision="bfloat16")
    largest = max(
        abs(one.probabilities[code] - other.probabilities[code])
        for one, other in zip(found, expected, strict=True)
        for code in CODES
    )
    assert largest < 0.1


def test_replaced_weights_are_refused(exported: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(exported["classifier0"], tmp_path / "bundle")
    bundle = load_classifier(tmp_path / "bundle")
    graph = (tmp_path / "bundle" / MODEL_GRAPH).read_bytes()
    card = (tmp_path / "bundle" / "card.json").read_bytes()
    bundle.model.linear.weight.data += 1
    save_bundle(tmp_path / "bundle", bundle.model, bundle.card, half=True)
    assert not (tmp_path / "bundle" / MODEL_GRAPH).exists()
    (tmp_path / "bundle" / MODEL_GRAPH).write_bytes(graph)
    (tmp_path / "bundle" / "card.json").write_bytes(card)
    with pytest.raises(BundleError, match="tensors must be that of"):
        OnnxClassifier(tmp_path / "bundle")


def test_maps_of_any_class_come_from_one_pass(exported: dict[str, Path], photographs: list[RgbImage]) -> None:
    network = OnnxClassifier(exported["classifier0"])
    other = TorchClassifier(load_classifier(exported["classifier0"]), "cpu")
    images = np.stack([photograph[:90, :90] for photograph in photographs])
    images = images.repeat(2, axis=1).repeat(2, axis=2)[:, :96, :96]
    found, expected = network(images, batch_size=3), other(images, batch_size=3)
    for target in (np.zeros(len(images), np.int64), np.arange(len(images)) % 7):
        np.testing.assert_allclose(found.maps(target), expected.maps(target), atol=1e-5)


SIGNAL_AFTER_RELEASE = """
import signal, sys, threading
from pathlib import Path
import numpy as np
from segpipe.inference.openvino_runtime import OpenVinoSegmenter

networks = [OpenVinoSegmenter(Path(sys.argv[1]))]
networks[0](np.zeros((1, 64, 64, 3), np.uint8))
thread = threading.Thread(target=networks.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""


def test_signal_is_handled_after_another_thread_released_openvino(exported: dict[str, Path]) -> None:
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", SIGNAL_AFTER_RELEASE, str(exported["segmenter"])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr
