"""Several classifiers over the same images, as a table: for people in Markdown, with all digits as CSV."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.errors import ConfigError
from segpipe.evaluation.headline import images_text
from segpipe.evaluation.table import figure_text, markdown_table
from segpipe.io.numerals import counted
from segpipe.metrics.classification import Answers
from segpipe.runs.results import write_csv

# Folders in which a training keeps its model and its test, which say nothing of the training.
_PARTS_OF_A_TRAINING = ("bundle", "test")


def name_folders(folders: Sequence[str], titles: Sequence[str] | None = None) -> dict[str, Path]:
    """Give each folder a title, in their order.

    Args:
        folders: Folders of runs or bundles.
        titles: Title of each; None takes the names of the folders, for `bundle` and `test` those of the training around them.

    Raises:
        ConfigError: There are more or fewer titles than folders, a title has no letter or digit, or two share a file name.
    """
    if titles is None:
        titles = [_own_title(Path(folder)) for folder in folders]
    if len(titles) != len(folders):
        raise ConfigError(f"titles must be as many as there are folders, {len(folders)}, got {len(titles)}; null takes theirs")
    named: dict[str, str] = {}
    for title, folder in zip(titles, folders, strict=True):
        name = file_name(title)
        if not name:
            raise ConfigError(f"each of titles must hold a letter or digit, got {title!r} for {folder}; change it")
        if name in named:
            both = f"{named[name]!r} and {title!r}, both {name!r}"
            raise ConfigError(f"titles must give file names of their own, got {both}; name them with titles=[A,B]")
        named[name] = title
    return {title: Path(folder) for title, folder in zip(named.values(), folders, strict=True)}


def file_name(title: str) -> str:
    """A title as the name of a file or folder; empty where nothing of it can stand in one."""
    return re.sub(r"[^\w.+-]+", "_", title.casefold()).strip("._") if re.search(r"\w", title) else ""


def _own_title(folder: Path) -> str:
    folder = folder.absolute()
    return folder.parent.name if folder.name in _PARTS_OF_A_TRAINING else folder.name


# `value`, `low` and `high`, as `with_intervals` gives them.
Figure = Mapping[str, float | None]
NO_FIGURE: Figure = {"value": None, "low": None, "high": None}

METRICS = {
    "macro_auroc": "macro AUROC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "sensitivity_mel": "melanoma sensitivity",
    "accuracy": "accuracy",
    "ece": "ECE",
}
RATE = "images_per_second"


@dataclass(frozen=True)
class Entry:
    """One classifier of a comparison.

    Attributes:
        title: by which the call names it.
        bundle: its folder.
        answers: for the scored images.
        figures: `METRICS` with 95 % intervals, and `images_per_second` with the range over the rounds.
        changes: the same as paired differences from the best one's, `images_per_second` as a ratio.
        parameters: number of weights.
        macs: multiply-accumulate operations of one crop.
        seen: number of scored images that it has seen in training, or whose lesions; None where its card does not say.
    """

    title: str
    bundle: Path
    answers: Answers
    figures: Mapping[str, Figure]
    changes: Mapping[str, Figure]
    parameters: int
    macs: int
    seen: int | None


@dataclass(frozen=True)
class Comparison:
    """Classifiers side by side.

    Attributes:
        entries: the best first.
        images: number of scored ones.
        lesions: that they show; an image whose lesion is not known counts as one.
        interval_unit: what was resampled, `lesion` or `image`.
        failed: number of images without a result.
        majority_baseline: majority-class baseline accuracy.
        melanomas: number of scored images with one; None where it is none of the classes.
        segmenter_seen: of the U-Net, as `Entry.seen`; 0 where none was used.
        test_set: identity of the scored images, see `segpipe.evaluation.headline.describe_test_set`.
    """

    entries: Sequence[Entry]
    images: int
    lesions: int
    interval_unit: str
    failed: int
    majority_baseline: float
    melanomas: int | None
    segmenter_seen: int | None
    test_set: Mapping[str, Any]


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write all numbers as CSV, one row for each classifier, the best first; a field is empty where a figure does not exist."""
    rows = [_numbers(entry, comparison) for entry in comparison.entries]
    write_csv(path, list(rows[0]), [["" if value is None else str(value) for value in row.values()] for row in rows])


def _numbers(entry: Entry, comparison: Comparison) -> dict[str, object]:
    numbers: dict[str, object] = {
        "title": entry.title,
        "bundle": entry.bundle,
        "images": comparison.images,
        "lesions": comparison.lesions,
        "images_seen_in_training": entry.seen,
        "majority_baseline": comparison.majority_baseline,
    }
    for name in METRICS:
        numbers |= _columns(name, entry.figures[name]) | _columns(f"{name}_change", entry.changes[name])
    numbers |= {"parameters_millions": entry.parameters / 1e6, "gmacs": entry.macs / 1e9}
    numbers |= _columns(RATE, entry.figures[RATE]) | _columns(f"{RATE}_ratio", entry.changes[RATE])
    test_set = comparison.test_set
    return numbers | {"dataset": test_set["dataset"], "part": test_set["part"], "test_set_sha256": test_set["sha256"]}


def _columns(name: str, figure: Figure) -> dict[str, float | None]:
    return {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}


def comparison_text(comparison: Comparison, *, images_from: str, conditions: str) -> str:
    """The comparison as Markdown: what it is of, the figures, the differences from the best, notes.

    Args:
        comparison: to show.
        images_from: what the images are, for the heading.
        conditions: how the classifiers were run, half a sentence.
    """
    best, *others = comparison.entries
    marks = zip(comparison.entries, _marks(comparison), strict=True)
    titles = {entry.title: f"{entry.title} {mark}".strip() for entry, mark in marks}
    figures = markdown_table(
        ["", *_metric_titles(comparison), "parameters (millions)", "GMACs", "images/s"],
        ([titles[entry.title], *_figure_cells(entry)] for entry in comparison.entries),
    )
    differences = markdown_table(
        ["", *METRICS.values(), "images/s, ratio"],
        ([titles[entry.title], *_change_cells(entry)] for entry in others),
    )
    return "\n\n".join(
        [
            f"# {counted(len(comparison.entries), 'classifier')} on {images_from}",
            _introduction(comparison, conditions),
            figures,
            f"Differences from {best.title}, paired over the same resampled {comparison.interval_unit}s:",
            differences,
            *_notes(comparison),
        ]
    )


def _introduction(comparison: Comparison, conditions: str) -> str:
    lesions = f" of {counted(comparison.lesions, 'lesion')}" if comparison.interval_unit == "lesion" else ""
    failed = f" ({comparison.failed} more failed)" if comparison.failed else ""
    return (
        f"{counted(comparison.images, 'image')}{lesions}{failed}; {conditions}. In brackets 95 % bootstrap intervals "
        f"over {comparison.interval_unit}s, and for images/s (the classifier alone, timed side by side) the range over the "
        "rounds. The best by macro AUROC comes first. **Not a medical device.**"
    )


def _metric_titles(comparison: Comparison) -> list[str]:
    additions = {
        "accuracy": f" (commonest class alone: {comparison.majority_baseline:.3f})",
        "sensitivity_mel": "" if comparison.melanomas is None else f" (n = {comparison.melanomas:,})",
    }
    return [title + additions.get(name, "") for name, title in METRICS.items()]


def _figure_cells(entry: Entry) -> list[str]:
    return [
        *(figure_text(entry.figures[name]) for name in METRICS),
        f"{entry.parameters / 1e6:.2f}",
        f"{entry.macs / 1e9:.3f}",
        figure_text(entry.figures[RATE], ".1f"),
    ]


def _change_cells(entry: Entry) -> list[str]:
    return [*(figure_text(entry.changes[name], "+.3f") for name in METRICS), figure_text(entry.changes[RATE], ".2f")]


def _marks(comparison: Comparison) -> Iterable[str]:
    """For each classifier the number of its note, empty where it has none."""
    number = 0
    for entry in comparison.entries:
        number += entry.seen != 0
        yield f"[{number}]" if entry.seen != 0 else ""


def _notes(comparison: Comparison) -> list[str]:
    marked = zip(_marks(comparison), comparison.entries, strict=True)
    scored = {"images": comparison.images, "test_set": comparison.test_set}
    notes = [f"All are scored on {images_text(scored)}."]
    notes += [f"{mark} {entry.title} {_seen_text(entry.seen)}" for mark, entry in marked if mark]
    if comparison.segmenter_seen != 0:
        notes.append(f"The segmenter {_seen_text(comparison.segmenter_seen)}")
    figures = [entry.figures[name] for entry in comparison.entries for name in METRICS]
    if any(figure["value"] is not None and figure["low"] is None for figure in figures):
        notes.append(f"A figure without an interval rests on too few {comparison.interval_unit}s for one.")
    return notes


def _seen_text(seen: int | None) -> str:
    if seen is None:
        return "does not say on its card which images it has seen in training; if these are among them, its figures flatter."
    return f"has seen {seen:,} of these images, or others of their lesions, in training or validation: its figures flatter."
