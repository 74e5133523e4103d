"""Array aliases with their shapes, photographs, and boxes in pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# RGB uint8, shape (H, W, 3).
RgbImage = NDArray[np.uint8]
# bool, shape (H, W), true on the lesion.
BoolMask = NDArray[np.bool_]
# float64, any shape; each use states it.
FloatArray = NDArray[np.float64]
# Class index of each image, shape (N,).
Labels = NDArray[np.integer]

# Pixels of the shorter side of a photograph; a lesion cannot be judged on fewer.
MIN_SIDE = 8


@dataclass(frozen=True)
class Photograph:
    """A photograph, decoded no larger than its use needs.

    Attributes:
        image: RGB uint8, shape (h, w, 3), contiguous: the original, or it reduced to a half, a quarter or an eighth.
        height: Height of the original as a viewer shows it, pixels.
        width: Width of the original, pixels.
    """

    image: RgbImage
    height: int
    width: int


@dataclass(frozen=True)
class Box:
    """Rectangle in pixels of the original image, end not included."""

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
        """True if both sides are equal up to 1 %, for rounding."""
        return abs(self.height - self.width) <= max(self.height, self.width) / 100

    def slices(self) -> tuple[slice, slice]:
        """Return the row and column slices of the box."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def scaled(self, down: float, across: float) -> "Box":
        """Scale the box to another resolution, rounded to whole pixels.

        Args:
            down: Factor on rows.
            across: Factor on columns.
        """
        return Box(round(self.top * down), round(self.left * across), round(self.bottom * down), round(self.right * across))

    def check_inside(self, height: int, width: int, *, name: str = "box") -> None:
        """Check that the box is not empty and lies inside an image.

        Args:
            height: Height of the image, pixels.
            width: Width of the image, pixels.
            name: Name of the box in the message.

        Raises:
            ValueError: The box is empty or reaches beyond the image.
        """
        if not (0 <= self.top < self.bottom <= height and 0 <= self.left < self.right <= width):
            raise ValueError(f"{name} must lie in the image of {height} x {width} pixels, got {self}")
