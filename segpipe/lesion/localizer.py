"""Where the lesion lies: the U-Net's mask if it can be believed, else the adaptive threshold contour, else the whole image."""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.arrays import require_image
from segpipe.image_io import BoolMask, RgbImage
from segpipe.lesion.contour import find_lesion_contour, judge_contour
from segpipe.lesion.crop import Box, mask_box
from segpipe.lesion.quality import THRESHOLD, fill_holes, judge_mask_probs, label_pieces, require_probability_map


class MaskSource(StrEnum):
    """The three ways to a mask, from the most to the least trusted."""

    UNET = "unet"
    CONTOUR = "contour"
    WHOLE_IMAGE = "whole_image"


@dataclass(frozen=True)
class Localization:
    """Where the lesion lies in one image, and how that was found.

    Attributes:
        mask: bool, shape (H, W) of the image, true on the lesion, never empty.
        box: the smallest box that holds `mask`, in pixels of the image.
        source: the way by which the mask was found.
        reasons: why the ways before it were refused, each as `<way>:<code>` with a code of `quality.REASONS`; empty where the
            first way was taken.
    """

    mask: BoolMask
    box: Box
    source: MaskSource
    reasons: tuple[str, ...]

    @property
    def area_fraction(self) -> float:
        """Share of the image that the mask covers, in (0, 1]."""
        return np.count_nonzero(self.mask) / self.mask.size


def localize(image: RgbImage, mask_probs: NDArray[np.float32] | None, *, start: MaskSource = MaskSource.UNET) -> Localization:
    """Find the lesion by the most trusted way that gives a believable mask.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask_probs: the U-Net's probability of lesion, float32 in [0, 1], shape (h, w): the whole image squashed to any
            resolution. Not looked at, and may be None, where `start` lies behind the U-Net.
        start: the first way that is tried; a later one leaves the U-Net out, or the contour too.

    Returns:
        A mask in the size of the image; the whole image, with the reasons, where nothing could be believed.

    Raises:
        ValueError: `mask_probs` is missing although the way starts at the U-Net, or is not a map of probabilities.
        TypeError, ValueError: `image` is not an RGB image, see `arrays.require_image`.
    """
    require_image(image)
    reasons: tuple[str, ...] = ()
    height, width = image.shape[:2]
    if start is MaskSource.UNET:
        mask, refusals = _mask_from_probs(_require_probs(mask_probs), height, width)
        if not refusals:
            return _localization(mask, MaskSource.UNET)
        reasons += _with_way(MaskSource.UNET, refusals)
    if start is not MaskSource.WHOLE_IMAGE:
        contour = find_lesion_contour(image)
        refusals = judge_contour(contour)
        if contour is not None and not refusals:
            return _localization(contour.mask, MaskSource.CONTOUR, reasons)
        reasons += _with_way(MaskSource.CONTOUR, refusals)
    return _localization(np.ones((height, width), dtype=np.bool_), MaskSource.WHOLE_IMAGE, reasons)


def _localization(mask: BoolMask, source: MaskSource, reasons: tuple[str, ...] = ()) -> Localization:
    return Localization(mask, mask_box(mask), source, reasons)


def _with_way(way: MaskSource, refusals: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{way}:{code}" for code in refusals)


def _require_probs(mask_probs: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if mask_probs is None:
        raise ValueError("mask_probs must be a probability map where start is 'unet', got None; start at 'contour' instead")
    require_probability_map(mask_probs)
    return mask_probs


def _mask_from_probs(mask_probs: NDArray[np.float32], height: int, width: int) -> tuple[BoolMask, tuple[str, ...]]:
    labels, areas = label_pieces(mask_probs > THRESHOLD)
    refusals = judge_mask_probs(mask_probs, areas)
    resized = cv2.resize(_one_whole_piece(mask_probs, labels, areas), (width, height), interpolation=cv2.INTER_LINEAR)
    mask = resized > THRESHOLD
    # A map can be sound and its lesion still fall between the pixels of a very small image.
    return mask, refusals if refusals or mask.any() else ("too_small",)


def _one_whole_piece(mask_probs: NDArray[np.float32], labels: NDArray[np.int32], areas: NDArray[np.int32]) -> NDArray[np.float32]:
    """Keep the largest piece and fill its holes, here and not in the resized mask: a photograph may have 100 megapixels."""
    others = (labels > 0) & (labels != areas.argmax())
    kept = fill_holes(labels == areas.argmax()) if areas.any() else labels > 0
    cleaned = np.where(others, 0.0, mask_probs)
    return np.where(kept & (mask_probs <= THRESHOLD), 1.0, cleaned).astype(np.float32)
