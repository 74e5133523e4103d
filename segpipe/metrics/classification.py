"""How well probabilities name the diagnosis: over all images, and each class against the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import Weights, image_counts
from segpipe.metrics.calibration import expected_calibration_error
from segpipe.types import FloatArray, Labels


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


@dataclass(frozen=True)
class Answers:
    """What a classifier says of images, beside what is true of them.

    Attributes:
        probs: probability of each class, float64, shape (N, C), in [0, 1].
        labels: index of the true class of each image, shape (N,).
        codes: the C classes in the order of the columns.

    Raises:
        ValueError: the shapes do not fit, there is no image, a probability is outside [0, 1], or a label is no class.
    """

    probs: FloatArray
    labels: Labels
    codes: Sequence[str]

    def __post_init__(self) -> None:
        probs, labels, classes = self.probs, self.labels, len(self.codes)
        if len(labels) == 0:
            raise ValueError(
                "labels must hold at least one image, got none; check that labels and predictions name the same images"
            )
        if labels.ndim != 1 or probs.shape != (len(labels), classes):
            raise ValueError(f"probs must have shape ({len(labels)}, {classes}), images by classes, got {probs.shape}")
        if not ((probs >= 0) & (probs <= 1)).all():
            raise ValueError(f"probs must lie in [0, 1], got {probs.min()} to {probs.max()}; give probabilities, not logits")
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"labels must lie in 0 to {classes - 1}, got {labels.min()} to {labels.max()}")

    @cached_property
    def chosen(self) -> Labels:
        """The answer for each image, shape (N,): the most probable class, the first of equal ones."""
        chosen: Labels = self.probs.argmax(axis=1)
        return chosen

    @cached_property
    def confidence(self) -> FloatArray:
        """The probability of the answer for each image, shape (N,)."""
        confidence: FloatArray = self.probs.max(axis=1)
        return confidence

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """Each class against the rest."""
        return tuple(Ranking(column, self.labels == index) for index, column in enumerate(self.probs.T))

    @cached_property
    def support(self) -> NDArray[np.intp]:
        """The number of images of each class, shape (C,)."""
        return np.bincount(self.labels, minlength=len(self.codes))

    @property
    def ranked(self) -> NDArray[np.bool_]:
        """Whether each class has an AUROC, bool, shape (C,): not where no image or every image has it."""
        return (self.support > 0) & (self.support < len(self.labels))

    def confusion(self, counts: Weights) -> NDArray[np.intp]:
        """How often each class (row) was taken for each (column), shape (C, C), where images count as `counts` says."""
        classes = len(self.codes)
        cells = np.bincount(self.labels * classes + self.chosen, weights=counts, minlength=classes**2)
        return cells.reshape(classes, classes).astype(np.intp)

    def of(self, rows: NDArray[np.intp]) -> "Answers":
        """The answers for some of the images, named by their positions."""
        return Answers(self.probs[rows], self.labels[rows], self.codes)


def score_answers(answers: Answers, weights: Weights | None = None) -> dict[str, float | None]:
    """The figures of a classifier, flat, so that an interval can stand beside each of them.

    A figure that does not exist (a class without images) is None and stays out of the mean over classes; `classes_left_out` names
    these classes. Where a class has images but the weights leave none of them, the mean is None too, because a mean over fewer
    classes would be another figure.

    Args:
        answers: for the images.
        weights: how often each image counts, shape (N,); once each if not given. This is how a bootstrap resamples.

    Returns:
        `accuracy`, `majority_baseline` (majority-class baseline accuracy), `balanced_accuracy` (mean
        sensitivity), `macro_f1`, `macro_auroc`, `macro_auprc`, `ece` (15 bins), and for each class `sensitivity_<code>`,
        `specificity_<code>`, `f1_<code>`, `auroc_<code>`, `auprc_<code>` (average precision) and `support_<code>` (images).

    Raises:
        ValueError: the weights are not counts.
    """
    counts = image_counts(weights, len(answers.labels))
    confusion = answers.confusion(counts)
    per_class = _score_confusion(confusion) | _score_rankings(answers, counts)
    support = confusion.sum(axis=1)
    scores = {
        "accuracy": confusion.trace() / support.sum(),
        "majority_baseline": support.max() / support.sum(),
        "balanced_accuracy": _mean_over(per_class["sensitivity"], answers.support > 0),
        "macro_f1": _mean_over(per_class["f1"], answers.support > 0),
        "macro_auroc": _mean_over(per_class["auroc"], answers.ranked),
        "macro_auprc": _mean_over(per_class["auprc"], answers.ranked),
        "ece": expected_calibration_error(answers.confidence, answers.chosen == answers.labels, weights=counts),
    }
    codes = answers.codes
    scores |= {f"{name}_{code}": value for name, values in per_class.items() for code, value in zip(codes, values, strict=True)}
    known: dict[str, float | None] = {name: None if np.isnan(value) else float(value) for name, value in scores.items()}
    return known | {f"support_{code}": int(count) for code, count in zip(codes, support, strict=True)}


def classes_left_out(answers: Answers) -> list[str]:
    """The classes that have no AUROC, because no image or every image has them; the macro means go without them."""
    return [code for code, ranked in zip(answers.codes, answers.ranked, strict=True) if not ranked]


def _mean_over(values: FloatArray, kept: NDArray[np.bool_]) -> float:
    return float(values[kept].mean()) if kept.any() else np.nan


def _score_confusion(confusion: NDArray[np.intp]) -> dict[str, FloatArray]:
    """Sensitivity, specificity and F1 of each class, shape (C,), from the confusion matrix (rows true, columns answered)."""
    true, answered, hits = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    others = confusion.sum() - true
    return {
        "sensitivity": _divide(hits, true),
        "specificity": _divide(others - (answered - hits), others),
        "f1": np.where(true > 0, _divide(2 * hits, true + answered), np.nan),
    }


def _divide(part: NDArray[np.intp], whole: NDArray[np.intp]) -> FloatArray:
    return part / np.where(whole > 0, whole, np.nan)


def _score_rankings(answers: Answers, counts: Weights) -> dict[str, FloatArray]:
    curves = [ranking.curve(counts) for ranking in answers.rankings]
    return {"auroc": np.array([curve.auroc() for curve in curves]), "auprc": np.array([curve.auprc() for curve in curves])}
