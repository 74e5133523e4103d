"""Metrics with their intervals as Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MASK_METRICS = {
    "dice": "mean Dice",
    "jaccard": "mean Jaccard",
    "thresholded_jaccard": "thresholded Jaccard (below 0.65 counts 0)",
    "share_below_065": "fraction of images with a Jaccard below 0.65",
}
ROWS = (
    *(("segmentation", name, f"localizer: {title}") for name, title in MASK_METRICS.items()),
    ("classification", "macro_auroc", "macro AUROC"),
    ("classification", "balanced_accuracy", "balanced accuracy"),
    ("classification", "sensitivity_mel", "melanoma sensitivity"),
    ("classification", "specificity_mel", "melanoma specificity"),
    ("classification", "accuracy", "accuracy"),
    ("classification", "majority_baseline", "majority-class baseline accuracy"),
    ("classification", "ece", "expected calibration error"),
)


def results_table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the main metrics of runs as a Markdown table.

    Args:
        columns: Content of `metrics.json` of each run by the title of its column; all parts are of the same images. A metric that
            no run has, for lack of the class, the labels or the masks, gets no row.
    """
    rows = []
    for part, name, title in ROWS:
        values = [metrics.get(part, {}).get("metrics", {}).get(name) for metrics in columns.values()]
        if any(values):
            rows.append([title, *("none" if value is None else metric_text(value) for value in values)])
    return markdown_table(["", *columns], rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table.

    Args:
        header: Title of each column.
        rows: Cells of each row, as many as there are columns.
    """
    lines = (
        "|".join(["", *(f" {_escape(cell)} " if cell else " " for cell in cells), ""])
        for cells in (header, ["---"] * len(header), *rows)
    )
    return "\n".join(lines)


def metric_text(metric: Mapping[str, float | None], number_format: str = ".3f") -> str:
    """Format a metric with its interval.

    Args:
        metric: `value`, `low` and `high`, see `segpipe.metrics.bootstrap.with_intervals`.
        number_format: Format of each number.

    Returns:
        Text such as `0.750 (0.650 to 0.850)`; `none` where the metric is undefined.
    """
    value, low, high = metric["value"], metric["low"], metric["high"]
    if value is None:
        return "none"
    number = f"{value:{number_format}}"
    return number if low is None or high is None else f"{number} ({low:{number_format}} to {high:{number_format}})"


def _escape(cell: str) -> str:
    return cell.replace("|", r"\|")
