"""Metrics with their intervals as Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence

from segpipe.evaluation.score import Metrics

OF_MASKS = {
    "dice": "mean Dice",
    "jaccard": "mean Jaccard",
    "thresholded_jaccard": "thresholded Jaccard (below 0.65 counts 0)",
    "share_below_065": "fraction of images with a Jaccard below 0.65",
}
ROWS = (
    *(("segmentation", name, f"localizer: {title}") for name, title in OF_MASKS.items()),
    ("classification", "macro_auroc", "macro AUROC"),
    ("classification", "balanced_accuracy", "balanced accuracy"),
    ("classification", "sensitivity_mel", "melanoma sensitivity"),
    ("classification", "specificity_mel", "melanoma specificity"),
    ("classification", "accuracy", "accuracy"),
    ("classification", "majority_baseline", "majority-class baseline accuracy"),
    ("classification", "ece", "expected calibration error"),
)


def results_table(columns: Mapping[str, Metrics]) -> str:
    """Write the main metrics of runs; one that none of them has, for want of the class, the labels or the masks, is left out.

    Args:
        columns: what `metrics.json` of each run holds, by the title of its column; all parts are of the same images.
    """
    rows = []
    for part, name, title in ROWS:
        figures = [metrics.get(part, {}).get("metrics", {}).get(name) for metrics in columns.values()]
        if any(figures):
            rows.append([title, *("none" if figure is None else figure_text(figure) for figure in figures)])
    return markdown_table(["", *columns], rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Args: header, one title for each column; rows, of as many cells. Returns: the lines of a Markdown table."""
    lines = (
        "|".join(["", *(f" {_literal(cell)} " if cell else " " for cell in cells), ""])
        for cells in (header, ["---"] * len(header), *rows)
    )
    return "\n".join(lines)


def _literal(cell: str) -> str:
    return cell.replace("|", r"\|")


def figure_text(figure: Mapping[str, float | None], form: str = ".3f") -> str:
    """A figure with its interval, as `with_intervals` gives them, each number in a format; `none` where it does not exist."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return "none"
    return f"{value:{form}}" if low is None or high is None else f"{value:{form}} ({low:{form}} to {high:{form}})"
