"""Random changes to training images, by albumentations, each drawn from a seed."""

from collections.abc import Sequence

import albumentations as A
import numpy as np

from segpipe.types import BoolMask, RgbImage


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
