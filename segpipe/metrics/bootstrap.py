"""Cluster bootstrap over lesions: intervals, paired differences between runs, metrics of groups."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Number of times that each image counts: integers of 0 or more, shape (N,).
Weights = NDArray[np.intp]
# Metrics by name; None or NaN where one is undefined.
WeightedMetric = Callable[[Weights], Mapping[str, float | None]]
# Positions of images in a table.
ImageRows = NDArray[np.intp]

# A metric that is defined in a smaller fraction of the resamples rests on too few lesions for an interval.
MIN_DEFINED_FRACTION = 0.5
MIN_IMAGES = 10  # a smaller group has no metrics, only its number of images
MIN_LESIONS = 20  # a smaller group has metrics without intervals
RESAMPLES = 300  # for each group: there are dozens of them, and their intervals are wide
GROUP_METRICS = (
    *("accuracy", "majority_baseline", "balanced_accuracy", "macro_auroc", "sensitivity_mel", "support_mel", "ece"),
    *("dice", "jaccard", "thresholded_jaccard", "share_below_065"),
)


@dataclass(frozen=True)
class Interval:
    """Range of a metric over most resamples, both ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """Metric of a run and its difference from the reference run.

    Attributes:
        value: Metric of the run; None where it is undefined.
        change: PairedDifference from the metric of the reference; 0 for the reference itself.
        low: Lower end of the 95 % interval of `change`; None without an interval.
        high: Upper end of the interval; None without one.
    """

    value: float | None
    change: float | None
    low: float | None
    high: float | None


def bootstrap_intervals(
    metric: WeightedMetric, groups: Sequence[str], *, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> dict[str, Interval]:
    """Compute percentile intervals by resampling whole lesions with replacement.

    The images of a lesion resemble each other, so they are drawn together; resampling single images would give intervals that
    are too narrow. No image is copied: a resample is the number of times that each image counts, which the metric takes as
    weights.

    An interval always contains the metric itself. Noise can only raise a calibration error, so that for a calibrated model nearly
    all resamples may lie above it; the interval is then extended down to the metric.

    A sensitivity of exactly 0 or 1 has an interval of width 0, however few lesions it rests on: show its support beside it.

    Args:
        metric: Function from weights (integers of 0 or more, shape (N,)) to metrics, for example
            `lambda weights: score_predictions(predictions, weights)`.
        groups: Lesion of each image, N of them; a group of its own for each image where lesions are unknown.
        resamples: Number of resamples.
        seed: Seed of the random numbers; the same seed gives the same intervals.
        confidence: Fraction of the resamples that the interval contains, in (0, 1).

    Returns:
        Interval of each metric. Resamples in which a metric is undefined are skipped for it. A metric that is undefined in more
        than half of them has no interval, and with fewer than two groups none has.

    Raises:
        ValueError: `resamples` is below 1, or `confidence` is not in (0, 1).

    Reference:
        Field and Welsh 2007, J. R. Statist. Soc. B 69, 369-390 (the cluster bootstrap).
    """
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more, got {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}; 0.95 is usual")
    values: dict[str, list[float]] = defaultdict(list)
    for weights in _resample(groups, resamples, seed):
        for name, value in metric(weights).items():
            if value is not None and not np.isnan(value):
                values[name].append(value)
    defined = {name: samples for name, samples in values.items() if len(samples) >= MIN_DEFINED_FRACTION * resamples}
    metrics = metric(image_counts(None, len(groups))) if defined else {}
    return {name: _percentiles(samples, confidence, metrics[name]) for name, samples in defined.items()}


def with_intervals(metric: WeightedMetric, groups: Sequence[str], *, resamples: int = 1000) -> dict[str, Any]:
    """Compute metrics with their 95 % bootstrap intervals.

    Args:
        metric: Function from weights to metrics, see `bootstrap_intervals`.
        groups: Lesion of each image.
        resamples: Number of resamples; 0 for no intervals.

    Returns:
        `value`, `low` and `high` of each metric, None where undefined.
    """
    intervals = bootstrap_intervals(metric, groups, resamples=resamples) if resamples else {}
    metrics: dict[str, Any] = {}
    for name, value in metric(image_counts(None, len(groups))).items():
        interval = intervals.get(name)
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        metrics[name] = {"value": value, "low": low, "high": high}
    return metrics


def paired_differences(
    metrics: Mapping[str, WeightedMetric], names: Sequence[str], lesions: Sequence[str]
) -> list[list[PairedDifference]]:
    """Compare each run with the first one.

    The difference between two runs over the same images has a far narrower interval than the metric of either run, because
    lesions that are hard for one are hard for the other. So both runs are scored on each resample, and the interval is that of
    their difference.

    Args:
        metrics: Metrics of each run by its title; the first run is the reference.
        names: Names of the metrics.
        lesions: Lesion of each image; all runs have the same images in the same order.

    Returns:
        Metrics of each run, in the order of `names`.
    """
    unweighted = image_counts(None, len(lesions))

    def changes(weights: Weights) -> dict[str, float | None]:
        reference, *others = (metric(weights) for metric in metrics.values())
        return {
            f"{number} {name}": _subtract(values[name], reference[name])
            for number, values in enumerate([reference, *others])
            for name in names
        }

    changed = with_intervals(changes, lesions)
    return [
        [
            PairedDifference(metric(unweighted)[name], *(changed[f"{number} {name}"][key] for key in ("value", "low", "high")))
            for name in names
        ]
        for number, metric in enumerate(metrics.values())
    ]


def score_groups(
    attributes: Mapping[str, Sequence[str]], lesions: Sequence[str], metric_of: Callable[[ImageRows], WeightedMetric]
) -> dict[str, dict[str, Any]]:
    """Compute the main metrics for each value of each attribute.

    Means over classes are taken over the classes that the group has, so they are not strictly comparable between groups.

    Args:
        attributes: Value of each image, N of them, by the name of the attribute.
        lesions: Lesion of each image, N of them.
        metric_of: Function from the positions of images to their metrics.

    Returns:
        `images`, `lesions` and `metrics` of each value of each attribute: `GROUP_METRICS` with 95 % intervals from 300 resamples.
        A group of fewer than 10 images has no metrics, one of fewer than 20 lesions has no intervals.
    """
    scored = {}
    for name, values in attributes.items():
        of_image = np.array(values)
        rows = {value: np.flatnonzero(of_image == value) for value in sorted(set(values))}
        scored[name] = {value: _score_group(rows[value], lesions, metric_of) for value in rows}
    return scored


def join_groups(parts: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Reorder metrics from part, attribute, value to attribute, value, part."""
    joined: dict[str, dict[str, dict[str, Any]]] = {}
    for part, attributes in parts.items():
        for name, values in attributes.items():
            for value, group in values.items():
                joined.setdefault(name, {}).setdefault(value, {})[part] = group
    return joined


def image_counts(weights: Weights | None, images: int) -> Weights:
    """Check the weights of images; without weights, count each image once.

    Args:
        weights: Integers of 0 or more, shape (images,), or None.
        images: Number of images.

    Raises:
        ValueError: The shape does not fit, a weight is negative, or all are 0.
    """
    if weights is None:
        return np.ones(images, np.intp)
    if weights.shape != (images,) or weights.min() < 0 or not weights.any():
        got = f"shape {weights.shape} with sum {weights.sum()}"
        raise ValueError(f"weights must be {images} counts of 0 or more, not all 0, got {got}")
    return weights


def _resample(groups: Sequence[str], resamples: int, seed: int) -> Iterator[Weights]:
    names, group_of_image = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        return
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = random.integers(len(names), size=len(names))
        yield np.bincount(drawn, minlength=len(names))[group_of_image]


def _percentiles(samples: list[float], confidence: float, value: float | None) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail]).tolist()
    return Interval(low, high) if value is None else Interval(min(low, value), max(high, value))


def _subtract(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _score_group(rows: ImageRows, lesions: Sequence[str], metric_of: Callable[[ImageRows], WeightedMetric]) -> dict[str, Any]:
    lesions = [lesions[row] for row in rows]
    group: dict[str, Any] = {"images": len(rows), "lesions": len(set(lesions)), "metrics": {}}
    if len(rows) >= MIN_IMAGES:
        metric = metric_of(rows)

        def main_metrics(weights: Weights) -> dict[str, float | None]:
            return {name: value for name, value in metric(weights).items() if name in GROUP_METRICS}

        resamples = RESAMPLES if group["lesions"] >= MIN_LESIONS else 0
        group["metrics"] = with_intervals(main_metrics, lesions, resamples=resamples)
    return group
