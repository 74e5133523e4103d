"""Seeded augmentation of training images by albumentations."""

from collections.abc import Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.types import BoolMask, RgbImage


class Augmentation:
    """Sequence of albumentations transforms for an image and its optional mask.

    The same seed gives the same changes, in any worker and after any interruption.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform]) -> None:
        self._compose = A.Compose(list(transforms))

    def image(self, image: RgbImage, *, seed: int) -> RgbImage:
        """Transform an image.

        Args:
            image: RGB uint8, shape (H, W, 3).
            seed: Seed of the random parameters.

        Returns:
            Transformed image of the same shape.
        """
        self._compose.set_random_seed(seed)
        return np.asarray(self._compose(image=image)["image"], dtype=np.uint8)

    def image_and_mask(self, image: RgbImage, mask: BoolMask, *, seed: int) -> tuple[RgbImage, BoolMask]:
        """Transform an image and its mask alike.

        Args:
            image: RGB uint8, shape (H, W, 3).
            mask: Bool, shape (H, W).
            seed: Seed of the random parameters.

        Returns:
            Transformed image and mask of the same shapes.
        """
        self._compose.set_random_seed(seed)
        changed = self._compose(image=image, mask=mask.astype(np.uint8))
        return changed["image"], changed["mask"].astype(bool)


Color = tuple[int, int, int]
_INK_COLORS: tuple[Color, ...] = ((60, 60, 140), (90, 50, 130), (40, 40, 45), (30, 90, 120))
_SUBPIXEL_BITS = 4


class Hairs(A.ImageOnlyTransform):  # type: ignore[misc]
    """Draw curved hairs.

    Args:
        number: Minimum and maximum number of hairs.
        p: Probability of the transform.
    """

    def __init__(self, number: tuple[int, int] = (3, 20), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.number = number

    def get_params(self) -> dict[str, Any]:
        """Draw random shapes of the hairs, in [0, 1], and their darkness."""
        count = int(self.random_generator.integers(self.number[0], self.number[1] + 1))
        return {"hairs": self.random_generator.random((count, 6)), "shade": float(self.random_generator.uniform(10, 90))}

    def apply(self, img: RgbImage, *, hairs: NDArray[np.float64], shade: float, **_: Any) -> RgbImage:
        """Draw hairs on an image, RGB uint8, shape (H, W, 3)."""
        side = min(img.shape[:2])
        ink = np.zeros(img.shape[:2], np.uint8)
        steps = np.linspace(0, 1, 16)
        for x, y, bearing, bend, length, width in hairs:
            angles = 2 * np.pi * bearing + 2.5 * (bend - 0.5) * steps
            walk = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0) * (0.3 + length) * side / steps.size
            path = np.round((walk + np.array([x * img.shape[1], y * img.shape[0]])) * 2**_SUBPIXEL_BITS).astype(np.int32)
            cv2.polylines(ink, [path], False, 210, max(1, round((0.5 + width) * side / 200)), cv2.LINE_AA, _SUBPIXEL_BITS)
        return _paint(img, ink, (round(shade), round(shade * 0.8), round(shade * 0.7)))


class RulersAndInk(A.ImageOnlyTransform):  # type: ignore[misc]
    """Draw a ruler along a border, or a stroke of a pen.

    Args:
        p: Probability of the transform.
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__(p=p)

    def get_params(self) -> dict[str, Any]:
        """Draw kind, position, size and color."""
        return {
            "ruler": bool(self.random_generator.random() < 0.5),
            "layout": self.random_generator.random(6),
            "color": _INK_COLORS[int(self.random_generator.integers(len(_INK_COLORS)))],
        }

    def apply(self, img: RgbImage, *, ruler: bool, layout: NDArray[np.float64], color: Color, **_: Any) -> RgbImage:
        """Draw a ruler or a stroke, RGB uint8, shape (H, W, 3)."""
        ink = np.zeros(img.shape[:2], np.uint8)
        (_draw_scale if ruler else _draw_stroke)(ink, layout)
        return _paint(img, ink, (25, 25, 25) if ruler else color)


class DarkCorners(A.ImageOnlyTransform):  # type: ignore[misc]
    """Darken the area outside the lit circle of a dermatoscope.

    A soft edge fades towards the corners.

    Args:
        radius: Minimum and maximum radius of the lit circle, as fractions of the image's half diagonal.
        p: Probability of the transform.
    """

    def __init__(self, radius: tuple[float, float] = (0.65, 1.0), p: float = 0.2) -> None:
        super().__init__(p=p)
        self.radius = radius

    def get_params(self) -> dict[str, Any]:
        """Draw center, radius, softness of the edge, and remaining light outside."""
        return {
            "center": self.random_generator.uniform(-0.15, 0.15, 2),
            "radius": float(self.random_generator.uniform(*self.radius)),
            "softness": float(self.random_generator.choice([0.02, 0.1, 0.5])),
            "left": float(self.random_generator.uniform(0.0, 0.5)),
        }

    def apply(
        self, img: RgbImage, *, center: NDArray[np.float64], radius: float, softness: float, left: float, **_: Any
    ) -> RgbImage:
        """Darken the corners of an image, RGB uint8, shape (H, W, 3)."""
        height, width = img.shape[:2]
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        distance = np.hypot(x - center[0], y - center[1]) / np.sqrt(2)
        light = left + (1 - left) * np.clip((radius - distance) / softness + 0.5, 0, 1)
        return np.asarray(img * light[..., None].astype(np.float32), np.uint8)


def _draw_scale(ink: NDArray[np.uint8], layout: NDArray[np.float64]) -> None:
    """Draw ticks along the upper or, transposed, the left border.

    Every fifth or tenth tick is longer.
    """
    canvas = ink if layout[0] < 0.5 else ink.T
    height, width = canvas.shape
    spacing = (0.015 + 0.05 * layout[1]) * width
    base, tick = round((0.9 * layout[2] + 0.02) * 0.25 * height), (0.02 + 0.03 * layout[3]) * height
    thickness = 1 + round(layout[4] * width / 200)
    for number in range(round(width / spacing) + 1):
        column = round(number * spacing)
        end = base + round(tick * (2 if number % (5 if layout[5] < 0.5 else 10) == 0 else 1))
        canvas[base:end, column : column + thickness] = 220


def _draw_stroke(ink: NDArray[np.uint8], layout: NDArray[np.float64]) -> None:
    """Draw an arc around the middle, as pens mark a lesion."""
    side = min(ink.shape)
    center = tuple(round((0.5 + 0.3 * (value - 0.5)) * side) for value in layout[:2])
    axes = (round((0.35 + 0.2 * layout[2]) * side), round((0.3 + 0.25 * layout[3]) * side))
    cv2.ellipse(ink, center, axes, 360 * layout[4], 0, 40 + 120 * layout[5], 170, max(2, side // 40), cv2.LINE_AA)


def _paint(image: RgbImage, ink: NDArray[np.uint8], color: Color) -> RgbImage:
    """Blend a color into an image by ink, 0 to 255."""
    weight = ink[..., None].astype(np.float32) / 255
    return np.asarray(image + weight * (np.asarray(color, np.float32) - image), np.uint8)
