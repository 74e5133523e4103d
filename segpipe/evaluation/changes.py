"""Metrics of two predictions for the same images, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from segpipe.evaluation.text import metric_text, plain_table
from segpipe.io.files import counted
from segpipe.metrics.bootstrap import WeightedMetric, Weights, with_intervals

RESAMPLES = 1000
CHANGE = "change"
# Titles of the metrics and of the two predictions.
TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity_mel": "melanoma sensitivity",
    "macro_auroc": "macro AUROC",
    "ece": "calibration error",
    "dice": "segmenter mean Dice",
    "jaccard": "segmenter mean Jaccard",
    "thresholded_jaccard": "thresholded Jaccard",
    "true_masks": "by true masks",
    "end_to_end": "by the segmenter's",
    "start": "before: start",
    "fine_tuned": "after: fine-tuned",
}


def measure_changes(
    predictions: Mapping[str, WeightedMetric], names: Sequence[str], lesions: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Compute the metrics of two predictions, and their paired differences.

    Args:
        predictions: Metrics of the first and of the second prediction by its name, for the same images in the same order.
        names: Names of the metrics.
        lesions: Lesion of each image, over which the 95 % intervals are computed.

    Returns:
        Columns of each defined metric by its name: one for each prediction, and `change`, the second less the first; each with
        `value`, `low` and `high`.
    """
    first, second = predictions

    def joined(weights: Weights) -> dict[str, float | None]:
        values = {title: metric(weights) for title, metric in predictions.items()}
        columns = {f"{title} {name}": values[title].get(name) for title in predictions for name in names}
        return columns | {f"{CHANGE} {name}": _change(values[first].get(name), values[second].get(name)) for name in names}

    metrics = with_intervals(joined, lesions, resamples=RESAMPLES)
    table = {name: {column: metrics[f"{column} {name}"] for column in (first, second, CHANGE)} for name in names}
    return {name: columns for name, columns in table.items() if columns[CHANGE]["value"] is not None}


def _change(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else second - first


def changes_table(part: Mapping[str, Any]) -> str:
    """Format changes as a table of plain text.

    Args:
        part: `images`, their number, and `metrics`, see `measure_changes`.
    """
    metrics: Mapping[str, Mapping[str, Any]] = part["metrics"]
    columns = [column for column in next(iter(metrics.values()), {}) if column != CHANGE]
    rows = [[counted(part["images"], "test image"), *(TITLES[column] for column in columns), CHANGE]]
    rows += [
        [TITLES[name], *(metric_text(values[column]) for column in columns), metric_text(values[CHANGE], "+.3f")]
        for name, values in metrics.items()
    ]
    return plain_table(rows)
