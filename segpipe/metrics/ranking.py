"""How well a probability puts the images of one class before the rest, and what that buys at a stated rate of errors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import Weights

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """What is called positive while the threshold falls past one score after the other.

    Each figure is nan where there are no positives or no negatives. An operating point is always one of these thresholds: between
    two of them nothing is interpolated, because no threshold reaches what lies there.

    Attributes:
        hits: positives at or above each score, shape (T,), rising; the last one counts all positives.
        false_alarms: negatives at or above each score, likewise.
    """

    hits: NDArray[np.intp]
    false_alarms: NDArray[np.intp]

    @property
    def exists(self) -> bool:
        """There are positives and negatives."""
        return bool(self.hits[-1] and self.false_alarms[-1])

    @property
    def sensitivity(self) -> FloatArray:
        """The share of the positives that each threshold finds, shape (T,)."""
        shares: FloatArray = self.hits / self.hits[-1]
        return shares

    @property
    def specificity(self) -> FloatArray:
        """The share of the negatives that each threshold leaves alone, shape (T,)."""
        shares: FloatArray = (self.false_alarms[-1] - self.false_alarms) / self.false_alarms[-1]
        return shares

    def auroc(self) -> float:
        """The area under the ROC curve: the share of pairs of a positive and a negative in the right order, ties by half."""
        if not self.exists:
            return np.nan
        found, alarms = np.diff(self.hits, prepend=0), np.diff(self.false_alarms, prepend=0)
        return float(alarms @ (self.hits - found / 2) / (self.hits[-1] * self.false_alarms[-1]))

    def auprc(self) -> float:
        """The area under the precision-recall curve: average precision."""
        if not self.exists:
            return np.nan
        # Where nothing is called yet (leading weights of 0) the step in recall is 0, so any precision will do there.
        precision = self.hits / np.maximum(self.hits + self.false_alarms, 1)
        return float(np.diff(self.sensitivity, prepend=0) @ precision)

    def sensitivity_at_specificity(self, target: float) -> float:
        """The sensitivity at the lowest threshold whose specificity is still at least `target`; 0 where none is."""
        if not self.exists:
            return np.nan
        return float(self.sensitivity[self.specificity >= target].max(initial=0))

    def specificity_at_sensitivity(self, target: float) -> float:
        """The specificity at the highest threshold whose sensitivity is at least `target`."""
        if not self.exists:
            return np.nan
        return float(self.specificity[self.sensitivity >= target].max())


class Ranking:
    """Images in the order of a score, sorted once: a bootstrap asks for the curve of this order thousands of times.

    Args:
        scores: float, shape (N,); the higher, the likelier positive.
        positive: bool, shape (N,).
    """

    def __init__(self, scores: FloatArray, positive: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores)
        self._positive = positive[self._order]
        self._last_of_equals = np.append(np.flatnonzero(np.diff(scores[self._order])), len(scores) - 1)

    def curve(self, counts: Weights) -> Curve:
        """The curve where each image counts as often as `counts` says, shape (N,)."""
        called = counts[self._order]
        hits = np.cumsum(called * self._positive)[self._last_of_equals]
        return Curve(hits, np.cumsum(called)[self._last_of_equals] - hits)
