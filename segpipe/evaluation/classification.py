"""How well probabilities name the diagnosis: over all images, and each class against the rest."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import auc, confusion_matrix

from segpipe.evaluation.bootstrap import Weights, image_counts
from segpipe.evaluation.calibration import expected_calibration_error

FloatArray = NDArray[np.float64]
Labels = NDArray[np.integer]


def score_probs(
    probs: FloatArray, labels: Labels, codes: Sequence[str], weights: Weights | None = None
) -> dict[str, float | None]:
    """The figures of a classifier, flat, so that an interval can stand beside each of them.

    The answer is the most probable class, the first of equal ones. A figure that does not exist (a class without images) is None
    and stays out of the mean over classes; `classes_left_out` names these classes. Where a class has images but the weights leave
    none of them, the mean is None too, because a mean over fewer classes would be another figure.

    Args:
        probs: probability of each class, shape (N, C), in [0, 1].
        labels: class index of each image, shape (N,).
        codes: the C classes in the order of the columns.
        weights: how often each image counts, shape (N,); once each if not given. This is how a bootstrap resamples.

    Returns:
        `accuracy`, `majority_baseline` (accuracy of always naming the most common class of `labels`), `balanced_accuracy` (mean
        sensitivity), `macro_auroc`, `macro_auprc`, `ece` (15 bins), and for each class `sensitivity_<code>`,
        `specificity_<code>`, `f1_<code>`, `auroc_<code>`, `auprc_<code>` (average precision) and `support_<code>` (images).

    Raises:
        ValueError: the shapes do not fit, there is no image, a probability is outside [0, 1], a label is no class, or the weights
            are not counts.
    """
    check_probs(probs, labels, codes)
    counts = image_counts(weights, len(labels))
    answers = probs.argmax(axis=1)
    confusion = confusion_matrix(labels, answers, labels=range(len(codes)), sample_weight=counts)
    per_class = _score_answers(confusion) | _score_ranking(probs, labels, counts)
    support = confusion.sum(axis=1)
    ranked = _has_both_sides(labels, len(codes))
    scores = {
        "accuracy": confusion.trace() / support.sum(),
        "majority_baseline": support.max() / support.sum(),
        "balanced_accuracy": _mean_over(per_class["sensitivity"], np.bincount(labels, minlength=len(codes)) > 0),
        "macro_auroc": _mean_over(per_class["auroc"], ranked),
        "macro_auprc": _mean_over(per_class["auprc"], ranked),
        "ece": expected_calibration_error(probs.max(axis=1), answers == labels, weights=counts),
    }
    scores |= {f"{name}_{code}": value for name, values in per_class.items() for code, value in zip(codes, values, strict=True)}
    known: dict[str, float | None] = {name: None if np.isnan(value) else float(value) for name, value in scores.items()}
    return known | {f"support_{code}": int(count) for code, count in zip(codes, support, strict=True)}


def classes_left_out(labels: Labels, codes: Sequence[str]) -> list[str]:
    """The classes that have no AUROC, because no image or every image has them; the macro means go without them."""
    return [code for code, scored in zip(codes, _has_both_sides(labels, len(codes)), strict=True) if not scored]


def check_probs(probs: FloatArray, labels: Labels, codes: Sequence[str]) -> None:
    """Make sure that probabilities, labels and classes belong together.

    Args:
        probs: probability of each class, shape (N, C), in [0, 1].
        labels: class index of each image, shape (N,).
        codes: the C classes in the order of the columns.

    Raises:
        ValueError: the shapes do not fit, there is no image, a probability is outside [0, 1], or a label is no class.
    """
    if len(labels) == 0:
        raise ValueError("labels must hold at least one image, got none; check that labels and predictions name the same images")
    if labels.ndim != 1 or probs.shape != (len(labels), len(codes)):
        raise ValueError(f"probs must have shape ({len(labels)}, {len(codes)}), images by classes, got {probs.shape}")
    if not ((probs >= 0) & (probs <= 1)).all():
        raise ValueError(f"probs must lie in [0, 1], got {probs.min()} to {probs.max()}; give probabilities, not logits")
    if labels.min() < 0 or labels.max() >= len(codes):
        raise ValueError(f"labels must lie in 0 to {len(codes) - 1}, got {labels.min()} to {labels.max()}")


def _has_both_sides(labels: Labels, classes: int) -> NDArray[np.bool_]:
    counts = np.bincount(labels, minlength=classes)
    return (counts > 0) & (counts < len(labels))


def _mean_over(values: FloatArray, kept: NDArray[np.bool_]) -> float:
    return float(values[kept].mean()) if kept.any() else np.nan


def _score_answers(confusion: NDArray[np.intp]) -> dict[str, FloatArray]:
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


def _score_ranking(probs: FloatArray, labels: Labels, counts: Weights) -> dict[str, FloatArray]:
    areas = np.array([_areas(column, labels == index, counts) for index, column in enumerate(probs.T)])
    return {"auroc": areas[:, 0], "auprc": areas[:, 1]}


def _areas(scores: FloatArray, positive: NDArray[np.bool_], counts: Weights) -> tuple[float, float]:
    """AUROC and average precision of one class; nan without positives or negatives.

    Both equal scikit-learn's, from one sort: a bootstrap needs them thousands of times and its functions are ten times slower.
    """
    order = np.argsort(-scores)
    last_of_equals = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum((counts * positive)[order])[last_of_equals]
    called = np.cumsum(counts[order])[last_of_equals]
    false_alarms = called - hits
    if hits[-1] == 0 or false_alarms[-1] == 0:
        return np.nan, np.nan
    auroc = auc(np.append(0, false_alarms / false_alarms[-1]), np.append(0, hits / hits[-1]))
    # Where nothing is called yet (leading weights of 0) the step in recall is 0, so any precision will do there.
    precision = hits / np.maximum(called, 1)
    return float(auroc), float(np.diff(hits / hits[-1], prepend=0) @ precision)
