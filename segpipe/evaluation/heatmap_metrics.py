"""Metrics of heatmaps over a sample of images, and their table.

docs/heatmaps.md defines the metrics.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe.evaluation.text import describe_test_set, markdown_table, metric_text
from segpipe.metrics.bootstrap import MIN_LESIONS, with_intervals
from segpipe.metrics.heatmaps import TURNS, score_heatmaps

if TYPE_CHECKING:
    import pandas as pd

    from segpipe.evaluation.truth import GroundTruth

ROWS = {
    "follow": "follow",
    "stay": "stay",
    "symmetry": "symmetry",
    "stays_more": "fraction of images that stay more than they follow",
    "energy_in_mask": "energy in the lesion",
    "energy_even": "energy in the lesion, even map",
    "energy_gain": "energy gain",
    "deletion": "deletion",
    "deletion_center": "deletion, centered map",
    "insertion": "insertion",
    "insertion_center": "insertion, centered map",
    "random_order": "deletion and insertion, random map",
    "deletion_gain_over_center": "deletion gain over the centered map",
    "deletion_gain_over_random": "deletion gain over a random map",
    "insertion_gain_over_center": "insertion gain over the centered map",
    "insertion_gain_over_random": "insertion gain over a random map",
}
_GAIN = "energy_gain"


def heatmap_metrics(table: "pd.DataFrame", truth: "GroundTruth", *, resamples: int) -> dict[str, Any]:
    """Compute the metrics of measured heatmaps, with intervals.

    Args:
        table: Table of `segpipe.evaluation.heatmap_faithfulness.HeatmapTest.measure`, with at least one row.
        truth: Lesion of each image by its `path`, over which the intervals are computed.
        resamples: Number of bootstrap resamples.

    Returns:
        Part `heatmaps` of `metrics.json`. The energy of a class with fewer than 20 lesions has no interval.
    """
    paths, explained = list(table["path"]), list(table["explained"])
    columns = {name: table[name].to_numpy(np.float64) for name in table.columns.drop(["path", "sha256", "explained"])}
    lesions = truth.lesions_of(paths)
    metrics = with_intervals(lambda weights: score_heatmaps(columns, explained, weights), lesions, resamples=resamples)
    for code in set(explained):
        if len({lesion for lesion, own in zip(lesions, explained, strict=True) if own == code}) < MIN_LESIONS:
            metrics[f"{_GAIN}_{code}"] |= {"low": None, "high": None}
    return {
        "images": len(table),
        "turns": list(TURNS),
        "intervals_over": truth.interval_unit(paths),
        "metrics": metrics,
        "component": "heatmap",
        "test_set": describe_test_set(list(table["sha256"]), [""] * len(table), dataset=truth.dataset, part=truth.part),
    }


def heatmap_table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the metrics of heatmaps as a Markdown table.

    Args:
        columns: Part `heatmaps` of `metrics.json` by the title of its column.
    """
    metrics = [part["metrics"] for part in columns.values()]
    rows: list[list[str]] = []
    for name, title in ROWS.items():
        if any(name in of_column for of_column in metrics):
            rows.append([title, *(metric_text(of_column[name]) if name in of_column else "" for of_column in metrics)])
        if name == _GAIN:
            rows += _class_rows(metrics)
    return markdown_table(["", *columns], rows)


def _class_rows(metrics: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    codes = {name.removeprefix(f"{_GAIN}_"): None for of_column in metrics for name in of_column if name.startswith(f"{_GAIN}_")}
    for code in codes:
        cells = (
            f"{metric_text(of_column[f'{_GAIN}_{code}'])}, n = {of_column[f'images_{code}']['value']}"
            if f"{_GAIN}_{code}" in of_column
            else ""
            for of_column in metrics
        )
        yield [f"energy gain where {code} is explained", *cells]
