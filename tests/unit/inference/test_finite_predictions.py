"""Numbers that are not finite fail their image and no other."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from findings import drawn_finding
from PIL import Image
from torch import Tensor

from segpipe.app.analysis import analyze
from segpipe.app.uploads import Upload, decode_upload
from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.errors import ImageError, PredictionError
from segpipe.evaluation.held_out import score_classifier
from segpipe.inference import ensemble as ensemble_module
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.heatmap import ClassMap
from segpipe.inference.networks import ClassifierNetwork
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import HeadPass, TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS
from segpipe.io.images import encode_png
from segpipe.runs.folder import RunResult, run_images
from segpipe.runs.local_engine import LocalEngine
from segpipe.runs.options import RunOptions
from segpipe.runs.source import images_of_folder
from segpipe.types import RgbImage

POISON = "c.png"  # the image of this name is black, and some networks fail on it
NOT_FINITE = (float("nan"), float("inf"), -float("inf"))
MakePipeline = Callable[..., Pipeline]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photographs, one of them black."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for code, name in zip(CODES, "abcde", strict=False):
        image = make_image(code, rng, (50, 60))[0]
        Image.fromarray(image * (f"{name}.png" != POISON)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def make_pipeline(segmenter: SegmenterBundle, ensemble: list[ClassifierBundle]) -> MakePipeline:
    """A pipeline of tiny networks."""

    def make(members: int = 1, views: str = "none") -> Pipeline:
        networks = [TorchClassifier(bundle, "cpu") for bundle in ensemble[:members]]
        classifiers = ClassifierEnsemble(networks, views=VIEWS[views], explained="predicted", batch_size=20)
        return Pipeline(Localizer(TorchSegmenter(segmenter, "cpu")), classifiers)

    return make


def poison_segmenter(network: TorchSegmenter, value: float) -> None:
    """Make a segmenter fail on one pixel of a black image."""
    unet: Any = network.model
    encoder, head = unet.encoder.forward, unet.segmentation_head.forward
    black: list[Tensor] = []

    def encode(batch: Tensor) -> Any:
        black[:] = [(batch.std((2, 3)) < 1e-3).all(1)]
        return encoder(batch)

    def poisoned(decoded: Tensor) -> Tensor:
        logits: Tensor = head(decoded)
        logits[black[0], 0, 3, 3] = value
        return logits

    unet.encoder.forward, unet.segmentation_head.forward = encode, poisoned


def poison_classifier(network: ClassifierNetwork, value: float) -> None:
    """Make a classifier fail on the last view of a black crop."""
    assert isinstance(network, TorchClassifier)
    features = network.model.features

    def poisoned(batch: Tensor) -> Tensor:
        found = features(batch)
        (black,) = torch.nonzero((batch.std((2, 3)) < 1e-3).all(1), as_tuple=True)
        found[black[-1:]] = value
        return found

    network.model.features = poisoned  # type: ignore[method-assign]


def run(pipeline: Pipeline, folder: Path, workers: int = 0) -> RunResult:
    output = folder.parent / "out"
    output.mkdir(exist_ok=True)
    return run_images(pipeline, images_of_folder(folder), RunOptions(output), LocalEngine(pipeline, workers))


def assert_only_the_poisoned_image_failed(result: RunResult, output: Path, reason: str) -> None:
    assert [row["path"] for row in result.rows] == ["a.png", "b.png", "d.png", "e.png"]
    ((path, text),) = result.failures
    assert path == POISON and reason in text
    assert result.model_failed
    for name in ("results.csv", "results.jsonl", "summary.json", "failures.csv"):
        assert not re.search(r"\b(nan|inf|infinity)\b", (output / name).read_text(encoding="utf-8").lower())
    assert POISON in (output / "failures.csv").read_text()


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize(("members", "views", "workers"), [(1, "none", 0), (1, "d4", 0), (3, "crops", 0), (1, "none", 2)])
def test_classifier_failure_affects_one_image_only(
    make_pipeline: MakePipeline,
    folder: Path,
    value: float,
    members: int,
    views: str,
    workers: int,
) -> None:
    pipeline = make_pipeline(members, views)
    poison_classifier(pipeline.ensemble.networks[members // 2], value)
    result = run(pipeline, folder, workers)
    assert_only_the_poisoned_image_failed(result, folder.parent / "out", "classifier")


@pytest.mark.parametrize("value", NOT_FINITE)
def test_segmenter_failure_is_not_an_empty_mask(make_pipeline: MakePipeline, folder: Path, value: float) -> None:
    pipeline = make_pipeline()
    network = pipeline.localizer.network
    assert isinstance(network, TorchSegmenter)
    poison_segmenter(network, value)
    assert_only_the_poisoned_image_failed(run(pipeline, folder), folder.parent / "out", "segmenter")


@pytest.mark.parametrize("value", NOT_FINITE[:2])
def test_heatmap_that_is_not_finite_fails_the_image(
    make_pipeline: MakePipeline, folder: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    maps = HeadPass.maps
    monkeypatch.setattr(HeadPass, "maps", lambda *arguments: maps(*arguments) * value)
    result = run(make_pipeline(), folder)
    assert not result.rows and len(result.failures) == 5 and result.model_failed


def test_no_finding_has_numbers_that_are_not_finite(
    make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(ensemble_module, "mean_probs", lambda probs: probs.mean(0) * float("nan"))
    result = run(make_pipeline(), folder)
    assert not result.rows and len(result.failures) == 5
    with pytest.raises(PredictionError, match="not finite"):
        make_pipeline()([np.zeros((40, 40, 3), dtype=np.uint8)])


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("field", ["probabilities", "tta_spread", "class_map"])
def test_finding_refuses_numbers_that_are_not_finite(field: str, value: float) -> None:
    finding = drawn_finding(40, 50)
    bad = {"probabilities": dict(finding.probabilities) | {"mel": value}, "tta_spread": value}
    bad["class_map"] = ClassMap(np.full((7, 7), value, dtype=np.float32), "mel")
    with pytest.raises(PredictionError):
        replace(finding, **{field: bad[field]})


def test_page_refuses_the_photograph(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline()
    poison_classifier(pipeline.ensemble.networks[0], float("nan"))
    black: RgbImage = np.zeros((50, 60, 3), dtype=np.uint8)
    upload = Upload("key", "black.png", encode_png(black))
    with pytest.raises(ImageError, match="not finite"):
        analyze(pipeline, decode_upload(upload, least_side=pipeline.least_side, max_pixels=10**6))


def test_old_result_with_nan_is_computed_again(make_pipeline: MakePipeline, folder: Path) -> None:
    pipeline, journal = make_pipeline(), folder.parent / "out" / "results.jsonl"
    run(pipeline, folder)
    lines = journal.read_text().splitlines()
    row = json.loads(lines[0])
    journal.write_text("\n".join([json.dumps(row | {"confidence": float("nan")}), *lines[1:]]) + "\n")
    result = run(pipeline, folder)
    assert result.summary["images_done_before"] == 4
    assert len(result.rows) == 5 and all(np.isfinite(row["confidence"]) for row in result.rows)


def test_metrics_are_refused_where_a_model_failed(make_pipeline: MakePipeline, folder: Path) -> None:
    pipeline = make_pipeline()
    (network,) = pipeline.ensemble.networks
    poison_classifier(network, float("nan"))
    paths = sorted(folder.iterdir())
    columns = {"image_id": [path.stem for path in paths], "dx": CODES[:5], "lesion_id": list("abcde"), "mask_path": [None] * 5}
    table = pd.DataFrame(columns | {"image_path": list(map(str, paths)), "age": None, "sex": None, "localization": None})
    with pytest.raises(PredictionError, match=r"no prediction for 1 images, .*c\.png"):
        score_classifier(pipeline.localizer, network, table, folder.parent / "test", views=VIEWS["none"], batch_size=8)
    assert not (folder.parent / "test" / "metrics.json").exists()
