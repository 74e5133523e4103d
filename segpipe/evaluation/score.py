"""Evaluation is prediction plus labels: the results of a run, joined with what is known of its images."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.errors import DatasetError
from segpipe.evaluation.bootstrap import WeightedMetric, Weights, with_intervals
from segpipe.evaluation.classification import classes_left_out, score_answers
from segpipe.evaluation.groups import Rows, join_groups, score_groups
from segpipe.evaluation.plots import draw_confusion_matrix, draw_precision_recall_curves, draw_reliability, draw_roc_curves
from segpipe.evaluation.run import Run, read_run
from segpipe.evaluation.screening import screening_of
from segpipe.evaluation.segmentation import dice, jaccard, score_masks
from segpipe.evaluation.truth import Truth
from segpipe.evaluation.worst import draw_worst_answers, draw_worst_masks
from segpipe.image_io import BoolMask, read_mask

Metrics = dict[str, Any]
FloatArray = NDArray[np.float64]

RESAMPLES = 1000
PLOTS = {
    "confusion_matrix.png": draw_confusion_matrix,
    "roc.png": draw_roc_curves,
    "precision_recall.png": draw_precision_recall_curves,
    "reliability.png": draw_reliability,
}


def score_run(output: Path, truth: Truth, files: Sequence[tuple[Path, Path]] = ()) -> Metrics:
    """Score the results in a folder; writes `metrics.json` and `plots/`.

    Args:
        output: of the run, see `read_run`.
        truth: of its images, by their names.
        files: the images, each with its path relative to the folder of the call; without them the worst cases are not drawn.

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
    metrics: Metrics = {"images": len(run.results), "mask_sources": run.results["mask_source"].value_counts().to_dict()}
    metrics |= {"groups": join_groups({name: part.pop("groups") for name, part in parts.items()})} | parts
    metrics["left_out"] = {reason: list(images) for reason, images in truth.left_out.items()}
    write_metrics(output / "metrics.json", metrics)
    return metrics


def segmenter_figures(metrics: Metrics) -> Metrics:
    """What the card of a segmenter keeps of its test."""
    return {**metrics["segmentation"]}


def classifier_figures(metrics: Metrics) -> Metrics:
    """What the card of a classifier keeps of its test, which is one of the crops too: by groups, and by the way to the mask."""
    return {**metrics["classification"], "groups": metrics["groups"], "mask_sources": metrics["mask_sources"]}


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write figures as JSON."""
    path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def _score_diagnoses(run: Run, diagnoses: Mapping[str, str], truth: Truth) -> Metrics:
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
    screening = screening_of(scored, answers, malignant=run.malignant, point=run.operating_point)
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
        "operating_point": run.operating_point,
        "metrics": with_intervals(metric, lesions, resamples=RESAMPLES),
        "groups": score_groups(_attributes(scored, truth), lesions, metric_of),
    }


def _attributes(scored: pd.DataFrame, truth: Truth) -> dict[str, list[str]]:
    return {"mask_source": list(scored["mask_source"]), **truth.attributes_of(list(scored["image_id"]))}


def _score_masks(run: Run, true_masks: Mapping[str, Path], truth: Truth) -> Metrics:
    scored = run.results[run.results["image_id"].isin(true_masks)]
    if scored.empty:
        raise DatasetError(
            f"masks must hold a mask for at least one of the {len(run.results)} images, got none; "
            "name them IMAGE_segmentation.png"
        )
    image_ids = list(scored["image_id"])
    pairs = ((run.mask(path), read_mask(true_masks[image_id])) for path, image_id in zip(scored["path"], image_ids, strict=True))
    overlaps = measure_overlaps(pairs, image_ids)
    if run.photographs:
        draw_worst_masks(run, scored, true_masks, overlaps[:, 0])
    return {
        "images_without_mask": len(run.results) - len(scored),
        **_score_overlaps(overlaps, image_ids, truth),
        "groups": score_groups(
            _attributes(scored, truth), truth.groups(image_ids), lambda rows: partial(score_masks, *overlaps[rows].T)
        ),
    }


def score_mask_pairs(pairs: Iterable[tuple[BoolMask, BoolMask]], image_ids: Sequence[str], truth: Truth) -> Metrics:
    """Score predicted masks against true ones, image by image.

    Args:
        pairs: predicted and true mask, bool, both (H, W) of the image; taken one by one, so they need not all be in memory.
        image_ids: of the images, in the same order.
        truth: says over what the intervals are drawn.

    Raises:
        DatasetError: a true mask has another size than its image.
    """
    return _score_overlaps(measure_overlaps(pairs, image_ids), image_ids, truth)


def measure_overlaps(pairs: Iterable[tuple[BoolMask, BoolMask]], image_ids: Sequence[str]) -> FloatArray:
    """Dice and Jaccard of each image, shape (N, 2)."""
    return np.array([_overlaps(*pair, image_id) for pair, image_id in zip(pairs, image_ids, strict=True)])


def _overlaps(predicted: BoolMask, true: BoolMask, image_id: str) -> tuple[float, float]:
    if predicted.shape != true.shape:
        raise DatasetError(f"the true mask of {image_id} must have the size of its image, {predicted.shape}, got {true.shape}")
    return dice(predicted, true), jaccard(predicted, true)


def _score_overlaps(overlaps: FloatArray, image_ids: Sequence[str], truth: Truth) -> Metrics:
    return {
        "images": len(overlaps),
        "intervals_over": truth.interval_unit(image_ids),
        "metrics": with_intervals(partial(score_masks, *overlaps.T), truth.groups(image_ids), resamples=RESAMPLES),
    }


def headline(metrics: Metrics) -> str:
    """The main figures in a few lines; accuracy never stands alone."""
    shown = {
        "classification": ("accuracy", "majority_baseline", "balanced_accuracy", "sensitivity_mel", "macro_auroc", "ece"),
        "segmentation": ("dice", "jaccard", "thresholded_jaccard"),
    }
    lines = []
    for part, names in shown.items():
        figures = metrics.get(part, {}).get("metrics", {})
        lines += [_line(name, figures[name]) for name in names if figures.get(name, {}).get("value") is not None]
    return "\n".join(lines)


def _line(name: str, figure: Mapping[str, float | None]) -> str:
    interval = "" if figure["low"] is None else f"  (95 % {figure['low']:.3f} to {figure['high']:.3f})"
    return f"{name.replace('_', ' '):<22} {figure['value']:.3f}{interval}"
