"""Classification metrics: overall, and for each class against the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import ImageRows, Weights, image_counts
from segpipe.metrics.calibration import expected_calibration_error
from segpipe.types import FloatArray, Labels


@dataclass(frozen=True)
class ThresholdCurve:
    """Counts of positive calls at each threshold, in descending order.

    Each metric is NaN without positives or without negatives. An operating point is always one of these thresholds; nothing is
    interpolated between two of them, because no threshold reaches a point in between.

    Attributes:
        true_positives: Number of positives at or above each score, shape (T,), ascending; the last one counts all positives.
        false_positives: Number of negatives at or above each score, shape (T,).
    """

    true_positives: NDArray[np.intp]
    false_positives: NDArray[np.intp]

    @property
    def is_defined(self) -> bool:
        """True with positives and negatives."""
        return bool(self.true_positives[-1] and self.false_positives[-1])

    @property
    def sensitivity(self) -> FloatArray:
        """Sensitivity at each threshold, shape (T,)."""
        fractions: FloatArray = self.true_positives / self.true_positives[-1]
        return fractions

    @property
    def specificity(self) -> FloatArray:
        """Specificity at each threshold, shape (T,)."""
        fractions: FloatArray = (self.false_positives[-1] - self.false_positives) / self.false_positives[-1]
        return fractions

    def auroc(self) -> float:
        """Compute the area under the ROC curve; ties count half."""
        if not self.is_defined:
            return np.nan
        positives, negatives = np.diff(self.true_positives, prepend=0), np.diff(self.false_positives, prepend=0)
        pairs = self.true_positives[-1] * self.false_positives[-1]
        return float(negatives @ (self.true_positives - positives / 2) / pairs)

    def auprc(self) -> float:
        """Compute the area under the precision-recall curve, as average precision."""
        if not self.is_defined:
            return np.nan
        # Where nothing is called positive yet (leading weights of 0) the step in recall is 0, so any precision will do.
        precision = self.true_positives / np.maximum(self.true_positives + self.false_positives, 1)
        return float(np.diff(self.sensitivity, prepend=0) @ precision)

    def sensitivity_at_specificity(self, target: float) -> float:
        """Find the highest sensitivity with at least a given specificity.

        Args:
            target: Smallest specificity.

        Returns:
            Sensitivity; 0 where no threshold has that specificity, NaN where undefined.
        """
        if not self.is_defined:
            return np.nan
        return float(self.sensitivity[self.specificity >= target].max(initial=0))

    def specificity_at_sensitivity(self, target: float) -> float:
        """Find the highest specificity with at least a given sensitivity, see above."""
        if not self.is_defined:
            return np.nan
        return float(self.specificity[self.sensitivity >= target].max())


class Ranking:
    """Images in descending order of a score.

    They are sorted once for all resamples of a bootstrap.

    Args:
        scores: Score of each image, float, shape (N,); higher for a likelier positive.
        positive: True on positives, bool, shape (N,).
    """

    def __init__(self, scores: FloatArray, positive: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores)
        self._positive = positive[self._order]
        self._last_of_ties = np.append(np.flatnonzero(np.diff(scores[self._order])), len(scores) - 1)

    def curve(self, counts: Weights) -> ThresholdCurve:
        """Count the calls at each threshold.

        Args:
            counts: Number of times that each image counts, shape (N,).
        """
        ordered = counts[self._order]
        true_positives = np.cumsum(ordered * self._positive)[self._last_of_ties]
        return ThresholdCurve(true_positives, np.cumsum(ordered)[self._last_of_ties] - true_positives)


@dataclass(frozen=True)
class LabeledPredictions:
    """Predictions of a classifier with the true classes.

    Attributes:
        probs: Probability of each class, float64, shape (N, C), in [0, 1].
        labels: Index of the true class of each image, shape (N,).
        codes: Codes of the C classes in the order of the columns.

    Raises:
        ValueError: The shapes do not fit, there is no image, a probability is outside [0, 1], or a label is no class.
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
    def predicted(self) -> Labels:
        """Index of the most probable class of each image, shape (N,)."""
        predicted: Labels = self.probs.argmax(axis=1)
        return predicted

    @cached_property
    def confidence(self) -> FloatArray:
        """Probability of the predicted class of each image, shape (N,)."""
        confidence: FloatArray = self.probs.max(axis=1)
        return confidence

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """Ranking of the images for each class against the rest."""
        return tuple(Ranking(column, self.labels == index) for index, column in enumerate(self.probs.T))

    @cached_property
    def support(self) -> NDArray[np.intp]:
        """Number of images of each class, shape (C,)."""
        return np.bincount(self.labels, minlength=len(self.codes))

    @property
    def has_auroc(self) -> NDArray[np.bool_]:
        """True for classes of some but not all images, shape (C,)."""
        return (self.support > 0) & (self.support < len(self.labels))

    def confusion(self, counts: Weights) -> NDArray[np.intp]:
        """Compute the confusion matrix, shape (C, C), with true classes as rows.

        Args:
            counts: Number of times that each image counts, shape (N,).
        """
        classes = len(self.codes)
        cells = np.bincount(self.labels * classes + self.predicted, weights=counts, minlength=classes**2)
        return cells.reshape(classes, classes).astype(np.intp)

    def select(self, rows: ImageRows) -> "LabeledPredictions":
        """Select images by their positions."""
        return LabeledPredictions(self.probs[rows], self.labels[rows], self.codes)


def score_predictions(predictions: LabeledPredictions, weights: Weights | None = None) -> dict[str, float | None]:
    """Compute the metrics of a classifier as a flat dictionary.

    A metric that is undefined for a class (a class without images) is None and is left out of the mean over classes;
    `classes_left_out` lists these classes. Where a class has images but the weights leave none of them, the mean is None too,
    because a mean over fewer classes would be another metric.

    Args:
        predictions: Predictions with the true classes.
        weights: Number of times that each image counts, shape (N,), in a bootstrap resample; None counts each once.

    Returns:
        `accuracy`, `majority_baseline` (majority-class baseline accuracy), `balanced_accuracy` (mean sensitivity), `macro_f1`,
        `macro_auroc`, `macro_auprc`, `ece` (15 bins), and for each class `sensitivity_<code>`, `specificity_<code>`, `f1_<code>`,
        `auroc_<code>`, `auprc_<code>` (average precision) and `support_<code>` (images).

    Raises:
        ValueError: The weights are not counts.
    """
    counts = image_counts(weights, len(predictions.labels))
    confusion = predictions.confusion(counts)
    per_class = _score_confusion(confusion) | _score_rankings(predictions, counts)
    support = confusion.sum(axis=1)
    correct = predictions.predicted == predictions.labels
    scores = {
        "accuracy": confusion.trace() / support.sum(),
        "majority_baseline": support.max() / support.sum(),
        "balanced_accuracy": _mean_over(per_class["sensitivity"], predictions.support > 0),
        "macro_f1": _mean_over(per_class["f1"], predictions.support > 0),
        "macro_auroc": _mean_over(per_class["auroc"], predictions.has_auroc),
        "macro_auprc": _mean_over(per_class["auprc"], predictions.has_auroc),
        "ece": expected_calibration_error(predictions.confidence, correct, weights=counts),
    }
    codes = predictions.codes
    scores |= {f"{name}_{code}": value for name, values in per_class.items() for code, value in zip(codes, values, strict=True)}
    defined: dict[str, float | None] = {name: None if np.isnan(value) else float(value) for name, value in scores.items()}
    return defined | {f"support_{code}": int(count) for code, count in zip(codes, support, strict=True)}


def classes_left_out(predictions: LabeledPredictions) -> list[str]:
    """List the classes without an AUROC, which the macro means leave out."""
    return [code for code, has_auroc in zip(predictions.codes, predictions.has_auroc, strict=True) if not has_auroc]


def _mean_over(values: FloatArray, kept: NDArray[np.bool_]) -> float:
    return float(values[kept].mean()) if kept.any() else np.nan


def _score_confusion(confusion: NDArray[np.intp]) -> dict[str, FloatArray]:
    """Compute sensitivity, specificity and F1 of each class, shape (C,)."""
    true, predicted, correct = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    others = confusion.sum() - true
    return {
        "sensitivity": _divide(correct, true),
        "specificity": _divide(others - (predicted - correct), others),
        "f1": np.where(true > 0, _divide(2 * correct, true + predicted), np.nan),
    }


def _divide(part: NDArray[np.intp], whole: NDArray[np.intp]) -> FloatArray:
    return part / np.where(whole > 0, whole, np.nan)


def _score_rankings(predictions: LabeledPredictions, counts: Weights) -> dict[str, FloatArray]:
    curves = [ranking.curve(counts) for ranking in predictions.rankings]
    return {"auroc": np.array([curve.auroc() for curve in curves]), "auprc": np.array([curve.auprc() for curve in curves])}
