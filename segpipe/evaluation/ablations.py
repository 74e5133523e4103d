"""What a change is worth: runs over the same images against the first of them, with intervals for the paired differences.

    python -m segpipe.evaluation.ablations --labels data/ham10000/HAM10000_metadata.csv \
        "as shipped=runs/classifiers/0/test" "cross-entropy=runs/classifiers/1/test"

reads the `results.csv` of each, and prints a Markdown table. With `--masks` the masks are compared too.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segpipe.errors import DatasetError, run_command
from segpipe.evaluation.bootstrap import WeightedMetric, Weights, with_intervals
from segpipe.evaluation.classification import Answers, score_answers
from segpipe.evaluation.run import Run, read_run
from segpipe.evaluation.score import measure_overlaps
from segpipe.evaluation.segmentation import score_masks
from segpipe.evaluation.truth import Truth, read_truth
from segpipe.image_io import read_mask

CLASSIFICATION = {"macro_auroc": "macro AUROC", "balanced_accuracy": "balanced accuracy", "ece": "ECE"}
SEGMENTATION = {"dice": "mean Dice", "thresholded_jaccard": "thresholded Jaccard"}


@dataclass(frozen=True)
class Difference:
    """One figure of a run against the same figure of the reference, over the same resampled lesions.

    Attributes:
        value: of the run; None where it does not exist.
        change: from the reference's; 0 for the reference itself.
        low: lower end of the 95 % interval of `change`; None where there is none.
        high: upper end.
    """

    value: float | None
    change: float | None
    low: float | None
    high: float | None


def compare_runs(metrics: Mapping[str, WeightedMetric], names: Sequence[str], lesions: Sequence[str]) -> list[list[Difference]]:
    """Set each run against the first one.

    A difference between two runs over the same images has a far narrower interval than either figure: what makes a lesion hard
    for one makes it hard for the other. So both are scored on each resample, and the difference is what the interval is of.

    Args:
        metrics: of each run by its title, see `segpipe.evaluation.bootstrap`; the first is the reference.
        names: of the figures.
        lesions: the lesion of each image, the same images in the same order in all runs.

    Returns:
        For each run its figures in the order of `names`.
    """
    reference = next(iter(metrics.values()))
    return [_differences(metric, reference, names, lesions) for metric in metrics.values()]


def _differences(
    run: WeightedMetric, reference: WeightedMetric, names: Sequence[str], lesions: Sequence[str]
) -> list[Difference]:
    def change(weights: Weights) -> dict[str, float | None]:
        ours, theirs = run(weights), reference(weights)
        return {name: _minus(ours[name], theirs[name]) for name in names}

    once = np.ones(len(lesions), np.intp)
    found = with_intervals(change, lesions)
    return [Difference(run(once)[name], *(found[name][key] for key in ("value", "low", "high"))) for name in names]


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def ablation_table(folders: Mapping[str, Path], truth: Truth) -> str:
    """The runs as a Markdown table, one row each, the first being the reference.

    Args:
        folders: of the runs, by title.
        truth: of the images; figures of masks are shown where it has masks.

    Raises:
        DatasetError: the runs are not over the same images, or nothing is known of these.
    """
    runs = {title: read_run(folder) for title, folder in folders.items()}
    known = truth.masks if truth.diagnoses is None else truth.diagnoses
    image_ids = sorted(set(next(iter(runs.values())).results["image_id"]) & set(known or ()))
    for title, run in runs.items():
        if not image_ids or set(image_ids) != set(run.results["image_id"]) & set(known or ()):
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
    count = f"{len(image_ids):,} images of {len(set(lesions)):,} lesions."
    return "\n".join([*head, *body, "", count])


def _parts(truth: Truth) -> list[tuple[Mapping[str, str], Callable[[Run, Sequence[str]], WeightedMetric]]]:
    parts: list[tuple[Mapping[str, str], Callable[[Run, Sequence[str]], WeightedMetric]]] = []
    if truth.diagnoses is not None:
        parts.append((CLASSIFICATION, partial(_classification_of, truth.diagnoses)))
    if truth.masks is not None:
        parts.append((SEGMENTATION, partial(_segmentation_of, truth.masks)))
    return parts


def _classification_of(diagnoses: Mapping[str, str], run: Run, image_ids: Sequence[str]) -> WeightedMetric:
    rows = run.results.set_index("image_id").loc[list(image_ids)]
    labels = np.array([run.codes.index(diagnoses[image_id]) for image_id in image_ids])
    return partial(score_answers, Answers(rows[[f"p_{code}" for code in run.codes]].to_numpy(np.float64), labels, run.codes))


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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m segpipe.evaluation.ablations", description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="TITLE=FOLDER", help="folders with results.csv; the first is the reference")
    parser.add_argument("--labels", type=Path, help="table of diagnoses, with lesion ids")
    parser.add_argument("--masks", type=Path, help="folder of true masks")
    given = parser.parse_args(arguments)
    folders = {title: Path(folder) for title, _, folder in (run.partition("=") for run in given.runs)}
    return run_command(lambda: ablation_table(folders, read_truth(labels=given.labels, masks=given.masks)))


if __name__ == "__main__":
    sys.exit(main())
