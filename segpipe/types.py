"""Array aliases with their shapes, and boxes in pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# RGB uint8, shape (H, W, 3).
RgbImage = NDArray[np.uint8]
# bool, shape (H, W), true on the lesion.
BoolMask = NDArray[np.bool_]
# float64 of any shape, which each use states.
FloatArray = NDArray[np.float64]
# Class index of each image, shape (N,).
Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the original image, end not included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.right - self.left

    @property
    def is_square(self) -> bool:
        """Both sides are equal, but for 1 % that rounding to whole pixels may cost."""
        return abs(self.height - self.width) <= max(self.height, self.width) / 100
