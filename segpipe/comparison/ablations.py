"""Runs over the same images compared with the first of them, with intervals for the paired differences."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from segpipe.errors import DatasetError
from segpipe.evaluation.headline import hash_all, short_hash
from segpipe.evaluation.run import Run, read_run
from segpipe.evaluation.score import measure_overlaps
from segpipe.evaluation.truth import GroundTruth
from segpipe.io.images import read_mask
from segpipe.io.numerals import counted
from segpipe.metrics.bootstrap import Difference, WeightedMetric, compare_runs
from segpipe.metrics.classification import score_answers
from segpipe.metrics.segmentation import score_masks

CLASSIFICATION = {"macro_auroc": "macro AUROC", "balanced_accuracy": "balanced accuracy", "ece": "ECE"}
SEGMENTATION = {"dice": "localizer mean Dice", "thresholded_jaccard": "localizer thresholded Jaccard"}


def ablation_table(folders: Mapping[str, Path], truth: GroundTruth) -> str:
    """The runs as a Markdown table, one row each, the first being the reference.

    Args:
        folders: of the runs, by title.
        truth: of the images; figures of masks are shown where it has masks.

    Raises:
        DatasetError: the runs are not over the same images, or nothing is known of these.
    """
    runs = {title: read_run(folder) for title, folder in folders.items()}
    first = next(iter(runs.values()))
    truth = truth.of_images(dict.fromkeys(first.results["path"])).of_classes(first.codes)
    kinds = [set(known) for known in (truth.diagnoses, truth.masks) if known is not None]
    known = set.intersection(*kinds) if kinds else set()
    image_ids = sorted(set(first.results["image_id"]) & known)
    hashes = [_hashes_of(run, image_ids) for run in runs.values()]
    for title, run, own in zip(runs, runs.values(), hashes, strict=True):
        same_names = set(image_ids) == set(run.results["image_id"]) & known
        if not image_ids or not same_names or own != hashes[0]:
            raise DatasetError(f"all runs must be over the same images that labels= knows, got others in {title!r}")
    lesions = truth.groups(image_ids)
    columns: list[str] = []
    rows: list[list[Difference]] = [[] for _ in runs]
    for shown, metric_of in _parts(truth):
        columns += shown.values()
        metrics = {title: metric_of(run, image_ids) for title, run in runs.items()}
        for row, differences in zip(rows, compare_runs(metrics, list(shown), lesions), strict=True):
            row.extend(differences)
    head = [f"| | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    body = [f"| {title} | {' | '.join(map(_cell, row))} |" for title, row in zip(runs, rows, strict=True)]
    counts = f"{counted(len(image_ids), 'image')} of {counted(len(set(lesions)), 'lesion')}"
    count = f"{counts} (hash {short_hash(hash_all(hashes[0]))})."
    return "\n".join([*head, *body, "", count])


def _hashes_of(run: Run, image_ids: Sequence[str]) -> list[str]:
    """SHA-256 of the files of some images; equal names may stand for other pictures."""
    known = run.results[run.results["image_id"].isin(image_ids)].sort_values(["image_id", "sha256"])
    return list(known["sha256"])


def _parts(truth: GroundTruth) -> list[tuple[Mapping[str, str], Callable[[Run, Sequence[str]], WeightedMetric]]]:
    parts: list[tuple[Mapping[str, str], Callable[[Run, Sequence[str]], WeightedMetric]]] = []
    if truth.diagnoses is not None:
        parts.append((CLASSIFICATION, partial(_classification_of, truth.diagnoses)))
    if truth.masks is not None:
        parts.append((SEGMENTATION, partial(_segmentation_of, truth.masks)))
    return parts


def _classification_of(diagnoses: Mapping[str, str], run: Run, image_ids: Sequence[str]) -> WeightedMetric:
    rows = run.results.set_index("image_id", drop=False).loc[list(image_ids)]
    return partial(score_answers, run.answers(rows, diagnoses))


def _segmentation_of(masks: Mapping[str, Path], run: Run, image_ids: Sequence[str]) -> WeightedMetric:
    paths = run.results.set_index("image_id")["path"]
    pairs = ((run.mask(paths[image_id]), read_mask(masks[image_id])) for image_id in image_ids)
    return partial(score_masks, *measure_overlaps(pairs, image_ids).T)


def _cell(difference: Difference) -> str:
    value, change, low, high = difference.value, difference.change, difference.low, difference.high
    if value is None:
        return "none"
    if change is None or low is None or high is None or low == high == 0:
        return f"{value:.3f}"
    return f"{value:.3f}, {change:+.3f} ({low:+.3f} to {high:+.3f})"
