"""Confident learning: likely label errors from predicted probabilities.

Reference:
    Northcutt et al., Confident Learning: Estimating Uncertainty in Dataset Labels, 2021, arXiv 1911.00068.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segpipe.types import FloatArray, Labels


@dataclass(frozen=True)
class LabelQuality:
    """Fit of given labels to predicted probabilities.

    Attributes:
        confidence: Probability of the given class, in [0, 1], shape (N,). The lower, the likelier is a label error.
        suggested: Index of the class of a likely error, else of the most probable class other than the given one, shape (N,).
        likely_error: True where confident learning counts the image in another class than the given one, bool, shape (N,).
    """

    confidence: FloatArray
    suggested: Labels
    likely_error: NDArray[np.bool_]

    def order(self) -> NDArray[np.intp]:
        """Return the indices of the images, the likeliest label error first."""
        return np.argsort(self.confidence, kind="stable")


def judge_labels(probs: FloatArray, labels: Labels) -> LabelQuality:
    """Compare labels with the probabilities of a model.

    The model must not have been trained on these images. The threshold of a class is the mean probability of the images with its
    label. An image is confidently in the most probable class among those whose probability reaches their threshold; if that is
    not the given one, the label is a likely error.

    Args:
        probs: Probabilities, each in [0, 1], shape (N, C) with at least two classes.
        labels: Indices of the given classes, in [0, C), shape (N,).

    Raises:
        ValueError: The shapes or the labels do not fit.
    """
    count, classes = probs.shape
    if classes < 2 or labels.shape != (count,) or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"labels must be {count} indices of {classes} (two or more) classes, got shape {labels.shape}")
    of_class = labels[:, None] == np.arange(classes)
    sums, images = (probs * of_class).sum(axis=0), of_class.sum(axis=0)
    thresholds = np.divide(sums, images, out=np.full(classes, np.inf), where=images > 0)
    confident = np.where(probs >= thresholds, probs, -1.0)
    confident_class, is_confident = confident.argmax(axis=1), confident.max(axis=1) >= 0
    others = np.where(of_class, -1.0, probs)
    likely_error = is_confident & (confident_class != labels)
    suggested = np.where(likely_error, confident_class, others.argmax(axis=1))
    return LabelQuality(probs[of_class], suggested, likely_error)
