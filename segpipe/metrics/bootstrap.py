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
