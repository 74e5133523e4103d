"""Calibration: fit of temperature and class biases, calibration error, reliability curve.

The calibration is fitted on images that the model was not trained on, and is kept in its card.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import Weights, image_counts
from segpipe.types import FloatArray, Labels

METHODS = ("none", "temperature", "logit_adjustment")
_LOG_RANGE = (math.log(0.05), math.log(20.0))
# Standard deviation of the prior of the log temperature, a choice: two thirds of its mass lie between 0.6 and 1.6.
_PRIOR_WIDTH = 0.5


@dataclass(frozen=True)
class Calibration:
    """Map from logits to probabilities.

    Formula: the mean over views of `softmax(logits / temperature + logit_bias)`.

    Attributes:
        temperature: Divisor of the logits, above 0; above 1 for an overconfident model, below 1 for an underconfident one. It
            never changes the prediction of a single view.
        logit_bias: Bias of each class, which may change the prediction; empty for none.
    """

    temperature: float = 1.0
    logit_bias: tuple[float, ...] = ()

    def probs(self, logits: FloatArray) -> FloatArray:
        """Compute calibrated probabilities.

        Args:
            logits: Logits of each view of each image, shape (V, N, C).

        Returns:
            Probabilities, shape (N, C).
        """
        return np.asarray(np.exp(_mean_log_probs(logits, self)))


@dataclass(frozen=True)
class ReliabilityCurve:
    """Confidence against accuracy, in bins of equal width over [0, 1].

    Attributes:
        confidence: Mean confidence in each bin, float64, shape (bins,); NaN where the bin is empty.
        accuracy: Fraction of correct predictions in each bin, float64, shape (bins,); NaN where the bin is empty.
        counts: Number of images in each bin, shape (bins,).
    """

    confidence: FloatArray
    accuracy: FloatArray
    counts: NDArray[np.intp]


def fit_calibration(method: str, logits: FloatArray, labels: Labels, *, counts: Sequence[int]) -> Calibration:
    """Fit a calibration to labels, the most probable one given them.

    The prior of the log temperature is normal around 0 (temperature 1). It decides where there are a few images, whose likelihood
    alone would often drive the temperature to an end of its range, and moves that of a thousand images by less than 1 %.

    Args:
        method: `none`; `temperature` (Guo et al. 2017, arXiv 1706.04599); or `logit_adjustment`, which also gives each class a
            bias of `strength * log(prior)`, so that a model whose loss changed the class frequencies (focal loss, weights, logit
            adjustment) predicts with those of the training data again (arXiv 2007.07314).
        logits: Logits of each view of each image, float, shape (V, N, C).
        labels: Class index of each image, shape (N,).
        counts: Number of training images of each class, C of them; a class without images counts as one image.

    Returns:
        Calibration with a temperature in [0.05, 20].

    Raises:
        ValueError: The method is unknown, shapes do not fit, there is no image, a logit is not finite, or a label is no class.
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

    from scipy.optimize import minimize

    def loss(point: FloatArray) -> float:
        return negative_log_likelihood(_calibration_at(point, log_prior), logits, labels) + _penalty(point[0], len(labels))

    fit = minimize(
        loss,
        x0=np.array([math.log(temperature), 0.0]),
        method="Nelder-Mead",
        bounds=[_LOG_RANGE, (-3.0, 3.0)],
        options={"xatol": 1e-5, "fatol": 1e-9},
    )
    return _calibration_at(fit.x, log_prior)


def calibration_errors(calibration: Calibration, logits: FloatArray, labels: Labels) -> dict[str, float]:
    """Measure the fit of calibrated probabilities to labels.

    Args:
        calibration: Calibration to measure.
        logits: Logits of each view of each image, shape (V, N, C).
        labels: Class index of each image, shape (N,).

    Returns:
        `temperature`, `nll` (negative log-likelihood), `ece` (15 bins), `accuracy` and `balanced_accuracy` (over the classes that
        occur); a bias trades accuracy against balanced accuracy.
    """
    probs = calibration.probs(logits)
    correct = probs.argmax(axis=1) == labels
    return {
        "temperature": calibration.temperature,
        "nll": negative_log_likelihood(calibration, logits, labels),
        "ece": expected_calibration_error(probs.max(axis=1), correct),
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float(np.mean([correct[labels == code].mean() for code in np.unique(labels)])),
    }


def negative_log_likelihood(calibration: Calibration, logits: FloatArray, labels: Labels) -> float:
    """Compute the mean over images of `-log p(true class)`, see `calibration_errors`."""
    return float(-_mean_log_probs(logits, calibration)[np.arange(len(labels)), labels].mean())


def expected_calibration_error(
    confidence: FloatArray, correct: NDArray[np.bool_], bins: int = 15, weights: Weights | None = None
) -> float:
    """Compute the expected calibration error, `sum_b (n_b / n) |accuracy_b - confidence_b|`.

    It is never negative, so noise can only raise it: on few images even a calibrated model has an error well above 0.

    Args:
        confidence: Probability of the predicted class, shape (N,), in [0, 1].
        correct: True where the prediction is correct, bool, shape (N,).
        bins: Number of bins of equal width; each includes its upper edge, the first one both edges.
        weights: Number of times that each image counts, shape (N,); None counts each once.

    Returns:
        Error in [0, 1]; 0 for a calibrated model.

    Raises:
        ValueError: The arrays are empty or differ in shape, a confidence is outside [0, 1], there is no bin, or the weights are
            not counts.

    Reference:
        Guo et al. 2017, arXiv 1706.04599.
    """
    bin_of_image = _bin_of_image(confidence, correct, bins)
    counts = image_counts(weights, len(confidence))
    # n_b (accuracy_b - confidence_b) is the sum of the differences of single images, so empty bins need no special case.
    gaps = np.bincount(bin_of_image, weights=counts * (correct - confidence), minlength=bins)
    return float(np.abs(gaps).sum() / counts.sum())


def reliability_curve(confidence: FloatArray, correct: NDArray[np.bool_], bins: int = 15) -> ReliabilityCurve:
    """Compute the points of a reliability diagram, see `expected_calibration_error`."""
    bin_of_image = _bin_of_image(confidence, correct, bins)
    counts = np.bincount(bin_of_image, minlength=bins)
    divisor = np.where(counts > 0, counts, np.nan)
    return ReliabilityCurve(
        confidence=np.bincount(bin_of_image, weights=confidence, minlength=bins) / divisor,
        accuracy=np.bincount(bin_of_image, weights=correct, minlength=bins) / divisor,
        counts=counts,
    )


def _fit_temperature(logits: FloatArray, labels: Labels) -> float:
    from scipy.optimize import minimize_scalar

    fit = minimize_scalar(
        lambda point: negative_log_likelihood(Calibration(math.exp(point)), logits, labels) + _penalty(point, len(labels)),
        bounds=_LOG_RANGE,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(fit.x))


def _penalty(log_temperature: float, images: int) -> float:
    """Negative log prior of a temperature, for each image."""
    return (log_temperature / _PRIOR_WIDTH) ** 2 / (2 * images)


def _calibration_at(point: FloatArray, log_prior: FloatArray) -> Calibration:
    return Calibration(math.exp(point[0]), tuple((point[1] * log_prior).tolist()))


def _mean_log_probs(logits: FloatArray, calibration: Calibration) -> FloatArray:
    bias = np.array(calibration.logit_bias or 0.0)
    scaled = logits.astype(np.float64) / calibration.temperature + bias
    log_probs = scaled - _log_sum_exp(scaled, axis=2)
    return np.asarray(_log_sum_exp(log_probs, axis=0)[0] - math.log(len(logits)))


def _log_sum_exp(values: FloatArray, *, axis: int) -> FloatArray:
    """Compute `log(sum(exp(values)))` without overflow; keeps the axis."""
    highest = values.max(axis=axis, keepdims=True)
    return np.asarray(highest + np.log(np.exp(values - highest).sum(axis=axis, keepdims=True)))


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
