"""Input gate: features of each runtime, scores, judgments, and reference data."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from segpipe.bundle.card import SegmenterBundle
from segpipe.bundle.folder import load_segmenter
from segpipe.bundle.references import Reference, read_reference
from segpipe.bundle.saving import save_bundle, save_graphs, save_reference
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.errors import BundleError
from segpipe.inference.evidence import ADVICE, UNLIKE_TRAINING, GateResult
from segpipe.inference.gate import Gate, TrainingFeatures, as_reference
from segpipe.inference.onnx_runtime import OnnxSegmenter
from segpipe.inference.runtimes import Runtime
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchSegmenter
from segpipe.io.run_files import GATE, MODEL_GRAPH
from segpipe.lesion.localization import MaskSource
from segpipe.release.export import export_in_place
from segpipe.types import RgbImage

RNG = np.random.default_rng(0)
DIRECTIONS = np.linalg.qr(RNG.normal(size=(6, 2)))[0].T
TRAINING = TrainingFeatures(
    mean=np.arange(6, dtype=np.float32),
    scale=np.full(6, 2, np.float32),
    directions=DIRECTIONS.astype(np.float16),
    variances=np.array([4, 2], np.float32),
    rest_variance=0.25,
)


@pytest.fixture(scope="module")
def exported(segmenter: SegmenterBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter on disk with its graph."""
    folder = tmp_path_factory.mktemp("exported") / "segmenter"
    save_bundle(folder, segmenter.model, segmenter.card)
    export_in_place(folder)
    return folder


@pytest.fixture(scope="module")
def photographs() -> list[RgbImage]:
    rng = np.random.default_rng(5)
    return [make_image(code, rng, (150, 200))[0] for code in CODES]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_features_equal_those_of_torch(
    runtime: str, exported: Path, segmenter: SegmenterBundle, photographs: list[RgbImage]
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    expected, found = (
        np.stack(Localizer(network).with_features(photographs)[1])
        for network in (TorchSegmenter(segmenter, "cpu"), Runtime.of(runtime, device="cpu").load_segmenter(exported))
    )
    assert expected.dtype == found.dtype == np.float32
    assert expected.shape == found.shape
    assert len(np.unique(expected, axis=0)) == len(photographs)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_features_do_not_depend_on_the_batch_and_leave_the_masks_as_they_are(
    segmenter: SegmenterBundle, photographs: list[RgbImage]
) -> None:
    localizer = Localizer(TorchSegmenter(segmenter, "cpu"))
    localizations, features = localizer.with_features(photographs)
    alone = [localizer.with_features([image])[1][0] for image in photographs]
    np.testing.assert_allclose(np.stack(alone), np.stack(features), atol=1e-4)
    for one, other in zip(localizations, localizer(photographs), strict=True):
        assert (one.mask == other.mask).all()
    assert Localizer(None, start=MaskSource.CONTOUR).with_features(photographs)[1] == [None] * len(photographs)


def test_graph_of_an_older_version_gives_no_features(exported: Path, photographs: list[RgbImage], tmp_path: Path) -> None:
    bundle, folder = load_segmenter(exported), tmp_path / "old"
    save_bundle(folder, bundle.model, bundle.card)
    graph = onnx.load(exported / MODEL_GRAPH, load_external_data=False)
    del graph.graph.output[1]
    content = graph.SerializeToString()
    record = replace(bundle.card.graphs[MODEL_GRAPH], sha256=hashlib.sha256(content).hexdigest())
    save_graphs(folder, replace(bundle.card, graphs={MODEL_GRAPH: record}), {MODEL_GRAPH: content})
    localizations, features = Localizer(OnnxSegmenter(folder)).with_features(photographs)
    assert features == [None] * len(photographs)
    result = Gate(as_reference(TRAINING, 1)).judge(photographs[0], localizations[0], features[0])
    assert result.score is None
    assert UNLIKE_TRAINING not in result.reasons


def test_score_is_the_mahalanobis_distance_in_units_of_the_limit() -> None:
    covariance = 0.25 * (np.eye(6) - DIRECTIONS.T @ DIRECTIONS) + DIRECTIONS.T @ np.diag([4, 2]) @ DIRECTIONS
    features = RNG.normal(size=6).astype(np.float32)
    standardized = (features - TRAINING.mean) / TRAINING.scale
    expected = np.sqrt(standardized @ np.linalg.inv(covariance) @ standardized)
    for limit in (1.0, 2.5):
        assert Gate(as_reference(TRAINING, limit)).score(features) == pytest.approx(expected / limit, rel=1e-3)
    assert Gate(as_reference(TRAINING, 1)).score(TRAINING.mean) == 0
    assert Gate().score(features) is None
    with pytest.raises(ValueError, match=r"\(N, 6\).*\(1, 5\)"):
        Gate(as_reference(TRAINING, 1)).score(features[:5])


def test_images_beyond_the_limit_are_rejected(photographs: list[RgbImage]) -> None:
    (localization,) = Localizer(None, start=MaskSource.CONTOUR)(photographs[:1])
    gate = Gate(as_reference(TRAINING, 1))
    by_rules = gate.judge(photographs[0], localization, None)
    far, near = (gate.judge(photographs[0], localization, TRAINING.mean + shift) for shift in (np.float32(9), np.float32(0)))
    assert far.reasons == (*by_rules.reasons, UNLIKE_TRAINING) and far.score > 1
    assert far.advice == tuple(ADVICE[code] for code in far.reasons)
    assert near.reasons == by_rules.reasons and near.score == 0


def test_result_as_text() -> None:
    assert (GateResult((), 0.5).text, GateResult((), 0.5).ok) == ("ok", True)
    both = GateResult(("too_dark", UNLIKE_TRAINING), 1.5)
    assert (both.text, both.ok) == ("too_dark;unlike_training", False)


def test_reference_survives_the_bundle_and_tampering_is_refused(exported: Path, tmp_path: Path) -> None:
    bundle, folder = load_segmenter(exported), tmp_path / "segmenter"
    save_bundle(folder, bundle.model, bundle.card)
    card = save_reference(folder, GATE, load_segmenter(folder).card, as_reference(TRAINING, 3.5), images=4, source="a test")
    features = np.ones(6, np.float32)
    assert Gate(read_reference(folder, GATE, card)).score(features) == Gate(as_reference(TRAINING, 3.5)).score(features)
    content = bytearray((folder / GATE).read_bytes())
    content[-1] ^= 1
    (folder / GATE).write_bytes(content)
    with pytest.raises(BundleError, match="SHA-256"):
        read_reference(folder, GATE, card)


@pytest.mark.parametrize(
    "alter",
    [
        lambda data: Reference({**data.arrays, "scale": np.zeros(6, np.float32)}, data.values),
        lambda data: Reference({**data.arrays, "mean": np.zeros(5, np.float32)}, data.values),
        lambda data: Reference({}, data.values),
        lambda data: Reference(data.arrays, {**data.values, "limit": 0}),
        lambda data: Reference(data.arrays, {}),
    ],
)
def test_data_of_something_else_are_refused(alter: Callable[[Reference], Reference]) -> None:
    with pytest.raises(BundleError, match=GATE):
        Gate(alter(as_reference(TRAINING, 1)))
