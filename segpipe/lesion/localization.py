"""Localization of a lesion: mask, box, mask source, and reasons."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from segpipe.types import BoolMask, Box


class MaskSource(StrEnum):
    """Sources of a lesion mask, from the most to the least trusted."""

    UNET = "unet"
    CONTOUR = "contour"
    WHOLE_IMAGE = "whole_image"


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
