"""The few numbers that turn logits into probabilities that can be believed.

They are fitted on images that the model was not trained on, and kept in its card.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, logsumexp

from segpipe.metrics.bootstrap import Weights, image_counts
from segpipe.types import FloatArray, Labels


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


METHODS = ("none", "temperature", "logit_adjustment")
_LOG_RANGE = (math.log(0.05), math.log(20.0))


@dataclass(frozen=True)
class Calibration:
    """From logits z to probabilities: the mean over views of `softmax(z / temperature + logit_bias)`.

    Attributes:
        temperature: above 0; above 1 the model was too sure, below 1 not sure enough. It never changes a single view's answer.
        logit_bias: of each class; it may change the answer. Empty for none.
    """

    temperature: float = 1.0
    logit_bias: tuple[float, ...] = ()

    def probs(self, logits: FloatArray) -> FloatArray:
        """Args: logits, shape (V, N, C), of each view of each image. Returns: probabilities, shape (N, C)."""
        return np.asarray(np.exp(_mean_log_probs(logits, self.temperature, np.array(self.logit_bias or 0.0))))


def fit_calibration(method: str, logits: FloatArray, labels: Labels, *, counts: Sequence[int]) -> Calibration:
    """Fit probabilities to labels by the least negative log-likelihood.

    Args:
        method: `none`; `temperature` (Guo et al. 2017, arXiv 1706.04599); or `logit_adjustment`, which gives each class a bias of
            `strength * log(prior)` too, so that a model whose loss bent the class frequencies (focal loss, weights, logit
            adjustment) answers with those of the training data again (arXiv 2007.07314).
        logits: float, shape (V, N, C): of each view of each image.
        labels: class index of each image, shape (N,).
        counts: training images of each class, C of them; a class without any counts as one image.

    Returns:
        A temperature in [0.05, 20]. A value near an end of the range means that the labels set no limit, as when every answer is
        right.

    Raises:
        ValueError: the method is unknown, shapes do not fit, there is no image, a logit is not finite, or a label is no class.
    """
    if method not in METHODS:
        raise ValueError(f"calibration must be one of {', '.join(METHODS)}, got {method!r}")
    _check(logits, labels, counts)
    if method == "none":
        return Calibration()
    temperature = _fit_temperature(logits, labels)
    if method == "temperature":
        return Calibration(temperature)
    images = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    log_prior = np.log(images / images.sum())

    def loss(point: FloatArray) -> float:
        return negative_log_likelihood(_calibration_at(point, log_prior), logits, labels)

    found = minimize(
        loss,
        x0=np.array([math.log(temperature), 0.0]),
        method="Nelder-Mead",
        bounds=[_LOG_RANGE, (-3.0, 3.0)],
        options={"xatol": 1e-5, "fatol": 1e-9},
    )
    return _calibration_at(found.x, log_prior)


def negative_log_likelihood(calibration: Calibration, logits: FloatArray, labels: Labels) -> float:
    """Mean over images of `-log p(true class)`; the arguments are those of `fit_calibration`."""
    log_probs = _mean_log_probs(logits, calibration.temperature, np.array(calibration.logit_bias or 0.0))
    return float(-log_probs[np.arange(len(labels)), labels].mean())


def calibration_errors(calibration: Calibration, logits: FloatArray, labels: Labels) -> dict[str, float]:
    """How well probabilities fit labels; the arguments are those of `fit_calibration`.

    Returns:
        `temperature`, `nll` (negative log-likelihood), `ece` (15 bins), `accuracy` and `balanced_accuracy` (over the classes that
        occur): a bias trades the last two against each other.
    """
    probs = calibration.probs(logits)
    right = probs.argmax(axis=1) == labels
    return {
        "temperature": calibration.temperature,
        "nll": negative_log_likelihood(calibration, logits, labels),
        "ece": expected_calibration_error(probs.max(axis=1), right),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([right[labels == code].mean() for code in np.unique(labels)])),
    }


def _fit_temperature(logits: FloatArray, labels: Labels) -> float:
    """With one view the loss is convex in 1/T, so the search over log T finds its only valley."""
    found = minimize_scalar(
        lambda log_temperature: negative_log_likelihood(Calibration(math.exp(log_temperature)), logits, labels),
        bounds=_LOG_RANGE,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def _calibration_at(point: FloatArray, log_prior: FloatArray) -> Calibration:
    return Calibration(math.exp(point[0]), tuple((point[1] * log_prior).tolist()))


def _mean_log_probs(logits: FloatArray, temperature: float, bias: FloatArray) -> FloatArray:
    log_probs = log_softmax(logits.astype(np.float64) / temperature + bias, axis=2)
    return np.asarray(logsumexp(log_probs, axis=0) - math.log(len(logits)))


def _check(logits: FloatArray, labels: Labels, counts: Sequence[int]) -> None:
    if logits.ndim != 3 or labels.shape != logits.shape[1:2] or logits.size == 0 or len(counts) != logits.shape[2]:
        raise ValueError(
            f"logits, labels and counts must have shapes (V, N, C), (N,) and (C,), got {logits.shape}, {labels.shape} and "
            f"({len(counts)},)"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite, got nan or infinity; the training has probably diverged")
    if labels.min() < 0 or labels.max() >= logits.shape[2]:
        raise ValueError(f"labels must lie in 0 to {logits.shape[2] - 1}, got {labels.min()} to {labels.max()}")
