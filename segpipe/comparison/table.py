"""Comparison of classifiers as data, as a CSV table and as Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.errors import ConfigError
from segpipe.evaluation.text import images_text, markdown_table, metric_text
from segpipe.io.files import counted
from segpipe.io.run_files import BUNDLE, TEST
from segpipe.metrics.classification import LabeledPredictions
from segpipe.runs.results import write_csv

# `value`, `low` and `high`, see `segpipe.metrics.bootstrap.with_intervals`.
Estimate = Mapping[str, float | None]
NO_ESTIMATE: Estimate = {"value": None, "low": None, "high": None}

METRICS = {
    "macro_auroc": "macro AUROC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "sensitivity_mel": "melanoma sensitivity",
    "accuracy": "accuracy",
    "ece": "ECE",
}
RATE = "images_per_second"
# Folders in which a training keeps its model and its test; their names do not identify the training.
_PARTS_OF_A_TRAINING = (BUNDLE, TEST)


@dataclass(frozen=True)
class ComparedClassifier:
    """One classifier of a comparison.

    Attributes:
        title: Title in the comparison.
        bundle: Folder of its bundle.
        predictions: Predictions for the scored images.
        metrics: `METRICS` with 95 % intervals, and `images_per_second` with its range over the rounds.
        changes: Paired differences from the best classifier, for `images_per_second` the ratio.
        parameters: Number of weights.
        macs: Multiply-accumulate operations of one crop.
        seen: Number of scored images that the classifier has seen in training, or whose lesions it has; None where its card does
            not tell.
    """

    title: str
    bundle: Path
    predictions: LabeledPredictions
    metrics: Mapping[str, Estimate]
    changes: Mapping[str, Estimate]
    parameters: int
    macs: int
    seen: int | None


@dataclass(frozen=True)
class Comparison:
    """Comparison of several classifiers.

    Attributes:
        classifiers: Classifiers, the best first.
        images: Number of scored images.
        lesions: Number of their lesions; an image of an unknown lesion counts as one.
        interval_unit: Unit of the bootstrap, `lesion` or `image`.
        failed: Number of images without a result.
        majority_baseline: Majority-class baseline accuracy.
        melanomas: Number of scored images of a melanoma; None where it is not one of the classes.
        segmenter_seen: Number of scored images that the U-Net has seen, as `ComparedClassifier.seen`; 0 without a U-Net.
        test_set: Identity of the scored images, see `segpipe.evaluation.text.describe_test_set`.
    """

    classifiers: Sequence[ComparedClassifier]
    images: int
    lesions: int
    interval_unit: str
    failed: int
    majority_baseline: float
    melanomas: int | None
    segmenter_seen: int | None
    test_set: Mapping[str, Any]


def name_folders(folders: Sequence[str], titles: Sequence[str] | None = None) -> dict[str, Path]:
    """Give each folder a title, in their order.

    Args:
        folders: Folders of runs or bundles.
        titles: Title of each; None takes the names of the folders, for `bundle` and `test` that of the parent folder.

    Raises:
        ConfigError: The numbers of titles and folders differ, a title has no letter or digit, or two have the same file name.
    """
    if titles is None:
        titles = [_own_title(Path(folder)) for folder in folders]
    if len(titles) != len(folders):
        raise ConfigError(
            f"titles must be as many as there are folders, {len(folders)}, got {len(titles)}; null takes the names of the folders"
        )
    named: dict[str, str] = {}
    for title, folder in zip(titles, folders, strict=True):
        name = file_name(title)
        if not name:
            raise ConfigError(f"each of titles must hold a letter or digit, got {title!r} for {folder}; change it")
        if name in named:
            both = f"{named[name]!r} and {title!r}, both {name!r}"
            raise ConfigError(f"titles must give different file names, got {both}; set titles=[A,B]")
        named[name] = title
    return {title: Path(folder) for title, folder in zip(named.values(), folders, strict=True)}


def file_name(title: str) -> str:
    """Convert a title to a file name; empty without letters and digits."""
    return re.sub(r"[^\w.+-]+", "_", title.casefold()).strip("._") if re.search(r"\w", title) else ""


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write a comparison as CSV; undefined metrics are empty."""
    rows = [_columns(classifier, comparison) for classifier in comparison.classifiers]
    write_csv(path, list(rows[0]), [["" if value is None else str(value) for value in row.values()] for row in rows])


def comparison_text(comparison: Comparison, *, images_from: str, conditions: str) -> str:
    """Write a comparison as Markdown: metrics, differences from the best, notes.

    Args:
        comparison: Comparison to describe.
        images_from: Origin of the images, for the heading.
        conditions: Settings of the runs, for the introduction.
    """
    best, *others = comparison.classifiers
    marks = zip(comparison.classifiers, _marks(comparison), strict=True)
    titles = {classifier.title: f"{classifier.title} {mark}".strip() for classifier, mark in marks}
    metrics = markdown_table(
        ["", *_metric_titles(comparison), "parameters (millions)", "GMACs", "images/s"],
        ([titles[classifier.title], *_metric_cells(classifier)] for classifier in comparison.classifiers),
    )
    differences = markdown_table(
        ["", *METRICS.values(), "images/s, ratio"],
        ([titles[classifier.title], *_change_cells(classifier)] for classifier in others),
    )
    return "\n\n".join(
        [
            f"# {counted(len(comparison.classifiers), 'classifier')} on {images_from}",
            _introduction(comparison, conditions),
            metrics,
            f"Differences from {best.title}, paired over the same resampled {comparison.interval_unit}s:",
            differences,
            *_notes(comparison),
        ]
    )


def _own_title(folder: Path) -> str:
    folder = folder.absolute()
    return folder.parent.name if folder.name in _PARTS_OF_A_TRAINING else folder.name


def _columns(classifier: ComparedClassifier, comparison: Comparison) -> dict[str, object]:
    columns: dict[str, object] = {
        "title": classifier.title,
        "bundle": classifier.bundle,
        "images": comparison.images,
        "lesions": comparison.lesions,
        "images_seen_in_training": classifier.seen,
        "majority_baseline": comparison.majority_baseline,
    }
    for name in METRICS:
        columns |= _estimate_columns(name, classifier.metrics[name])
        columns |= _estimate_columns(f"{name}_change", classifier.changes[name])
    columns |= {"parameters_millions": classifier.parameters / 1e6, "gmacs": classifier.macs / 1e9}
    columns |= _estimate_columns(RATE, classifier.metrics[RATE]) | _estimate_columns(f"{RATE}_ratio", classifier.changes[RATE])
    test_set = comparison.test_set
    return columns | {"dataset": test_set["dataset"], "part": test_set["part"], "test_set_sha256": test_set["sha256"]}


def _estimate_columns(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate["value"], f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}


def _introduction(comparison: Comparison, conditions: str) -> str:
    unit = comparison.interval_unit
    lesions = f" of {counted(comparison.lesions, 'lesion')}" if unit == "lesion" else ""
    failed = f" ({comparison.failed} more failed)" if comparison.failed else ""
    return (
        f"{counted(comparison.images, 'image')}{lesions}{failed}; {conditions}. In parentheses: 95 % bootstrap intervals over "
        f"{unit}s; for images/s (the classifier alone, timed in turn with the others) the range over the rounds. Ordered by "
        "macro AUROC, the best first. **Not a medical device.**"
    )


def _metric_titles(comparison: Comparison) -> list[str]:
    additions = {
        "accuracy": f" (majority-class baseline: {comparison.majority_baseline:.3f})",
        "sensitivity_mel": "" if comparison.melanomas is None else f" (n = {comparison.melanomas:,})",
    }
    return [title + additions.get(name, "") for name, title in METRICS.items()]


def _metric_cells(classifier: ComparedClassifier) -> list[str]:
    return [
        *(metric_text(classifier.metrics[name]) for name in METRICS),
        f"{classifier.parameters / 1e6:.2f}",
        f"{classifier.macs / 1e9:.3f}",
        metric_text(classifier.metrics[RATE], ".1f"),
    ]


def _change_cells(classifier: ComparedClassifier) -> list[str]:
    changes = classifier.changes
    return [*(metric_text(changes[name], "+.3f") for name in METRICS), metric_text(changes[RATE], ".2f")]


def _marks(comparison: Comparison) -> Iterable[str]:
    """Number the notes of the classifiers; empty without a note."""
    number = 0
    for classifier in comparison.classifiers:
        number += classifier.seen != 0
        yield f"[{number}]" if classifier.seen != 0 else ""


def _notes(comparison: Comparison) -> list[str]:
    marked = zip(_marks(comparison), comparison.classifiers, strict=True)
    scored = {"images": comparison.images, "test_set": comparison.test_set}
    notes = [f"All classifiers are scored on {images_text(scored)}."]
    notes += [f"{mark} {classifier.title} {_seen_text(classifier.seen)}" for mark, classifier in marked if mark]
    if comparison.segmenter_seen != 0:
        notes.append(f"The segmenter {_seen_text(comparison.segmenter_seen)}")
    estimates = [classifier.metrics[name] for classifier in comparison.classifiers for name in METRICS]
    if any(estimate["value"] is not None and estimate["low"] is None for estimate in estimates):
        notes.append(f"A metric without an interval rests on too few {comparison.interval_unit}s for one.")
    return notes


def _seen_text(seen: int | None) -> str:
    if seen is None:
        return "has no record of its training images; if it has seen the images above, its metrics are too high."
    return f"has seen {seen:,} of these images, or others of their lesions, in training or validation: its metrics are too high."
