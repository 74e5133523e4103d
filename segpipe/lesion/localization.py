"""Localization of a lesion by U-Net, contour or whole image."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.lesion.appearance import Appearance, measure_appearance
from segpipe.lesion.contour import find_lesion_contour, judge_contour
from segpipe.lesion.crop import scale_mask
from segpipe.lesion.quality import THRESHOLD, Piece, choose_piece, fill_holes, is_uniform, require_probability_map
from segpipe.types import BoolMask, Box, Photograph, RgbImage, mask_box, require_image, require_mask


class MaskSource(StrEnum):
    """Sources of a lesion mask; `FINDERS` are those that find one."""

    GIVEN = "given"
    UNET = "unet"
    CONTOUR = "contour"
    WHOLE_IMAGE = "whole_image"


# From the most to the least trusted.
FINDERS = (MaskSource.UNET, MaskSource.CONTOUR, MaskSource.WHOLE_IMAGE)


@dataclass(frozen=True)
class Localization:
    """Location of the lesion in one image, with its source.

    Attributes:
        mask: bool, shape (H, W) of the image, true on the lesion, never empty.
        box: Smallest box that holds `mask`, in pixels of the image.
        source: Source of the mask.
        reasons: Reasons why earlier sources were refused, each as `<source>:<code>` with a code of `quality.REASONS`. Where the
            U-Net's mask was accepted, codes of `quality.NOTES`; usually none.
        uniform: True where the image has one color, or nearly so.
    """

    mask: BoolMask
    box: Box
    source: MaskSource
    reasons: tuple[str, ...]
    uniform: bool = False

    @property
    def area_fraction(self) -> float:
        """Fraction of the image that the mask covers, in (0, 1]."""
        return float(np.mean(self.mask))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Codes of `quality.WARNINGS`, the reasons to distrust the diagnosis; mostly empty."""
        # A whole image that was requested has no reasons.
        lost = self.source is MaskSource.WHOLE_IMAGE and bool(self.reasons)
        return tuple(code for code, holds in (("uniform_image", self.uniform), ("no_lesion_found", lost)) if holds)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LocatedLesion:
    """Lesion located in a photograph, which may have been read reduced.

    `mask`, `box`, `crop_box` and `appearance` are in pixels of the original photograph as a viewer shows it; `localization` and
    `window` are in pixels of `photograph.image`.

    Attributes:
        photograph: Image as it was read, RGB uint8, and the size of the original.
        localization: Mask, lesion box, mask source and reasons, in pixels of `photograph.image`.
        window: Area that the classifier saw, in pixels of `photograph.image`; that of the first classifier of an ensemble, with
            the margin of its card.
        mm_per_pixel: Side of a pixel of the original photograph on the skin, millimeters; None if unknown.
        given_mask: Mask that was given, bool, in pixels of the original photograph; None for a mask that was found.

    Raises:
        ValueError: `localization` does not fit `photograph.image`.
    """

    photograph: Photograph
    localization: Localization
    window: Box
    mm_per_pixel: float | None = None
    given_mask: BoolMask | None = None

    def __post_init__(self) -> None:
        size, mask = self.photograph.image.shape[:2], self.localization.mask
        if mask.shape != size:
            raise ValueError(f"localization must fit the image of {size[0]} x {size[1]} pixels, got a mask of shape {mask.shape}")

    @cached_property
    def original_localization(self) -> Localization:
        """Localization in pixels of the original photograph."""
        mask = self.localization.mask if self.given_mask is None else self.given_mask
        mask = scale_mask(mask, self.photograph.height, self.photograph.width)
        return self.localization if mask is self.localization.mask else replace(self.localization, mask=mask, box=mask_box(mask))

    @property
    def mask(self) -> BoolMask:
        """Lesion mask in pixels of the original photograph: bool, shape (H, W)."""
        return self.original_localization.mask

    @property
    def box(self) -> Box:
        """Smallest box that holds `mask`."""
        return self.original_localization.box

    @property
    def mask_source(self) -> MaskSource:
        """Mask source, which compares equal to `given`, `unet`, `contour` or `whole_image`."""
        return self.localization.source

    @property
    def mask_reasons(self) -> tuple[str, ...]:
        """Reasons why earlier mask sources were refused, as `<source>:<code>`."""
        return self.localization.reasons

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons not to rely on the diagnosis, as codes such as `uniform_image`."""
        return self.localization.warnings

    @property
    def crop_box(self) -> Box:
        """Area that the classifier saw, in pixels of the original photograph."""
        height, width = self.photograph.image.shape[:2]
        return self.window.scaled(self.photograph.height / height, self.photograph.width / width)

    @cached_property
    def appearance(self) -> Appearance:
        """Shape, colors and size of the lesion in the original photograph."""
        image = self.photograph.image
        factor = self.photograph.height / image.shape[0]
        scale = None if self.mm_per_pixel is None else self.mm_per_pixel * factor
        return measure_appearance(image, self.localization.mask, mm_per_pixel=scale).scaled(factor)


def localize(image: RgbImage, mask_probs: NDArray[np.float32] | None, *, start: MaskSource = MaskSource.UNET) -> Localization:
    """Locate the lesion by the most trusted method with a plausible mask.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask_probs: Lesion probability of the U-Net, float32 in [0, 1], shape (h, w): the whole image scaled to any resolution.
            Ignored, and may be None, unless `start` is the U-Net.
        start: First method to try, one of `FINDERS`; a later one skips the U-Net, or the contour as well.

    Returns:
        Mask in the size of the image; the whole image, with the reasons, if no method yields a plausible mask.

    Raises:
        ValueError: `mask_probs` is missing although `start` is the U-Net, or is not a map of probabilities.
        ValueError: `start` is not one of `FINDERS`; `accept_mask` takes a given mask.
        ValueError: `image` is not an RGB image, see `segpipe.types.require_image`.
    """
    require_image(image)
    if start not in FINDERS:
        raise ValueError(f"start must be one of {', '.join(FINDERS)}, got {str(start)!r}; accept_mask takes a given mask")
    mask, source, reasons = _find_mask(image, mask_probs, start)
    return Localization(mask, mask_box(mask), source, reasons, is_uniform(image))


def accept_mask(image: RgbImage, mask: BoolMask) -> Localization:
    """Take a given mask, unjudged, as the location of the lesion.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask: Bool, shape (H, W), true on the lesion.

    Raises:
        ValueError: `mask` is empty, or not a mask of the size of the image, see `segpipe.types.require_mask`.
        ValueError: `image` is not an RGB image, see `segpipe.types.require_image`.
    """
    height, width = require_image(image).shape[:2]
    require_mask(mask, size=(height, width))
    return Localization(mask, mask_box(mask), MaskSource.GIVEN, (), is_uniform(image))


def _find_mask(
    image: RgbImage, mask_probs: NDArray[np.float32] | None, start: MaskSource
) -> tuple[BoolMask, MaskSource, tuple[str, ...]]:
    reasons: tuple[str, ...] = ()
    height, width = image.shape[:2]
    if start is MaskSource.UNET:
        mask_probs = _require_probs(mask_probs)
        piece = choose_piece(mask_probs)
        mask, refusals = _enlarge(piece, mask_probs, height, width)
        if not refusals:
            return mask, MaskSource.UNET, _prefixed(MaskSource.UNET, piece.notes)
        reasons += _prefixed(MaskSource.UNET, refusals)
    if start is not MaskSource.WHOLE_IMAGE:
        contour = find_lesion_contour(image)
        refusals = judge_contour(contour)
        if contour is not None and not refusals:
            return contour.mask, MaskSource.CONTOUR, reasons
        reasons += _prefixed(MaskSource.CONTOUR, refusals)
    return np.ones((height, width), dtype=np.bool_), MaskSource.WHOLE_IMAGE, reasons


def threshold_probs(mask_probs: NDArray[np.float32], height: int, width: int) -> BoolMask:
    """Threshold a probability map at 0.5 in the size of its image.

    Args:
        mask_probs: Lesion probability, float32 in [0, 1], shape (h, w): the whole image at any resolution.
        height: Height of the image, pixels.
        width: Width of the image, pixels.

    Returns:
        Bool, shape (height, width); may be empty, because nothing is checked or replaced here.
    """
    mask: BoolMask = cv2.resize(mask_probs, (width, height), interpolation=cv2.INTER_LINEAR) > THRESHOLD
    return mask


def _prefixed(source: MaskSource, refusals: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{source}:{code}" for code in refusals)


def _require_probs(mask_probs: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if mask_probs is None:
        raise ValueError("mask_probs must be a probability map where start is 'unet', got None; start at 'contour' instead")
    require_probability_map(mask_probs)
    return mask_probs


def _enlarge(piece: Piece, mask_probs: NDArray[np.float32], height: int, width: int) -> tuple[BoolMask, tuple[str, ...]]:
    """Scale the mask of a piece to its image, with refusals."""
    mask = threshold_probs(_without_others_and_holes(mask_probs, piece.mask), height, width)
    # The lesion of a valid map may fall between the pixels of a very small image.
    return mask, piece.refusals if piece.refusals or mask.any() else ("too_small",)


def _without_others_and_holes(mask_probs: NDArray[np.float32], piece: BoolMask) -> NDArray[np.float32]:
    """Keep one piece of a probability map and fill its holes.

    This happens before resizing, because a photograph may have 100 megapixels.
    """
    others = (mask_probs > THRESHOLD) & ~piece
    cleaned = np.where(others, 0.0, mask_probs)
    return np.where(fill_holes(piece) & (mask_probs <= THRESHOLD), 1.0, cleaned).astype(np.float32)
