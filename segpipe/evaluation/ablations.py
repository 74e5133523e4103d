"""What a change is worth: runs over the same images against the first of them, with intervals for the paired differences.

    python -m segpipe.evaluation.ablations --labels data/ham10000/HAM10000_metadata.csv \
        "as shipped=runs/classifiers/0/test" "cross-entropy=runs/classifiers/1/test"

reads the `results.csv` of each, and prints a Markdown table. With `--masks` the masks are compared too.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from segpipe.errors import CommandParser, DatasetError, run_command
from segpipe.evaluation.bootstrap import WeightedMetric
from segpipe.evaluation.classification import score_answers
from segpipe.evaluation.paired import Difference, compare_runs
from segpipe.evaluation.run import Run, read_run
from segpipe.evaluation.score import measure_overlaps
from segpipe.evaluation.segmentation import score_masks
from segpipe.evaluation.titles import read_titles
from segpipe.evaluation.truth import Truth, read_truth
from segpipe.image_io import read_mask

CLASSIFICATION = {"macro_auroc": "macro AUROC", "balanced_accuracy": "balanced accuracy", "ece": "ECE"}
SEGMENTATION = {"dice": "mean Dice", "thresholded_jaccard": "thresholded Jaccard"}


def ablation_table(folders: Mapping[str, Path], truth: Truth) -> str:
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
    known = truth.masks if truth.diagnoses is None else truth.diagnoses
    image_ids = sorted(set(first.results["image_id"]) & set(known or ()))
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = CommandParser(prog="python -m segpipe.evaluation.ablations", description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="TITLE=FOLDER", help="folders with results.csv; the first is the reference")
    parser.add_argument("--labels", type=Path, help="table of diagnoses, with lesion ids")
    parser.add_argument("--masks", type=Path, help="folder of true masks")

    def work() -> str:
        given = parser.parse_args(arguments)
        return ablation_table(read_titles(given.runs), read_truth(labels=given.labels, masks=given.masks))

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
