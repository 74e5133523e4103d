"""Segmentation metrics: overlap of a predicted mask with the true one."""

import numpy as np

from segpipe.metrics.bootstrap import Weights, image_counts
from segpipe.types import BoolMask, FloatArray, require_mask

# Jaccard below which a mask counts as failed (ISIC 2018 challenge, arXiv 1902.03368).
ISIC_THRESHOLD = 0.65


def dice(predicted: BoolMask, true: BoolMask) -> float:
    """Compute the Dice coefficient of two masks.

    Formula: `2 |A and B| / (|A| + |B|)`.

    Args:
        predicted: Predicted mask, bool, shape (H, W).
        true: True mask, bool, shape (H, W).

    Returns:
        Number in [0, 1]; 1 where both masks are empty.

    Raises:
        ValueError: A mask is not bool, or the shapes differ.
    """
    overlap = _overlap(predicted, true)
    area = int(np.count_nonzero(predicted)) + int(np.count_nonzero(true))
    return 2 * overlap / area if area else 1.0


def jaccard(predicted: BoolMask, true: BoolMask) -> float:
    """Compute the Jaccard index (IoU) of two masks.

    Formula: `|A and B| / |A or B|`.

    Args:
        predicted: Predicted mask, bool, shape (H, W).
        true: True mask, bool, shape (H, W).

    Returns:
        Number in [0, 1]; 1 where both masks are empty.

    Raises:
        ValueError: A mask is not bool, or the shapes differ.
    """
    overlap = _overlap(predicted, true)
    union = int(np.count_nonzero(predicted)) + int(np.count_nonzero(true)) - overlap
    return overlap / union if union else 1.0


def _overlap(predicted: BoolMask, true: BoolMask) -> int:
    for mask in (predicted, true):
        require_mask(mask)
    if predicted.shape != true.shape:
        raise ValueError(f"masks must have one shape, got {predicted.shape} and {true.shape}; resize the predicted one")
    return int(np.count_nonzero(predicted & true))


def thresholded_jaccard(jaccards: FloatArray, threshold: float = ISIC_THRESHOLD) -> FloatArray:
    """Set each Jaccard below a threshold to 0.

    Args:
        jaccards: Jaccard of each image, float, shape (N,), in [0, 1].
        threshold: Smallest Jaccard that counts.

    Returns:
        Thresholded Jaccard of each image, float64, shape (N,).

    Reference:
        ISIC 2018 Task 1, arXiv 1902.03368.
    """
    return np.where(jaccards < threshold, 0.0, jaccards)


def score_masks(dices: FloatArray, jaccards: FloatArray, weights: Weights | None = None) -> dict[str, float]:
    """Compute the mean metrics of a set of masks.

    Args:
        dices: Dice of each image, shape (N,).
        jaccards: Jaccard of each image, shape (N,), in the same order.
        weights: Number of times that each image counts, shape (N,), in a bootstrap resample; None counts each once.

    Returns:
        Means `dice`, `jaccard` and `thresholded_jaccard`, and `share_below_065`, the fraction of Jaccards below 0.65.

    Raises:
        ValueError: The arrays differ in length or are empty, or the weights are not counts.
    """
    if dices.ndim != 1 or dices.shape != jaccards.shape or dices.size == 0:
        raise ValueError(f"dices and jaccards must hold one number per image, got shapes {dices.shape} and {jaccards.shape}")
    counts = image_counts(weights, len(dices))
    per_image = {
        "dice": dices,
        "jaccard": jaccards,
        "thresholded_jaccard": thresholded_jaccard(jaccards),
        "share_below_065": (jaccards < ISIC_THRESHOLD).astype(np.float64),
    }
    return {name: float(np.average(values, weights=counts)) for name, values in per_image.items()}
