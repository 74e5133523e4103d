"""Whether a probability of 0.8 is right eight times in ten, and the one number that mends it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from segpipe.evaluation.bootstrap import Weights, image_counts

FloatArray = NDArray[np.float64]

TEMPERATURE_RANGE = (0.05, 20.0)


@dataclass(frozen=True)
class ReliabilityCurve:
    """Confidence against accuracy, in bins of equal width over [0, 1].

    Attributes:
        confidence: mean confidence in each bin, float64, shape (bins,); nan where the bin is empty.
        accuracy: share of right answers in each bin, float64, shape (bins,); nan where the bin is empty.
        counts: images in each bin, shape (bins,).
    """

    confidence: FloatArray
    accuracy: FloatArray
    counts: NDArray[np.intp]


def expected_calibration_error(
    confidence: FloatArray, correct: NDArray[np.bool_], bins: int = 15, weights: Weights | None = None
) -> float:
    """How far the confidence lies from the accuracy, `sum_b (n_b / n) |accuracy_b - confidence_b|`.

    It is never negative, so noise can only raise it: on few images even a calibrated model gets a figure well above 0.

    Args:
        confidence: probability of the answer given, shape (N,), in [0, 1].
        correct: whether that answer was right, bool, shape (N,).
        bins: number of bins of equal width; each holds its upper edge, the first one both.
        weights: how often each image counts, shape (N,); once each if not given.

    Returns:
        In [0, 1]; 0 is calibrated.

    Raises:
        ValueError: the arrays are empty or differ in shape, a confidence is outside [0, 1], there is no bin, or the weights are
            not counts.

    Reference:
        Guo et al. 2017, arXiv 1706.04599.
    """
    bin_of_image = _bin_of_image(confidence, correct, bins)
    counts = image_counts(weights, len(confidence))
    # n_b (accuracy_b - confidence_b) is the sum of the single differences, so empty bins need no care.
    gaps = np.bincount(bin_of_image, weights=counts * (correct - confidence), minlength=bins)
    return float(np.abs(gaps).sum() / counts.sum())


def reliability_curve(confidence: FloatArray, correct: NDArray[np.bool_], bins: int = 15) -> ReliabilityCurve:
    """The points of a reliability diagram.

    Args:
        confidence: probability of the answer given, shape (N,), in [0, 1].
        correct: whether that answer was right, bool, shape (N,).
        bins: number of bins of equal width; each holds its upper edge, the first one both.

    Raises:
        ValueError: the arrays are empty or differ in shape, a confidence is outside [0, 1], or there is no bin.

    Reference:
        Guo et al. 2017, arXiv 1706.04599.
    """
    bin_of_image = _bin_of_image(confidence, correct, bins)
    counts = np.bincount(bin_of_image, minlength=bins)
    divisor = np.where(counts > 0, counts, np.nan)
    return ReliabilityCurve(
        confidence=np.bincount(bin_of_image, weights=confidence, minlength=bins) / divisor,
        accuracy=np.bincount(bin_of_image, weights=correct, minlength=bins) / divisor,
        counts=counts,
    )


def _bin_of_image(confidence: FloatArray, correct: NDArray[np.bool_], bins: int) -> NDArray[np.intp]:
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}")
    if confidence.ndim != 1 or confidence.shape != correct.shape or confidence.size == 0:
        shapes = f"{confidence.shape} and {correct.shape}"
        raise ValueError(f"confidence and correct must hold one value per image, got shapes {shapes}")
    lowest, highest = confidence.min(), confidence.max()
    if not (lowest >= 0 and highest <= 1):
        raise ValueError(f"confidence must lie in [0, 1], got {lowest} to {highest}; give probabilities, not logits")
    return np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)


def fit_temperature(logits: FloatArray, labels: NDArray[np.integer]) -> float:
    """The temperature T for which the mean over views of `softmax(logits / T)`, the pipeline's answer, fits the labels best.

    It minimises the negative log-likelihood. With one view that is convex in 1/T, so the search over log T finds its only valley.
    The order of the classes stays: only the confidence changes. Fit it on images that the model was not trained on.

    Args:
        logits: float, shape (V, N, C): of each view of each image.
        labels: class index of each image, shape (N,).

    Returns:
        T in [0.05, 20]; above 1 the model was too sure, below 1 not sure enough. A value near an end of the range means that the
        labels set no limit, as when every answer is right.

    Raises:
        ValueError: the shapes do not fit, there is no image, a logit is not finite, or a label is no class.

    Reference:
        Guo et al. 2017, arXiv 1706.04599.
    """
    if logits.ndim != 3 or labels.shape != logits.shape[1:2] or logits.size == 0:
        raise ValueError(f"logits and labels must have shapes (V, N, C) and (N,), got {logits.shape} and {labels.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite, got nan or infinity; the training has probably diverged")
    if labels.min() < 0 or labels.max() >= logits.shape[2]:
        raise ValueError(f"labels must lie in 0 to {logits.shape[2] - 1}, got {labels.min()} to {labels.max()}")
    logits = logits.astype(np.float64)
    images = np.arange(len(labels))

    def negative_log_likelihood(log_temperature: float) -> float:
        log_probs = log_softmax(logits / np.exp(log_temperature), axis=2)[:, images, labels]
        return float(-(logsumexp(log_probs, axis=0) - np.log(len(logits))).mean())

    low, high = map(math.log, TEMPERATURE_RANGE)
    found = minimize_scalar(negative_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
