"""How well a predicted mask covers the true one."""

import numpy as np

from segpipe.io.arrays import require_mask
from segpipe.metrics.bootstrap import Weights, image_counts
from segpipe.types import BoolMask, FloatArray

# Below this Jaccard a mask counts as failed (ISIC 2018 challenge, arXiv 1902.03368).
ISIC_THRESHOLD = 0.65


def dice(predicted: BoolMask, true: BoolMask) -> float:
    """The overlap of two masks as a share of their mean area, `2 |A and B| / (|A| + |B|)`.

    Args:
        predicted: bool, shape (H, W).
        true: bool, shape (H, W).

    Returns:
        In [0, 1]; 1 where both masks are empty.

    Raises:
        ValueError: a mask is not bool; the shapes differ.
    """
    overlap = _overlap(predicted, true)
    area = int(np.count_nonzero(predicted)) + int(np.count_nonzero(true))
    return 2 * overlap / area if area else 1.0


def jaccard(predicted: BoolMask, true: BoolMask) -> float:
    """The overlap of two masks as a share of the area they cover together (IoU), `|A and B| / |A or B|`.

    Args:
        predicted: bool, shape (H, W).
        true: bool, shape (H, W).

    Returns:
        In [0, 1]; 1 where both masks are empty.

    Raises:
        ValueError: a mask is not bool; the shapes differ.
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
    """The Jaccard of each image, where one below the threshold counts as 0.

    Args:
        jaccards: float, shape (N,), each in [0, 1].
        threshold: what a mask must reach to count at all; a Jaccard equal to it counts.

    Returns:
        Float64, shape (N,).

    Reference:
        ISIC 2018 Task 1, arXiv 1902.03368.
    """
    return np.where(jaccards < threshold, 0.0, jaccards)


def score_masks(dices: FloatArray, jaccards: FloatArray, weights: Weights | None = None) -> dict[str, float]:
    """The mean figures of a set of masks.

    Args:
        dices: Dice of each image, shape (N,).
        jaccards: Jaccard of each image, shape (N,), in the same order.
        weights: how often each image counts, shape (N,); once each if not given. This is how a bootstrap resamples.

    Returns:
        The means `dice`, `jaccard` and `thresholded_jaccard`, and `share_below_065`, the share of Jaccards below 0.65.

    Raises:
        ValueError: the arrays differ in length or are empty, or the weights are not counts.
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
