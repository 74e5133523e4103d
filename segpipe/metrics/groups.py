"""Figures of parts of the images, so that a mean does not hide where a model is worse."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import WeightedMetric, with_intervals

Rows = NDArray[np.intp]

MIN_IMAGES = 10  # fewer have no figures, only their number
MIN_LESIONS = 20  # fewer have figures without intervals
RESAMPLES = 300  # per group: there are dozens of them, and their intervals are wide
FIGURES = (
    *("accuracy", "majority_baseline", "balanced_accuracy", "macro_auroc", "sensitivity_mel", "support_mel", "ece"),
    *("dice", "jaccard", "thresholded_jaccard", "share_below_065"),
)


def score_groups(
    attributes: Mapping[str, Sequence[str]], lesions: Sequence[str], metric_of: Callable[[Rows], WeightedMetric]
) -> dict[str, dict[str, Any]]:
    """The main figures for the images of each value of each attribute.

    Means over classes go over those that the group has, so they are not strictly comparable between groups.

    Args:
        attributes: by name, the value of each image, N of them.
        lesions: the lesion of each image, N of them.
        metric_of: the metric of some of the images, named by their positions.

    Returns:
        For each attribute and value `images`, `lesions` and `metrics`: `FIGURES` with 95 % intervals from 300 resamples. A group
        of fewer than 10 images has no figures, one of fewer than 20 lesions has no intervals.
    """
    scored = {}
    for name, values in attributes.items():
        of_image = np.array(values)
        rows = {value: np.flatnonzero(of_image == value) for value in sorted(set(values))}
        scored[name] = {value: _score_group(rows[value], lesions, metric_of) for value in rows}
    return scored


def _score_group(rows: Rows, lesions: Sequence[str], metric_of: Callable[[Rows], WeightedMetric]) -> dict[str, Any]:
    lesions = [lesions[row] for row in rows]
    group: dict[str, Any] = {"images": len(rows), "lesions": len(set(lesions)), "metrics": {}}
    if len(rows) >= MIN_IMAGES:
        metric = metric_of(rows)

        def main_figures(weights: NDArray[np.intp]) -> dict[str, float | None]:
            return {name: value for name, value in metric(weights).items() if name in FIGURES}

        resamples = RESAMPLES if group["lesions"] >= MIN_LESIONS else 0
        group["metrics"] = with_intervals(main_figures, lesions, resamples=resamples)
    return group


def join_groups(parts: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Turn part, attribute, value around into attribute, value, part: what is asked is how one group fares in everything."""
    joined: dict[str, dict[str, dict[str, Any]]] = {}
    for part, attributes in parts.items():
        for name, values in attributes.items():
            for value, group in values.items():
                joined.setdefault(name, {}).setdefault(value, {})[part] = group
    return joined
