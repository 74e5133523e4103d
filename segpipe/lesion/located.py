"""A located lesion: its mask, boxes and appearance in the original photograph."""

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from segpipe.lesion.appearance import Appearance, measure_appearance
from segpipe.lesion.crop import mask_box
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.types import BoolMask, Box, Photograph


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

    Raises:
        ValueError: `localization` does not fit `photograph.image`.
    """

    photograph: Photograph
    localization: Localization
    window: Box
    mm_per_pixel: float | None = None

    def __post_init__(self) -> None:
        size, mask = self.photograph.image.shape[:2], self.localization.mask
        if mask.shape != size:
            raise ValueError(f"localization must fit the image of {size[0]} x {size[1]} pixels, got a mask of shape {mask.shape}")

    @cached_property
    def original_localization(self) -> Localization:
        """Localization in pixels of the original photograph."""
        height, width = self.photograph.height, self.photograph.width
        if self.localization.mask.shape == (height, width):
            return self.localization
        pixels = self.localization.mask.view(np.uint8) * 255
        mask = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR) > 127
        return replace(self.localization, mask=mask, box=mask_box(mask))

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
        """Mask source, which compares equal to `unet`, `contour` or `whole_image`."""
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
        """Shape, colors and size of the lesion, in pixels of the original photograph."""
        image = self.photograph.image
        factor = self.photograph.height / image.shape[0]
        scale = None if self.mm_per_pixel is None else self.mm_per_pixel * factor
        return measure_appearance(image, self.localization.mask, mm_per_pixel=scale).scaled(factor)
