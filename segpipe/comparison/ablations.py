"""Ablations: finished runs over the same images compared with a reference run."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from segpipe.errors import DatasetError
from segpipe.evaluation.run import Run, read_run
from segpipe.evaluation.score import measure_overlaps
from segpipe.evaluation.text import hash_all, short_hash
from segpipe.evaluation.truth import GroundTruth
from segpipe.io.files import counted
from segpipe.io.images import read_mask
from segpipe.metrics.bootstrap import PairedDifference, WeightedMetric, paired_differences
from segpipe.metrics.classification import score_predictions
from segpipe.metrics.segmentation import score_masks

CLASSIFICATION = {"macro_auroc": "macro AUROC", "balanced_accuracy": "balanced accuracy", "ece": "ECE"}
SEGMENTATION = {"dice": "localizer mean Dice", "thresholded_jaccard": "localizer thresholded Jaccard"}

_MetricOfRun = Callable[[Run, Sequence[str]], WeightedMetric]


def ablation_table(folders: Mapping[str, Path], truth: GroundTruth) -> str:
    """Write a Markdown table of runs, with differences from the first one.

    Args:
        folders: Folders of the runs by title; the first run is the reference.
        truth: Ground truth of the images; its masks add metrics of masks.

    Raises:
        DatasetError: The runs are not over the same images, or these have no ground truth.
    """
    runs = {title: read_run(folder) for title, folder in folders.items()}
    first = next(iter(runs.values()))
    truth = truth.match_images(dict.fromkeys(first.results["path"])).keep_classes(first.codes)
    image_ids, hashes = _common_images(runs, truth)
    lesions = truth.lesions_of(image_ids)
    columns: list[str] = []
    rows: list[list[PairedDifference]] = [[] for _ in runs]
    for titles, metric_of in _parts(truth):
        columns += titles.values()
        metrics = {title: metric_of(run, image_ids) for title, run in runs.items()}
        for row, differences in zip(rows, paired_differences(metrics, list(titles), lesions), strict=True):
            row.extend(differences)
    head = [f"| | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    body = [f"| {title} | {' | '.join(map(_cell, row))} |" for title, row in zip(runs, rows, strict=True)]
    counts = f"{counted(len(image_ids), 'image')} of {counted(len(set(lesions)), 'lesion')}"
    return "\n".join([*head, *body, "", f"{counts} (hash {short_hash(hash_all(hashes))})."])


def _common_images(runs: Mapping[str, Run], truth: GroundTruth) -> tuple[list[str], list[str]]:
    """List ids and file hashes of the images with all ground truth."""
    first = next(iter(runs.values()))
    known_ids = [set(known) for known in (truth.diagnoses, truth.masks) if known is not None]
    known = set.intersection(*known_ids) if known_ids else set()
    image_ids = sorted(set(first.results["image_id"]) & known)
    hashes = _hashes_of(first, image_ids)
    for title, run in runs.items():
        same_names = set(image_ids) == set(run.results["image_id"]) & known
        # Equal names may belong to different files.
        if not image_ids or not same_names or _hashes_of(run, image_ids) != hashes:
            raise DatasetError(f"all runs must be over the same images that labels= knows, got others in {title!r}")
    return image_ids, hashes


def _hashes_of(run: Run, image_ids: Sequence[str]) -> list[str]:
    rows = run.results[run.results["image_id"].isin(image_ids)].sort_values(["image_id", "sha256"])
    return list(rows["sha256"])


def _parts(truth: GroundTruth) -> list[tuple[Mapping[str, str], _MetricOfRun]]:
    """List the titles of metrics, and the function that computes them."""
    parts: list[tuple[Mapping[str, str], _MetricOfRun]] = []
    if truth.diagnoses is not None:
        parts.append((CLASSIFICATION, partial(_classification_of, truth.diagnoses)))
    if truth.masks is not None:
        parts.append((SEGMENTATION, partial(_segmentation_of, truth.masks)))
    return parts


def _classification_of(diagnoses: Mapping[str, str], run: Run, image_ids: Sequence[str]) -> WeightedMetric:
    rows = run.results.set_index("image_id", drop=False).loc[list(image_ids)]
    return partial(score_predictions, run.predictions(rows, diagnoses))


def _segmentation_of(masks: Mapping[str, Path], run: Run, image_ids: Sequence[str]) -> WeightedMetric:
    paths = run.results.set_index("image_id")["path"]
    pairs = ((run.read_mask(paths[image_id]), read_mask(masks[image_id])) for image_id in image_ids)
    return partial(score_masks, *measure_overlaps(pairs, image_ids).T)


def _cell(difference: PairedDifference) -> str:
    value, change, low, high = difference.value, difference.change, difference.low, difference.high
    if value is None:
        return "none"
    if change is None or low is None or high is None or low == high == 0:
        return f"{value:.3f}"
    return f"{value:.3f}, {change:+.3f} ({low:+.3f} to {high:+.3f})"
