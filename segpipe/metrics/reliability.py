"""Whether a probability of 0.8 is right eight times in ten."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import Weights, image_counts

FloatArray = NDArray[np.float64]


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
