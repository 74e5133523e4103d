"""Evaluation is prediction plus labels: the results of a run, joined with what is known of its images."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.data.annotations import find_masks, read_labels
from segpipe.data.splits import read_split
from segpipe.errors import DatasetError
from segpipe.evaluation.bootstrap import WeightedMetric, bootstrap_intervals, image_counts
from segpipe.evaluation.classification import classes_left_out, score_probs
from segpipe.evaluation.plots import draw_confusion_matrix, draw_precision_recall_curves, draw_reliability, draw_roc_curves
from segpipe.evaluation.segmentation import dice, jaccard, score_masks
from segpipe.image_io import BoolMask, read_mask

Metrics = dict[str, Any]
PLOTS = {
    "confusion_matrix.png": draw_confusion_matrix,
    "roc.png": draw_roc_curves,
    "precision_recall.png": draw_precision_recall_curves,
    "reliability.png": draw_reliability,
}


@dataclass(frozen=True)
class Truth:
    """What is known of images, by image id (file stem).

    Attributes:
        diagnoses: code of each labelled image; None where nothing is labelled.
        masks: file of each true mask; None where there are none.
        lesions: lesion id of each image; empty where none are known.
    """

    diagnoses: Mapping[str, str] | None = None
    masks: Mapping[str, Path] | None = None
    lesions: Mapping[str, str] = field(default_factory=dict)

    def interval_unit(self, image_ids: Sequence[str]) -> str:
        """What the bootstrap draws: a `lesion`, or an `image` where the lesion of none of these images is known."""
        return "lesion" if any(image_id in self.lesions for image_id in image_ids) else "image"

    def groups(self, image_ids: Sequence[str]) -> list[str]:
        """The lesion of each image; an image without one stands for itself."""
        return [self.lesions.get(image_id, f"image {image_id}") for image_id in image_ids]


def read_truth(*, labels: Path | None, masks: Path | None, split: Path | None = None) -> Truth:
    """Read what is known of images.

    Args:
        labels: table of diagnoses, see `read_labels`; its lesion ids are used where it has them.
        masks: folder of true masks.
        split: where lesion ids are taken from otherwise.

    Raises:
        DatasetError: a table cannot be used.
    """
    table = None if labels is None else read_labels(labels).drop_duplicates("image_id")
    diagnoses = None if table is None else dict(zip(table["image_id"], table["dx"], strict=True))
    lesions = _lesions_of(table) or _lesions_of(None if split is None else read_split(split))
    return Truth(diagnoses, None if masks is None else find_masks(masks), lesions)


def _lesions_of(table: pd.DataFrame | None) -> dict[str, str]:
    if table is None or "lesion_id" not in table.columns:
        return {}
    known = table.dropna(subset="lesion_id")
    return dict(zip(known["image_id"], known["lesion_id"].astype(str), strict=True))


def score_run(output: Path, truth: Truth) -> Metrics:
    """Score the results in a folder; writes `metrics.json` and `plots/`.

    Args:
        output: of the run, with `results.csv` and `masks/`.
        truth: of its images.

    Returns:
        What was written into `metrics.json`.

    Raises:
        DatasetError: no image of the run has a label, or none has a mask, or a mask does not fit its image.
    """
    results = pd.read_csv(output / "results.csv", keep_default_na=False)
    results["image_id"] = [Path(path).stem for path in results["path"]]
    metrics: Metrics = {"images": len(results), "mask_sources": results["mask_source"].value_counts().to_dict()}
    if truth.diagnoses is not None:
        metrics["classification"] = _score_diagnoses(results, truth.diagnoses, truth, output / "plots")
    if truth.masks is not None:
        metrics["segmentation"] = _score_masks(results, truth.masks, truth, output)
    write_metrics(output / "metrics.json", metrics)
    return metrics


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write figures as JSON."""
    path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def with_intervals(metric: WeightedMetric, groups: Sequence[str]) -> Metrics:
    """Each figure with its 95 % bootstrap interval: `{"value", "low", "high"}`, None where one does not exist."""
    intervals = bootstrap_intervals(metric, groups)
    figures = metric(image_counts(None, len(groups)))
    return {
        name: {
            "value": value,
            "low": intervals[name].low if name in intervals else None,
            "high": intervals[name].high if name in intervals else None,
        }
        for name, value in figures.items()
    }


def _score_diagnoses(results: pd.DataFrame, diagnoses: Mapping[str, str], truth: Truth, plots: Path) -> Metrics:
    codes = [name.removeprefix("p_") for name in results.columns if name.startswith("p_") and name != "p_malignant"]
    known = {image_id: code for image_id, code in diagnoses.items() if code in codes}
    scored = results[results["image_id"].isin(known)]
    if scored.empty:
        raise DatasetError(
            f"labels must name at least one of the {len(results)} images by its file name without ending, got none"
        )
    probs = scored[[f"p_{code}" for code in codes]].to_numpy(dtype=np.float64)
    image_ids = list(scored["image_id"])
    labels = np.array([codes.index(known[image_id]) for image_id in image_ids])
    plots.mkdir(exist_ok=True)
    for name, draw in PLOTS.items():
        draw(probs, labels, codes, plots / name)
    return {
        "images": len(scored),
        "images_without_label": len(results) - len(scored),
        "intervals_over": truth.interval_unit(image_ids),
        "classes_left_out": classes_left_out(labels, codes),
        "metrics": with_intervals(lambda weights: score_probs(probs, labels, codes, weights), truth.groups(image_ids)),
    }


def _score_masks(results: pd.DataFrame, true_masks: Mapping[str, Path], truth: Truth, output: Path) -> Metrics:
    scored = results[results["image_id"].isin(true_masks)]
    if scored.empty:
        raise DatasetError(
            f"masks must hold a mask for at least one of the {len(results)} images, got none; name them IMAGE_segmentation.png"
        )
    image_ids = list(scored["image_id"])
    pairs = (
        (read_mask(_written_mask(output, Path(path))), read_mask(true_masks[image_id]))
        for path, image_id in zip(scored["path"], image_ids, strict=True)
    )
    return {"images_without_mask": len(results) - len(scored)} | score_mask_pairs(pairs, image_ids, truth)


def _written_mask(output: Path, relative: Path) -> Path:
    """Where a run wrote the mask of an image, see `segpipe.inference.source.result_names`."""
    with_ending, without = (output / "masks" / relative.with_name(f"{name}.png") for name in (relative.name, relative.stem))
    return with_ending if with_ending.is_file() else without


def score_mask_pairs(pairs: Iterable[tuple[BoolMask, BoolMask]], image_ids: Sequence[str], truth: Truth) -> Metrics:
    """Score predicted masks against true ones, image by image.

    Args:
        pairs: predicted and true mask, bool, both (H, W) of the image; taken one by one, so they need not all be in memory.
        image_ids: of the images, in the same order.
        truth: says over what the intervals are drawn.

    Raises:
        DatasetError: a true mask has another size than its image.
    """
    overlaps = np.array([_overlaps(*pair, image_id) for pair, image_id in zip(pairs, image_ids, strict=True)])
    dices, jaccards = overlaps.T
    return {
        "images": len(overlaps),
        "intervals_over": truth.interval_unit(image_ids),
        "metrics": with_intervals(lambda weights: score_masks(dices, jaccards, weights), truth.groups(image_ids)),
    }


def _overlaps(predicted: BoolMask, true: BoolMask, image_id: str) -> tuple[float, float]:
    if predicted.shape != true.shape:
        raise DatasetError(f"the true mask of {image_id} must have the size of its image, {predicted.shape}, got {true.shape}")
    return dice(predicted, true), jaccard(predicted, true)


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
