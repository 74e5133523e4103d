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

from segpipe.metrics.reliability import expected_calibration_error

FloatArray = NDArray[np.float64]
Labels = NDArray[np.integer]

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
