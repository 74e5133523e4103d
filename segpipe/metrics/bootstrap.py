"""How far a figure would move with other patients: bootstrap intervals over lesions."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# How often each image counts: integers of 0 or more, shape (N,).
Weights = NDArray[np.intp]
# None or nan where a figure does not exist.
WeightedMetric = Callable[[Weights], Mapping[str, float | None]]

# A figure that exists in fewer resamples than this share of them rests on too few lesions for an interval.
MIN_DEFINED_SHARE = 0.5


@dataclass(frozen=True)
class Interval:
    """The range in which a figure lies in most resamples, both ends included."""

    low: float
    high: float


def image_counts(weights: Weights | None, images: int) -> Weights:
    """How often each image counts: once, unless weights say otherwise.

    Args:
        weights: integers of 0 or more, shape (images,), or None.
        images: number of images.

    Raises:
        ValueError: the shape does not fit, a weight is negative, or all are 0.
    """
    if weights is None:
        return np.ones(images, np.intp)
    if weights.shape != (images,) or weights.min() < 0 or not weights.any():
        got = f"shape {weights.shape} with sum {weights.sum()}"
        raise ValueError(f"weights must be {images} counts of 0 or more, not all 0, got {got}")
    return weights


def bootstrap_intervals(
    metric: WeightedMetric, groups: Sequence[str], *, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> dict[str, Interval]:
    """Percentile intervals from resampling whole lesions with replacement.

    The images of a lesion resemble each other, so they are drawn together: resampling images would promise too narrow an
    interval. No image is copied: a resample is the number of times that each counts, and the metric takes these as weights.

    An interval always holds the figure itself. Noise can only raise a calibration error, so on a calibrated model nearly all
    resamples may lie above it; the interval is then widened down to the figure.

    A sensitivity of exactly 0 or 1 gets an interval without width, however few lesions it rests on: show the support beside it.

    Args:
        metric: from weights (integers of 0 or more, shape (N,)) to figures, for example
            `lambda weights: score_answers(answers, weights)`.
        groups: the lesion of each image, N of them; give each image its own where lesions are not known.
        resamples: how many to draw.
        seed: of the random numbers; the same seed gives the same intervals.
        confidence: the share of resamples that the interval holds, in (0, 1).

    Returns:
        An interval for each figure. Resamples in which a figure does not exist are left out for it; one that is missing in more
        than half of them gets no interval, and with fewer than two groups nothing does.

    Raises:
        ValueError: there is no resample, or `confidence` is not in (0, 1).

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
    defined = {name: found for name, found in values.items() if len(found) >= MIN_DEFINED_SHARE * resamples}
    figures = metric(image_counts(None, len(groups))) if defined else {}
    return {name: _percentiles(found, confidence, figures[name]) for name, found in defined.items()}


def with_intervals(metric: WeightedMetric, groups: Sequence[str], *, resamples: int = 1000) -> dict[str, Any]:
    """Each figure with its 95 % bootstrap interval: `{"value", "low", "high"}`, None where one does not exist.

    Args:
        metric: from weights to figures, see `bootstrap_intervals`.
        groups: the lesion of each image.
        resamples: how many to draw; 0 for no intervals.
    """
    intervals = bootstrap_intervals(metric, groups, resamples=resamples) if resamples else {}
    figures: dict[str, Any] = {}
    for name, value in metric(image_counts(None, len(groups))).items():
        interval = intervals.get(name)
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        figures[name] = {"value": value, "low": low, "high": high}
    return figures


def _resample(groups: Sequence[str], resamples: int, seed: int) -> Iterator[Weights]:
    names, group_of_image = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        return
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = random.integers(len(names), size=len(names))
        yield np.bincount(drawn, minlength=len(names))[group_of_image]


def _percentiles(found: list[float], confidence: float, figure: float | None) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail]).tolist()
    return Interval(low, high) if figure is None else Interval(min(low, figure), max(high, figure))


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
        metrics: of each run by its title, see `segpipe.metrics.bootstrap`; the first is the reference.
        names: of the figures.
        lesions: the lesion of each image, the same images in the same order in all runs.

    Returns:
        For each run its figures in the order of `names`.
    """
    once = np.ones(len(lesions), np.intp)

    def changes(weights: Weights) -> dict[str, float | None]:
        reference, *others = (metric(weights) for metric in metrics.values())
        return {
            f"{number} {name}": _minus(figures[name], reference[name])
            for number, figures in enumerate([reference, *others])
            for name in names
        }

    found = with_intervals(changes, lesions)
    return [
        [Difference(metric(once)[name], *(found[f"{number} {name}"][key] for key in ("value", "low", "high"))) for name in names]
        for number, metric in enumerate(metrics.values())
    ]


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


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
