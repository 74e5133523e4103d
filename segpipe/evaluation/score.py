"""Scores of a run: its results joined with the ground truth."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.bundle.card import ClassifierCard
from segpipe.errors import DatasetError
from segpipe.evaluation.heatmap_metrics import heatmap_metrics
from segpipe.evaluation.plots import (
    draw_confusion_matrix,
    draw_precision_recall_curves,
    draw_reliability,
    draw_roc_curves,
    draw_worst_masks,
    draw_worst_predictions,
)
from segpipe.evaluation.run import Run, read_run
from segpipe.evaluation.similar import similar_metrics
from segpipe.evaluation.text import describe_test_set
from segpipe.evaluation.truth import GroundTruth
from segpipe.io.files import encode_json, write_file
from segpipe.io.images import read_mask
from segpipe.io.passes import working
from segpipe.io.run_files import METRICS, PLOT_FOLDER
from segpipe.io.storage import content_hash
from segpipe.metrics.bootstrap import ImageRows, WeightedMetric, Weights, join_groups, score_groups, with_intervals
from segpipe.metrics.classification import classes_left_out, score_predictions
from segpipe.metrics.screening import screening_metrics
from segpipe.metrics.segmentation import dice, jaccard, score_masks
from segpipe.metrics.trust import COLORS, DEFAULT_RULES
from segpipe.metrics.trust_scores import trust_metrics
from segpipe.types import BoolMask, FloatArray

Metrics = dict[str, Any]

RESAMPLES = 1000
PLOTS = {
    "confusion_matrix.png": draw_confusion_matrix,
    "roc.png": draw_roc_curves,
    "precision_recall.png": draw_precision_recall_curves,
    "reliability.png": draw_reliability,
}


def score_run(
    output: Path,
    truth: GroundTruth,
    files: Sequence[tuple[Path, Path]] = (),
    *,
    heatmaps: Callable[[Run], pd.DataFrame] | None = None,
) -> Metrics:
    """Score the results of a run, and write `metrics.json` and `plots/`.

    Args:
        output: Folder of the run, see `read_run`.
        truth: Ground truth of its images, by their names.
        files: Images, each with its path relative to the folder of the run's images; without them the worst cases are not drawn.
        heatmaps: Test of the heatmaps, see `segpipe.evaluation.heatmap_faithfulness.HeatmapTest`; None for no test.

    Returns:
        Content of `metrics.json`.

    Raises:
        DatasetError: No image of the run has a label, none has a true mask, or a true mask does not have the size of its image.
    """
    run = read_run(output, files)
    truth = truth.match_images({path: run.image_files.get(path) for path in run.results["path"]}).keep_classes(run.codes)
    (output / PLOT_FOLDER).mkdir(exist_ok=True)
    parts: dict[str, Metrics] = {}
    with working("metrics and plots"):
        if truth.diagnoses is not None:
            parts["classification"] = _score_diagnoses(run, truth.diagnoses, truth)
        if truth.masks is not None:
            parts["segmentation"] = _score_masks(run, truth.masks, truth)
    metrics: Metrics = {"images": len(run.results), "mask_sources": count_sources(run.results["mask_source"])}
    metrics |= {"groups": join_groups({name: part.pop("groups") for name, part in parts.items()})} | parts
    measured = pd.DataFrame() if heatmaps is None else heatmaps(run)
    if len(measured):
        with working("metrics of the heatmaps"):
            metrics["heatmaps"] = heatmap_metrics(measured, truth, resamples=RESAMPLES)
    metrics["pipeline"] = dict(run.pipeline)
    metrics["left_out"] = {reason: list(images) for reason, images in truth.left_out.items()}
    write_metrics(output / METRICS, metrics)
    return metrics


def segmenter_test_metrics(metrics: Metrics) -> Metrics:
    """Select the metrics of a test for the card of a segmenter.

    Returns:
        Metrics of the localizer end to end, and under `segmenter_alone` those of the segmenter.
    """
    return {**metrics["segmentation"], "segmenter_alone": metrics["segmenter_alone"]}


def classifier_test_metrics(metrics: Metrics) -> Metrics:
    """Select the metrics of a test for the card of a classifier.

    Returns:
        Metrics of the classifier; `groups`, `mask_sources` and `pipeline` of the run; `heatmaps` if they were tested; and under
        `localizer` the metrics of the masks that the crops were cut by, if true masks were known.
    """
    of_run = {name: metrics[name] for name in ("groups", "mask_sources", "pipeline", "heatmaps") if name in metrics}
    localizer = {"localizer": metrics["segmentation"]} if "segmentation" in metrics else {}
    return {**metrics["classification"], **of_run, **localizer}


def count_sources(sources: Iterable[str]) -> dict[str, int]:
    """Count the images of each mask source, the most frequent first."""
    return dict(Counter(map(str, sources)).most_common())


def card_with_test_metrics(card: ClassifierCard, metrics: Metrics) -> ClassifierCard:
    """Add test metrics to a card and its rules."""
    values = metrics["classification"]["metrics"]
    points = tuple(
        replace(point, test={name: values[f"{name}_flagged_{point.target}"] for name in ("sensitivity", "specificity")})
        for point in card.operating_points
    )
    measured = {name: values[name] for color in COLORS for name in values if name.endswith(f"_{color}")}
    rules = replace(card.trust or DEFAULT_RULES, test=measured)
    return replace(card, metrics=classifier_test_metrics(metrics), operating_points=points, trust=rules)


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write metrics as JSON; an undefined metric is null."""
    write_file(path, encode_json(metrics))


def _score_diagnoses(run: Run, diagnoses: Mapping[str, str], truth: GroundTruth) -> Metrics:
    scored = run.labeled(diagnoses)
    if scored.empty:
        raise DatasetError(
            f"labels must name at least one of the {len(run.results)} images, got none; name them by their path below the folder"
        )
    image_ids, predictions = list(scored["image_id"]), run.predictions(scored, diagnoses)
    for name, draw in PLOTS.items():
        draw(predictions, run.folder / PLOT_FOLDER / name)
    if run.image_files:
        draw_worst_predictions(run, scored, predictions)
    scores = (
        partial(score_predictions, predictions),
        screening_metrics(scored, predictions, malignant=run.malignant, points=run.operating_points),
        run.set_metrics(scored, predictions),
        similar_metrics(scored, predictions),
        trust_metrics(scored, predictions),
    )
    lesions = truth.lesions_of(image_ids)

    def metric(weights: Weights) -> dict[str, float | None]:
        return {name: value for score in scores if score is not None for name, value in score(weights).items()}

    def metric_of(rows: ImageRows) -> WeightedMetric:
        return partial(score_predictions, predictions.select(rows))

    return {
        "images": len(scored),
        "images_without_label": len(run.results) - len(scored),
        "intervals_over": truth.interval_unit(image_ids),
        "classes_left_out": classes_left_out(predictions),
        "operating_points": list(run.operating_points),
        "metrics": with_intervals(metric, lesions, resamples=RESAMPLES),
        "groups": score_groups(_attributes(scored, truth), lesions, metric_of),
        "component": "ensemble" if isinstance(run.pipeline.get("classifier"), list) else "classifier",
        "test_set": _describe(scored["sha256"], [diagnoses[image_id] for image_id in image_ids], truth),
    }


def _describe(image_hashes: Iterable[str], true_values: Sequence[str], truth: GroundTruth) -> dict[str, Any]:
    return describe_test_set(list(image_hashes), true_values, dataset=truth.dataset, part=truth.part)


def _attributes(scored: pd.DataFrame, truth: GroundTruth) -> dict[str, list[str]]:
    return {"mask_source": list(scored["mask_source"]), **truth.attributes_of(list(scored["image_id"]))}


def _score_masks(run: Run, true_masks: Mapping[str, Path], truth: GroundTruth) -> Metrics:
    scored = run.results[run.results["image_id"].isin(true_masks)]
    if scored.empty:
        raise DatasetError(
            f"masks must hold a mask for at least one image of the run ({len(run.results)}), got none; "
            "name them IMAGE_segmentation.png"
        )
    image_ids = list(scored["image_id"])
    rows = zip(scored["path"], image_ids, strict=True)
    pairs = ((run.read_mask(path), read_mask(true_masks[image_id])) for path, image_id in rows)
    overlaps = measure_overlaps(pairs, image_ids)
    if run.image_files:
        draw_worst_masks(run, scored, true_masks, overlaps[:, 0])
    return {
        "images_without_mask": len(run.results) - len(scored),
        **score_overlaps(overlaps, image_ids, truth),
        "groups": score_groups(
            _attributes(scored, truth), truth.lesions_of(image_ids), lambda rows: partial(score_masks, *overlaps[rows].T)
        ),
        "component": "localizer",
        "mask_sources": count_sources(scored["mask_source"]),
        "test_set": describe_masks(scored["sha256"], [true_masks[image_id] for image_id in image_ids], truth),
    }


def describe_masks(image_hashes: Iterable[str], true_masks: Sequence[Path], truth: GroundTruth) -> dict[str, Any]:
    """Describe a test set of masks, see `segpipe.evaluation.text.describe_test_set`.

    Args:
        image_hashes: SHA-256 of the file of each scored image.
        true_masks: File of the true mask of each image, in the same order.
        truth: Ground truth with the names of the data set and its part.
    """
    return _describe(image_hashes, [str(content_hash(path)) for path in true_masks], truth)


def measure_overlaps(pairs: Iterable[tuple[BoolMask, BoolMask]], image_ids: Sequence[str]) -> FloatArray:
    """Measure Dice and Jaccard of each image, shape (N, 2).

    Args:
        pairs: Predicted and true mask of each image, bool, shape (H, W); an iterator keeps only one pair in memory.
        image_ids: Ids of the images, in the same order.

    Raises:
        DatasetError: A true mask does not have the size of its image.
    """
    return np.array([measure_overlap(*pair, image_id) for pair, image_id in zip(pairs, image_ids, strict=True)])


def measure_overlap(predicted: BoolMask, true: BoolMask, image_id: str) -> tuple[float, float]:
    """Measure Dice and Jaccard of one image, see `measure_overlaps`."""
    if predicted.shape != true.shape:
        raise DatasetError(f"the true mask of {image_id} must have the size of its image, {predicted.shape}, got {true.shape}")
    return dice(predicted, true), jaccard(predicted, true)


def score_overlaps(overlaps: FloatArray, image_ids: Sequence[str], truth: GroundTruth) -> Metrics:
    """Compute the metrics of masks, with intervals.

    Args:
        overlaps: Dice and Jaccard of each image, shape (N, 2).
        image_ids: Ids of the images, in the same order.
        truth: Lesion of each image, over which the intervals are computed.

    Returns:
        `images`, `intervals_over` and `metrics`.
    """
    return {
        "images": len(overlaps),
        "intervals_over": truth.interval_unit(image_ids),
        "metrics": with_intervals(partial(score_masks, *overlaps.T), truth.lesions_of(image_ids), resamples=RESAMPLES),
    }
