"""Choice of the piece that is the lesion in a U-Net's mask of several: one in the middle, say, and a sticker at the rim."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.lesion.quality import MIN_AREA_FRACTION, THRESHOLD, judge_mask_probs, require_probability_map
from segpipe.types import BoolMask

# Distance from the image's center, in image sides, at which a pixel counts 1 / e of one in the center.
CENTRALITY_WIDTH = 0.2
# A piece at the image's border counts a quarter. Of the 20 masks in pieces among 2,150 images of ISIC 2017 (stickers, ink, skin
# folds) 11 then give the lesion and none anything else, and three stickers larger than the lesion beside them are taken no more.
BORDER_WEIGHT = 0.25
# Score of the second piece over that of the first; above it, either may be the lesion.
MAX_SECOND_SCORE = 0.3


@dataclass(frozen=True)
class Piece:
    """The piece of a mask that is most like the lesion that was photographed.

    Attributes:
        mask: bool, shape (h, w), one connected piece; empty where no piece is large enough.
        refusals: Codes of `quality.REASONS`, why it is not to be believed; empty for a believable piece.
        notes: Codes of `quality.NOTES`; empty where there is nothing to say, and where it is refused.
    """

    mask: BoolMask
    refusals: tuple[str, ...]
    notes: tuple[str, ...] = ()


def choose_piece(mask_probs: NDArray[np.float32]) -> Piece:
    """Choose the piece of a mask that is large, near the middle and free of the border, and judge it.

    Pieces below `quality.MIN_AREA_FRACTION` are left out without a note.

    Args:
        mask_probs: probability of lesion, float in [0, 1], shape (h, w), of any resolution.

    Returns:
        The piece with the highest score; refused as `in_pieces` where the second comes close to it, or where all are small.

    Raises:
        ValueError: `mask_probs` is not a map of probabilities.
    """
    require_probability_map(mask_probs)
    mask = mask_probs > THRESHOLD
    # Pixels that touch only at a corner are two pieces here, because they part again when the map is enlarged.
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
    """Sum `exp(-(d / CENTRALITY_WIDTH)^2)` over the pixels of each piece, times `BORDER_WEIGHT` at the border."""
    height, width = labels.shape
    rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in (height, width))
    centrality = np.outer(*(np.exp(-((offsets / CENTRALITY_WIDTH) ** 2)) for offsets in (rows, columns)))
    scores = np.bincount(labels.ravel(), weights=centrality.ravel())
    left, top, across, down, _ = statistics.T
    at_border = (left == 0) | (top == 0) | (left + across == width) | (top + down == height)
    return np.asarray(scores * np.where(at_border, BORDER_WEIGHT, 1.0), dtype=np.float64)
