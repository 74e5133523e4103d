"""Evaluation is prediction plus labels: the results of a run, joined with what is known of its images."""

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
from segpipe.evaluation.headline import describe_test_set
from segpipe.evaluation.heatmap_sample import heatmap_metrics
from segpipe.evaluation.plots import (
    draw_confusion_matrix,
    draw_precision_recall_curves,
    draw_reliability,
    draw_roc_curves,
    draw_worst_answers,
    draw_worst_masks,
)
from segpipe.evaluation.run import Run, read_run
from segpipe.evaluation.truth import GroundTruth
from segpipe.io.images import read_mask, write_file
from segpipe.io.storage import content_hash
from segpipe.io.strict_json import encode_json
from segpipe.metrics.bootstrap import Rows, WeightedMetric, Weights, join_groups, score_groups, with_intervals
from segpipe.metrics.classification import classes_left_out, score_answers
from segpipe.metrics.screening import screening_of
from segpipe.metrics.segmentation import dice, jaccard, score_masks
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
    """Score the results in a folder; writes `metrics.json` and `plots/`.

    Args:
        output: of the run, see `read_run`.
        truth: of its images, by their names.
        files: the images, each with its path relative to the folder of the call; without them the worst cases are not drawn.
        heatmaps: test of heatmaps, see `segpipe.evaluation.heatmap_sample.HeatmapTest`; None leaves it out.

    Returns:
        What was written into `metrics.json`.

    Raises:
        DatasetError: no image of the run has a label, or none has a mask, or a mask does not fit its image.
    """
    run = read_run(output, files)
    truth = truth.of_images({path: run.photographs.get(path) for path in run.results["path"]}).of_classes(run.codes)
    (output / "plots").mkdir(exist_ok=True)
    parts: dict[str, Metrics] = {}
    if truth.diagnoses is not None:
        parts["classification"] = _score_diagnoses(run, truth.diagnoses, truth)
    if truth.masks is not None:
        parts["segmentation"] = _score_masks(run, truth.masks, truth)
    metrics: Metrics = {"images": len(run.results), "mask_sources": count_sources(run.results["mask_source"])}
    metrics |= {"groups": join_groups({name: part.pop("groups") for name, part in parts.items()})} | parts
    measured = pd.DataFrame() if heatmaps is None else heatmaps(run)
    if len(measured):
        metrics["heatmaps"] = heatmap_metrics(measured, truth, resamples=RESAMPLES)
    metrics["pipeline"] = dict(run.pipeline)
    metrics["left_out"] = {reason: list(images) for reason, images in truth.left_out.items()}
    write_metrics(output / "metrics.json", metrics)
    return metrics


def segmenter_figures(metrics: Metrics) -> Metrics:
    """Select what the card of a segmenter keeps of its test.

    Returns:
        The metrics of the localizer, end to end, and under `segmenter_alone` those of the segmenter.
    """
    return {**metrics["segmentation"], "segmenter_alone": metrics["segmenter_alone"]}


def classifier_figures(metrics: Metrics) -> Metrics:
    """Select what the card of a classifier keeps of its test, which is end to end.

    Returns:
        The metrics of the classifier; `groups`, `mask_sources` and `pipeline` of the run, `heatmaps` where they were tested; and
        under `localizer` the metrics of the masks that its crops came from, where true masks were known.
    """
    of_run = {name: metrics[name] for name in ("groups", "mask_sources", "pipeline", "heatmaps") if name in metrics}
    localizer = {"localizer": metrics["segmentation"]} if "segmentation" in metrics else {}
    return {**metrics["classification"], **of_run, **localizer}


def count_sources(sources: Iterable[str]) -> dict[str, int]:
    """Count the images of each mask source, the most frequent first."""
    return dict(Counter(map(str, sources)).most_common())


def scored_card(card: ClassifierCard, metrics: Metrics) -> ClassifierCard:
    """The card of a classifier with the metrics of its test, those of each operating point among them."""
    values = metrics["classification"]["metrics"]
    points = tuple(
        replace(point, test={name: values[f"{name}_flagged_{point.target}"] for name in ("sensitivity", "specificity")})
        for point in card.operating_points
    )
    return replace(card, metrics=classifier_figures(metrics), operating_points=points)


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write figures as JSON; one that does not exist is null."""
    write_file(path, encode_json(metrics))


def _score_diagnoses(run: Run, diagnoses: Mapping[str, str], truth: GroundTruth) -> Metrics:
    scored = run.labelled(diagnoses)
    if scored.empty:
        raise DatasetError(
            f"labels must name at least one of the {len(run.results)} images, got none; name them by their path below the folder"
        )
    image_ids, answers = list(scored["image_id"]), run.answers(scored, diagnoses)
    for name, draw in PLOTS.items():
        draw(answers, run.folder / "plots" / name)
    if run.photographs:
        draw_worst_answers(run, scored, answers)
    screening = screening_of(scored, answers, malignant=run.malignant, points=run.operating_points)
    lesions = truth.groups(image_ids)

    def metric(weights: Weights) -> dict[str, float | None]:
        return score_answers(answers, weights) | screening(weights)

    def metric_of(rows: Rows) -> WeightedMetric:
        return partial(score_answers, answers.of(rows))

    return {
        "images": len(scored),
        "images_without_label": len(run.results) - len(scored),
        "intervals_over": truth.interval_unit(image_ids),
        "classes_left_out": classes_left_out(answers),
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
    pairs = ((run.mask(path), read_mask(true_masks[image_id])) for path, image_id in zip(scored["path"], image_ids, strict=True))
    overlaps = measure_overlaps(pairs, image_ids)
    if run.photographs:
        draw_worst_masks(run, scored, true_masks, overlaps[:, 0])
    return {
        "images_without_mask": len(run.results) - len(scored),
        **score_overlaps(overlaps, image_ids, truth),
        "groups": score_groups(
            _attributes(scored, truth), truth.groups(image_ids), lambda rows: partial(score_masks, *overlaps[rows].T)
        ),
        "component": "localizer",
        "mask_sources": count_sources(scored["mask_source"]),
        "test_set": describe_masks(scored["sha256"], [true_masks[image_id] for image_id in image_ids], truth),
    }


def describe_masks(image_hashes: Iterable[str], true_masks: Sequence[Path], truth: GroundTruth) -> dict[str, Any]:
    """Describe the test set of masks, see `segpipe.evaluation.headline.describe_test_set`.

    Args:
        image_hashes: SHA-256 of the file of each scored image.
        true_masks: file of the true mask of each image, in the same order.
        truth: names the data set and its part.
    """
    return _describe(image_hashes, [str(content_hash(path)) for path in true_masks], truth)


def measure_overlaps(pairs: Iterable[tuple[BoolMask, BoolMask]], image_ids: Sequence[str]) -> FloatArray:
    """Dice and Jaccard of each image, shape (N, 2).

    Args:
        pairs: predicted and true mask, bool, both (H, W) of the image; taken one by one, so they need not all be in memory.
        image_ids: of the images, in the same order.

    Raises:
        DatasetError: a true mask has another size than its image.
    """
    return np.array([measure_overlap(*pair, image_id) for pair, image_id in zip(pairs, image_ids, strict=True)])


def measure_overlap(predicted: BoolMask, true: BoolMask, image_id: str) -> tuple[float, float]:
    """Dice and Jaccard of one image; the arguments are those of `measure_overlaps`."""
    if predicted.shape != true.shape:
        raise DatasetError(f"the true mask of {image_id} must have the size of its image, {predicted.shape}, got {true.shape}")
    return dice(predicted, true), jaccard(predicted, true)


def score_overlaps(overlaps: FloatArray, image_ids: Sequence[str], truth: GroundTruth) -> Metrics:
    """Compute the metrics of masks, with intervals.

    Args:
        overlaps: Dice and Jaccard of each image, shape (N, 2).
        image_ids: of the images, in the same order.
        truth: lesion of each image, over which the intervals are drawn.

    Returns:
        `images`, `intervals_over` and `metrics`.
    """
    return {
        "images": len(overlaps),
        "intervals_over": truth.interval_unit(image_ids),
        "metrics": with_intervals(partial(score_masks, *overlaps.T), truth.groups(image_ids), resamples=RESAMPLES),
    }
