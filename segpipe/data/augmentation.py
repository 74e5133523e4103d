"""Random changes to training images, by albumentations, and to lesion boxes, each drawn from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from segpipe.image_io import BoolMask, RgbImage
from segpipe.lesion.crop import Box


class Augmentation:
    """A list of albumentations transforms, applied to an image and, where there is one, its mask.

    The same seed gives the same change, in whatever worker and after whatever interruption.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform]) -> None:
        self._compose = A.Compose(list(transforms))

    def image(self, image: RgbImage, *, seed: int) -> RgbImage:
        """Args: image, RGB uint8 (H, W, 3). Returns: the changed image, of the same shape."""
        self._compose.set_random_seed(seed)
        return np.asarray(self._compose(image=image)["image"], dtype=np.uint8)

    def image_and_mask(self, image: RgbImage, mask: BoolMask, *, seed: int) -> tuple[RgbImage, BoolMask]:
        """Args: image, RGB uint8 (H, W, 3); mask, bool (H, W). Returns: both, changed alike."""
        self._compose.set_random_seed(seed)
        changed = self._compose(image=image, mask=mask.astype(np.uint8))
        return changed["image"], changed["mask"].astype(bool)


@dataclass(frozen=True)
class BoxJitter:
    """How far each side of a lesion box is moved: standard deviation as a fraction of the box's height or width.

    Training sees boxes of true masks, inference those of the U-Net; the jitter bridges the two.
    """

    fraction: float

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Shifts of top, left, bottom and right, as fractions of the box's height and width; within two deviations."""
        return np.clip(rng.normal(size=4), -2, 2) * self.fraction


def shift_box(box: Box, shifts: NDArray[np.float64], *, height: int, width: int) -> Box:
    """Move each side of a box by its own fraction of the box's height or width, and clamp it into the image.

    Args:
        box: in pixels of the image.
        shifts: of top, left, bottom, right, fractions.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        A box of at least one pixel inside the image.
    """
    top = int(np.clip(round(box.top + shifts[0] * box.height), 0, height - 1))
    left = int(np.clip(round(box.left + shifts[1] * box.width), 0, width - 1))
    bottom = int(np.clip(round(box.bottom + shifts[2] * box.height), top + 1, height))
    right = int(np.clip(round(box.right + shifts[3] * box.width), left + 1, width))
    return Box(top, left, bottom, right)
