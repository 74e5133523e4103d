"""Plausibility rules for masks and images, and reasons in plain words.

Limits were set on the true masks of 2,500 random HAM10000 images at 192 x 192 pixels; each constant states how often its rule
fires on them. Of every third true mask (3,339), 0.6 % are refused by any rule, including masks in several pieces.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.types import BoolMask, RgbImage, require_mask

THRESHOLD = 0.5

# Fraction of the image; 0.1 % of the true masks are smaller.
MIN_AREA_FRACTION = 0.0075
# Fraction of the image; 0.3 % of the true masks are larger.
MAX_AREA_FRACTION = 0.95
# Fraction covered of each of the four image sides; 0.3 % of the true masks cover more on all four.
MAX_SIDE_COVERED = 0.5
# Mean probability inside the mask, at least 0.5 by definition. True masks are certain everywhere, so they were blurred
# (Gaussian, standard deviation 2 % of the side) to imitate the soft border of a network: 0.1 % of them fall below.
MIN_MEAN_PROB = 0.75

# Standard deviation in gray levels, the largest of the three channels, of the image reduced to 64 x 64 pixels. The smallest of
# 1,500 random HAM10000 images is 7.6; a white wall with sensor noise has 1.
MIN_COLOR_DEVIATION = 5.0
_REDUCED_SIDE = 64

WARNINGS: dict[str, str] = {
    "uniform_image": "The image is uniform or nearly so: there is nothing to classify, and the diagnosis means nothing.",
    "no_lesion_found": "No lesion was found, so the whole image was classified: do not rely on the diagnosis.",
}
REASONS: dict[str, str] = {
    "too_small": "The mask covers less of the image than lesions in dermoscopic images do.",
    "too_large": "The mask covers nearly the whole image, so it does not separate lesion from skin.",
    "in_pieces": "The mask falls into several pieces, and none of them stands out as the lesion.",
    "touches_border": "The mask runs along all four sides of the image, as a frame or a vignette does.",
    "unsure": "The network was close to undecided over much of the mask.",
    "nothing_found": "The adaptive threshold found no region that stands out from the skin.",
    "implausible": "The contour does not look like a lesion's: low contrast, ragged, or far from the center.",
}
# Remarks on accepted masks.
NOTES: dict[str, str] = {
    "piece_left_out": "The mask had another large piece, farther from the middle or at the border, which was left out.",
}


def is_uniform(image: RgbImage) -> bool:
    """Return True for an image that has one color, or nearly so.

    Args:
        image: RGB uint8, shape (H, W, 3).
    """
    height, width = (min(side, _REDUCED_SIDE) for side in image.shape[:2])
    reduced = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return bool(reduced.reshape(-1, 3).std(axis=0).max() < MIN_COLOR_DEVIATION)


def judge_mask_probs(mask_probs: NDArray[np.float32]) -> tuple[str, ...]:
    """List the reasons against the U-Net's mask of one piece.

    `choose_piece` judges masks of several pieces.

    Args:
        mask_probs: Lesion probability, float in [0, 1], shape (h, w), any resolution.

    Returns:
        Codes of `REASONS`; empty for a plausible mask. An empty mask is only `too_small`.

    Raises:
        ValueError: `mask_probs` is not a map of probabilities.
    """
    require_probability_map(mask_probs)
    mask = mask_probs > THRESHOLD
    if mask.mean() < MIN_AREA_FRACTION:
        return ("too_small",)
    checks = {
        "too_large": mask.mean() > MAX_AREA_FRACTION,
        "touches_border": _least_side_covered(mask) > MAX_SIDE_COVERED,
        "unsure": mask_probs[mask].mean() < MIN_MEAN_PROB,
    }
    return tuple(code for code, fires in checks.items() if fires)


def fill_holes(mask: BoolMask) -> BoolMask:
    """Fill the holes of a mask; holes are 4-connected.

    Args:
        mask: Bool, shape (H, W).
    """
    require_mask(mask)
    # Same result as SciPy's binary_fill_holes in a third of the time.
    outside = np.pad(~mask, 1, constant_values=True)
    labels = cv2.connectedComponents(outside.astype(np.uint8), connectivity=4)[1]
    return np.asarray(labels[1:-1, 1:-1] != labels[0, 0], dtype=np.bool_)


def require_probability_map(mask_probs: NDArray[np.float32]) -> None:
    """Check that a value is a map of probabilities.

    Raises:
        ValueError: `mask_probs` is not a float array (h, w) with values in [0, 1].
    """
    if not isinstance(mask_probs, np.ndarray) or not np.issubdtype(mask_probs.dtype, np.floating):
        kind = getattr(mask_probs, "dtype", type(mask_probs).__name__)
        raise ValueError(f"mask_probs must be a float array (h, w), got {kind}; give probabilities in [0, 1]")
    if mask_probs.ndim != 2 or mask_probs.size == 0:
        raise ValueError(f"mask_probs must have shape (h, w), got {mask_probs.shape}; give one map, without batch or channel")
    low, high = float(mask_probs.min()), float(mask_probs.max())
    # Averages over views may exceed 1 by a rounding error; NaN fails both comparisons.
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"mask_probs must lie in [0, 1], got {low:.4g} to {high:.4g}; apply the sigmoid to logits first")


def _least_side_covered(mask: BoolMask) -> float:
    """Return the smallest covered fraction of the four image sides."""
    return float(min(side.mean() for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])))


# Distance from the center, in image sides, at which the weight of a pixel falls to 1 / e.
CENTRALITY_WIDTH = 0.2
# Weight of pieces at the image border. Of the 20 masks in pieces among 2,150 ISIC 2017 images (stickers, ink, skin
# folds), 11 then yield the lesion and none anything else; three stickers larger than their lesion are no longer chosen.
BORDER_WEIGHT = 0.25
# Ratio of the second-best to the best score, above which either piece may be the lesion.
MAX_SECOND_SCORE = 0.3


@dataclass(frozen=True)
class Piece:
    """Piece of a mask that is most like the photographed lesion.

    Attributes:
        mask: Bool, shape (h, w), one connected piece; empty if no piece is large enough.
        refusals: Codes of `REASONS` against it; empty for a plausible piece.
        notes: Codes of `NOTES`; empty for a refused piece.
    """

    mask: BoolMask
    refusals: tuple[str, ...]
    notes: tuple[str, ...] = ()


def choose_piece(mask_probs: NDArray[np.float32]) -> Piece:
    """Choose and judge the piece of a mask most like a lesion.

    That is a large piece near the middle and away from the border. Pieces below `MIN_AREA_FRACTION` are dropped without a note.

    Args:
        mask_probs: Lesion probability, float in [0, 1], shape (h, w), any resolution.

    Returns:
        Piece with the highest score; refused as `in_pieces` if the second one comes close, or if all are small.

    Raises:
        ValueError: `mask_probs` is not a map of probabilities.
    """
    require_probability_map(mask_probs)
    mask = mask_probs > THRESHOLD
    # Pixels that touch only at a corner are separate pieces, because enlarging the map separates them.
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    large = 1 + np.flatnonzero(statistics[1:, cv2.CC_STAT_AREA] / mask.size >= MIN_AREA_FRACTION)
    if large.size == 0:
        return Piece(np.zeros_like(mask), ("too_small" if mask.mean() < MIN_AREA_FRACTION else "in_pieces",))
    scores = _scores(np.asarray(labels, dtype=np.int32), np.asarray(statistics, dtype=np.int32))[large]
    piece = labels == large[scores.argmax()]
    refusals = judge_mask_probs(np.where(piece, mask_probs, np.float32(0)))
    if large.size > 1 and np.sort(scores)[-2] > MAX_SECOND_SCORE * scores.max():
        refusals += ("in_pieces",)
    return Piece(piece, refusals, ("piece_left_out",) if large.size > 1 and not refusals else ())


def _scores(labels: NDArray[np.int32], statistics: NDArray[np.int32]) -> NDArray[np.float64]:
    """Score each piece by its size, centrality and distance from the border.

    The score is the sum of `exp(-(d / CENTRALITY_WIDTH)^2)` over its pixels, times `BORDER_WEIGHT` at the border.
    """
    height, width = labels.shape
    rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in (height, width))
    centrality = np.outer(*(np.exp(-((offsets / CENTRALITY_WIDTH) ** 2)) for offsets in (rows, columns)))
    scores = np.bincount(labels.ravel(), weights=centrality.ravel())
    left, top, width_of_piece, height_of_piece, _ = statistics.T
    at_border = (left == 0) | (top == 0) | (left + width_of_piece == width) | (top + height_of_piece == height)
    return np.asarray(scores * np.where(at_border, BORDER_WEIGHT, 1.0), dtype=np.float64)
