"""Dermoscopic structures inside a drawn lesion, from pigment network to milia."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
FloatMap = NDArray[np.floating[Any]]
InkLayer = NDArray[np.uint8]

EXTENT = 1.85
"""Half the side of a canvas, in lesion radii, with space for irregular borders."""
GRID_SIZE = 48
_SUBPIXEL_BITS = 4
# Each color with its noise threshold: the lower, the larger its patches.
_MELANOMA_PATCHES: tuple[tuple[Color, float], ...] = (
    ((176, 124, 98), 0.15),
    ((158, 84, 80), 0.25),
    ((118, 112, 128), 0.2),
    ((48, 30, 28), -0.15),
)


@dataclass(frozen=True)
class Canvas:
    """Square with a lesion in its middle, without skin, hair and light.

    Attributes:
        color: RGB as on the reference skin, shape (S, S, 3), in 0..255.
        depth: Distance of each pixel inside the border, in lesion radii, shape (S, S); negative outside.
        radius: Distance from the center in lesion radii, shape (S, S).
        grids: Random numbers of the lesion, uniform in [-1, 1], shape (layers, GRID_SIZE, GRID_SIZE).
    """

    color: FloatMap
    depth: FloatMap
    radius: FloatMap
    grids: FloatMap

    @property
    def side(self) -> int:
        """Side in pixels."""
        return len(self.depth)


Feature = Callable[[Canvas], FloatMap]
"""Function that returns the color of a canvas with one structure added."""


def ramp(values: FloatMap, low: float, high: float) -> FloatMap:
    """Rise linearly from 0 at `low` to 1 at `high`, flat outside.

    The ramp falls if `high` is below `low`.
    """
    weight: FloatMap = np.clip((values - low) / (high - low), 0, 1)
    return weight


def blend(image: FloatMap, color: Color, weight: FloatMap) -> FloatMap:
    """Blend a color into an image by weights, shape (H, W)."""
    return image + weight[..., None] * (np.asarray(color, np.float32) - image)


def smooth_noise(grid: FloatMap, height: int, width: int) -> FloatMap:
    """Interpolate a random grid to smooth noise in about [-1, 1]."""
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def canvas_noise(canvas: Canvas, layer: int, cells: int) -> FloatMap:
    """Return smooth noise over the canvas, with `cells` bumps per side."""
    return smooth_noise(canvas.grids[layer, :cells, :cells], canvas.side, canvas.side)


def _cell_distance(canvas: Canvas, layer: int, cells: int) -> FloatMap:
    """Return the distance to the nearest of `cells` x `cells` jittered points.

    The unit is the spacing: 0 at a point, about 0.6 between points.
    """
    spacing = canvas.side / cells
    jitter = canvas.grids[layer : layer + 2, :cells, :cells] * 0.48
    positions = ((np.indices((cells, cells)) + 0.5 + jitter) * spacing).astype(np.intp)
    points = np.ones((canvas.side, canvas.side), np.uint8)
    points[positions[0], positions[1]] = 0
    return np.asarray(cv2.distanceTransform(points, cv2.DIST_L2, cv2.DIST_MASK_5), np.float32) / spacing


def _inside(canvas: Canvas, *, border: float) -> FloatMap:
    """Return 1 inside the lesion, falling to 0 at its border.

    The transition covers the outer `border` radii.
    """
    return ramp(canvas.depth, 0, border)


def _ink_layer(canvas: Canvas) -> InkLayer:
    return np.zeros((canvas.side, canvas.side), np.uint8)


def _ink_weight(ink: InkLayer, *, blur: float) -> FloatMap:
    """Convert ink to weights in [0, 1], blurred by `blur` radii."""
    sigma = max(0.3, blur * ink.shape[0] / (2 * EXTENT))
    return np.asarray(cv2.GaussianBlur(ink, (0, 0), sigma), np.float32) / 255


def _to_pixels(canvas: Canvas, positions: FloatMap) -> NDArray[np.int32]:
    """Convert positions in lesion radii to OpenCV's fixed-point pixels."""
    pixels = (positions / EXTENT + 1) / 2 * canvas.side
    return np.asarray(np.round(pixels * 2**_SUBPIXEL_BITS), np.int32)


def _spots(canvas: Canvas, layer: int, *, count: int, size: float, reach: float) -> InkLayer:
    """Draw scattered discs of up to `size` lesion radii.

    Their centers lie in a square of half-side `reach` radii.
    """
    ink = _ink_layer(canvas)
    values = canvas.grids[layer].ravel()
    positions = _to_pixels(canvas, values[: 2 * count].reshape(count, 2) * reach)
    sizes = size * (0.7 + 0.3 * values[-count:]) * canvas.side / (2 * EXTENT) * 2**_SUBPIXEL_BITS
    for (x, y), radius in zip(positions.tolist(), sizes.tolist(), strict=True):
        cv2.circle(ink, (x, y), round(radius), 255, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return ink


def pigment_network(canvas: Canvas) -> FloatMap:
    """Draw the regular brown mesh of a nevus, fading towards the border."""
    lines = ramp(_cell_distance(canvas, 0, 30), 0.2, 0.62)
    strength = np.clip(0.55 + 0.35 * canvas_noise(canvas, 2, 8), 0, 1)
    return blend(canvas.color, (70, 34, 26), strength * lines * _inside(canvas, border=0.35))


def fine_network(canvas: Canvas) -> FloatMap:
    """Draw the delicate mesh around the scar of a dermatofibroma."""
    lines = ramp(_cell_distance(canvas, 0, 28), 0.35, 0.6)
    return blend(canvas.color, (140, 88, 70), 0.4 * lines * ramp(canvas.radius, 0.45, 0.7) * _inside(canvas, border=0.2))


def color_patches(canvas: Canvas) -> FloatMap:
    """Draw the patches of a melanoma: tan, red, blue-gray and black."""
    color = canvas.color
    for layer, (patch, threshold) in enumerate(_MELANOMA_PATCHES, start=1):
        field = canvas_noise(canvas, layer, 5) + 0.4 * canvas_noise(canvas, layer, 18) + 0.3 * canvas_noise(canvas, layer, 44)
        color = blend(color, patch, 0.85 * ramp(field, threshold, threshold + 0.6))
    return color


def black_dots(canvas: Canvas) -> FloatMap:
    """Draw irregular dots and globules."""
    ink = _spots(canvas, 5, count=30, size=0.045, reach=0.95)
    return blend(canvas.color, (38, 24, 26), 0.75 * _ink_weight(ink, blur=0.02) * _inside(canvas, border=0.1))


def ovoid_nests(canvas: Canvas) -> FloatMap:
    """Draw blue-gray ovoid nests of a pigmented basal cell carcinoma."""
    ink = _spots(canvas, 1, count=7, size=0.2, reach=0.75)
    ragged = _ink_weight(ink, blur=0.07) * (0.8 + 0.5 * canvas_noise(canvas, 2, 30))
    return blend(canvas.color, (104, 90, 104), np.clip(ragged, 0, 0.85) * _inside(canvas, border=0.1))


def branching_vessels(canvas: Canvas) -> FloatMap:
    """Draw the sharp, branching red vessels of a basal cell carcinoma."""
    ink = _ink_layer(canvas)
    draws = iter(canvas.grids[3].ravel().tolist())
    for _ in range(4):
        bearing = np.pi * next(draws)
        start = np.array([np.cos(bearing), np.sin(bearing)]) * 0.9
        _grow_vessel(canvas, ink, start, bearing + np.pi + 0.5 * next(draws), generation=3, draws=draws)
    return blend(canvas.color, (178, 48, 66), 0.75 * _ink_weight(ink, blur=0.012) * _inside(canvas, border=0.15))


def _grow_vessel(
    canvas: Canvas, ink: InkLayer, start: NDArray[np.float64], bearing: float, *, generation: int, draws: Iterator[float]
) -> None:
    path = [start]
    for _ in range(4):
        bearing += 0.55 * next(draws)
        path.append(path[-1] + 0.075 * generation**0.5 * np.array([np.cos(bearing), np.sin(bearing)]))
    thickness = max(1, round(generation * 0.012 * canvas.side / EXTENT / 2))
    cv2.polylines(ink, [_to_pixels(canvas, np.asarray(path, np.float32))], False, 255, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    if generation > 1:
        for fork, turn in ((path[2], -0.7), (path[4], 0.7)):
            _grow_vessel(canvas, ink, fork, bearing + turn + 0.3 * next(draws), generation=generation - 1, draws=draws)


def strawberry_pattern(canvas: Canvas) -> FloatMap:
    """Draw the white-yellow follicles and red mesh of an actinic keratosis."""
    distance = _cell_distance(canvas, 0, 17)
    color = blend(canvas.color, (178, 72, 72), 0.45 * ramp(distance, 0.25, 0.6) * _inside(canvas, border=0.25))
    return blend(
        color,
        (228, 192, 176),
        np.clip(0.45 + 0.4 * canvas_noise(canvas, 5, 12), 0, 1) * ramp(distance, 0.36, 0.1) * _inside(canvas, border=0.15),
    )


def white_scales(canvas: Canvas) -> FloatMap:
    """Draw flaky white-yellow scales."""
    flakes = canvas_noise(canvas, 3, 7) + 0.8 * canvas_noise(canvas, 4, 46)
    return blend(canvas.color, (236, 222, 212), 0.75 * ramp(flakes, 0.5, 0.95) * _inside(canvas, border=0.2))


def fissures(canvas: Canvas) -> FloatMap:
    """Draw the dark winding furrows of a seborrheic keratosis."""
    ridge = ramp(np.abs(canvas_noise(canvas, 1, 15)), 0.2, 0.0)
    return blend(canvas.color, (104, 66, 48), 0.5 * ridge * _inside(canvas, border=0.1))


def milia_and_comedones(canvas: Canvas) -> FloatMap:
    """Draw white milia-like cysts and brown comedo-like openings."""
    inside = _inside(canvas, border=0.08)
    comedones = _ink_weight(_spots(canvas, 3, count=22, size=0.07, reach=0.95), blur=0.03)
    milia = _ink_weight(_spots(canvas, 2, count=34, size=0.05, reach=0.95), blur=0.025)
    color = blend(canvas.color, (74, 46, 34), 0.75 * comedones * inside)
    return blend(color, (240, 226, 206), 0.85 * milia * inside)


def central_scar(canvas: Canvas) -> FloatMap:
    """Draw the white scar of a dermatofibroma in a darker ring."""
    wobble = canvas.radius + 0.2 * canvas_noise(canvas, 2, 7) + 0.08 * canvas_noise(canvas, 1, 20)
    ring = ramp(wobble, 0.4, 0.55) * ramp(wobble, 0.95, 0.65)
    color = blend(canvas.color, (160, 98, 82), 0.6 * ring)
    scar = ramp(wobble, 0.6, 0.18) * (0.85 + 0.25 * canvas_noise(canvas, 3, 36))
    return blend(color, (244, 228, 224), np.clip(scar, 0, 1))


def lacunae(canvas: Canvas) -> FloatMap:
    """Draw red to purple lacunae of an angioma, separated by pale septa."""
    distance = _cell_distance(canvas, 0, 14)
    color = blend(canvas.color, (104, 14, 52), 0.75 * ramp(canvas_noise(canvas, 3, 6), -0.2, 0.6))
    color = blend(color, (84, 10, 44), 0.55 * ramp(distance, 0.32, 0.1))
    return blend(color, (214, 116, 142), 0.6 * ramp(distance, 0.36, 0.7))
