"""Scores of a segmenter alone and of the localizer."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from tiny import StandInUnet

from segpipe.bundle.card import SegmenterBundle
from segpipe.evaluation.score import measure_overlaps, score_overlaps, segmenter_test_metrics
from segpipe.evaluation.segmenter_alone import score_segmenter
from segpipe.evaluation.truth import dataset_truth
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchSegmenter
from segpipe.io.images import read_image, read_mask
from segpipe.types import BoolMask

pytestmark = pytest.mark.usefixtures("few_resamples")


def values(metrics: dict[str, Any], part: str = "classification") -> dict[str, Any]:
    return {name: metric["value"] for name, metric in metrics[part]["metrics"].items()}


def expected_metrics(masks: Sequence[BoolMask], table: pd.DataFrame) -> dict[str, Any]:
    pairs = [(mask, read_mask(Path(path))) for mask, path in zip(masks, table["mask_path"], strict=True)]
    image_ids = list(table["image_id"])
    return score_overlaps(measure_overlaps(pairs, image_ids), image_ids, dataset_truth(table))


def test_segmenter_and_localizer_are_both_scored(segmenter: SegmenterBundle, table: pd.DataFrame, tmp_path: Path) -> None:
    metrics = score_segmenter(TorchSegmenter(segmenter, "cpu"), table.assign(part="test"), tmp_path / "test", dataset="drawn")
    images = [read_image(Path(path)) for path in table["image_path"]]
    localizer = Localizer(TorchSegmenter(segmenter, "cpu"))
    alone = [cv2.resize(probs, (80, 60)) > 0.5 for probs in localizer.segment(images)[0]]
    for part, masks in (("segmenter_alone", alone), ("segmentation", [localization.mask for localization in localizer(images)])):
        assert metrics[part].items() >= expected_metrics(masks, table).items()
    assert metrics["segmentation"]["intervals_over"] == metrics["segmenter_alone"]["intervals_over"] == "lesion"
    assert (metrics["segmentation"]["component"], metrics["segmenter_alone"]["component"]) == ("localizer", "segmenter")
    assert sum(metrics["mask_sources"].values()) == metrics["images"] == 10
    assert metrics["segmentation"]["mask_sources"] == metrics["mask_sources"]
    test_set = metrics["segmenter_alone"]["test_set"]
    assert test_set == metrics["segmentation"]["test_set"]
    assert (test_set["dataset"], test_set["part"], test_set["images"]) == ("drawn", "test", 10)
    assert json.loads((tmp_path / "test" / "metrics.json").read_text()) == metrics
    assert read_image(tmp_path / "test" / "predictions.png").shape[1] == 1280


@pytest.mark.parametrize(("logit", "dice"), [(-9.0, 0.0), (9.0, None)])
def test_untrained_segmenter_is_not_scored_by_its_fallback(
    segmenter: SegmenterBundle, table: pd.DataFrame, tmp_path: Path, logit: float, dice: float | None
) -> None:
    model = StandInUnet(partial(constant, logit))
    metrics = score_segmenter(TorchSegmenter(replace(segmenter, model=model), "cpu"), table, tmp_path)
    true_areas = [read_mask(Path(path)).mean() for path in table["mask_path"]]
    expected = np.mean([2 * area / (1 + area) for area in true_areas]) if dice is None else dice
    assert values(metrics, "segmenter_alone")["dice"] == pytest.approx(expected)
    assert "unet" not in metrics["mask_sources"]
    assert metrics["mask_sources"]["contour"] > 0
    assert values(metrics, "segmentation")["dice"] > 0.5
    card = segmenter_test_metrics(metrics)
    assert card["segmenter_alone"] == metrics["segmenter_alone"]
    assert (card["component"], card["mask_sources"]) == ("localizer", metrics["mask_sources"])


def constant(logit: float, images: torch.Tensor) -> torch.Tensor:
    """Return the same logit for each pixel."""
    return torch.full_like(images[:, :1], logit)
