"""Photographs of a drawn lesion, with skin, hair, bubbles and lighting."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.data.synthetic.features import EXTENT, Color, FloatMap, blend, ramp, smooth_noise
from segpipe.data.synthetic.lesion import APPEARANCES, Lesion, draw_lesion, paint_lesion
from segpipe.diagnosis import CODES
from segpipe.types import BoolMask, RgbImage

_GRAIN_SIZE = 240
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class View:
    """Variation between photographs of one lesion.

    Attributes:
        rotation_deg: Rotation of the lesion, counterclockwise.
        zoom: Factor on the lesion's size.
        shift: Offset of the lesion from the image center to the right and down, in image heights, shape (2,).
        light: Factor on each channel, shape (3,).
        slope: Change of brightness from the center to the right and lower border, as a fraction, shape (2,).
        corner_loss: Fraction of light missing in the corners.
        aperture: Radius of the dermatoscope's lit circle in image widths; above 0.7 it does not limit the image.
        hairs: Start x, start y, bearing, bend, length, darkness and width of each hair in [0, 1], shape (hairs, 7).
        bubbles: x, y and size of each oil bubble in [0, 1], shape (bubbles, 3).
        grain: Random numbers of the skin texture, uniform in [-1, 1], shape (_GRAIN_SIZE, _GRAIN_SIZE).
    """

    rotation_deg: float
    zoom: float
    shift: FloatMap
    light: FloatMap
    slope: FloatMap
    corner_loss: float
    aperture: float
    hairs: FloatMap
    bubbles: FloatMap
    grain: FloatMap


def draw_view(rng: np.random.Generator) -> View:
    """Draw a random view of a lesion.

    Half of the views have hair; some have a dark ring or bubbles.
    """
    hair_count = rng.integers(2, 14) if rng.random() < 0.5 else 0
    bubble_count = rng.integers(1, 6) if rng.random() < 0.15 else 0
    return View(
        rotation_deg=rng.uniform(0, 360),
        zoom=rng.uniform(0.85, 1.15),
        shift=rng.uniform(-0.1, 0.1, 2).astype(np.float32),
        light=(rng.uniform(0.88, 1.06) * rng.uniform(0.97, 1.03, 3)).astype(np.float32),
        slope=rng.uniform(-0.06, 0.06, 2).astype(np.float32),
        corner_loss=rng.uniform(0, 0.3),
        aperture=rng.uniform(0.5, 0.58) if rng.random() < 0.2 else 1.0,
        hairs=rng.random((hair_count, 7), dtype=np.float32),
        bubbles=rng.random((bubble_count, 3), dtype=np.float32),
        grain=rng.uniform(-1, 1, (_GRAIN_SIZE, _GRAIN_SIZE)).astype(np.float32),
    )


def render(lesion: Lesion, view: View, *, height: int, width: int) -> tuple[RgbImage, BoolMask]:
    """Render a photograph of a lesion.

    Args:
        lesion: Lesion to photograph.
        view: View of the lesion.
        height: Height of the image, pixels.
        width: Width of the image, pixels.

    Returns:
        RGB uint8, shape (height, width, 3), and the lesion's mask, bool, shape (height, width).
    """
    factor, depth = _place_lesion(lesion, view, height, width)
    photo: FloatMap = _paint_skin(lesion.skin, view, height, width) * factor
    photo = _draw_hairs(photo, view)
    photo = _draw_bubbles(photo, view)
    photo = photo * _light_map(view, height, width)
    return np.clip(photo, 0, 255).astype(np.uint8), depth > 0


def make_image(code: str, rng: np.random.Generator, size: tuple[int, int] = (150, 200)) -> tuple[RgbImage, BoolMask]:
    """Draw one dermoscopy-like image of a given diagnosis.

    Args:
        code: Diagnosis, one of `segpipe.diagnosis.CODES`.
        rng: Random number generator.
        size: Height and width in pixels.

    Returns:
        RGB uint8, shape (height, width, 3), and the lesion's mask, bool, shape (height, width).

    Raises:
        ValueError: `code` is not a diagnosis of HAM10000.
    """
    if code not in APPEARANCES:
        raise ValueError(f"code must be one of {', '.join(CODES)}, got {code!r}")
    return render(draw_lesion(APPEARANCES[code], rng), draw_view(rng), height=size[0], width=size[1])


def _place_lesion(lesion: Lesion, view: View, height: int, width: int) -> tuple[FloatMap, FloatMap]:
    """Rotate and shift the lesion's skin factor and depth map."""
    # Painted at its final size, so that only the rotation blurs it.
    side = max(8, round(2 * EXTENT * lesion.radius_fraction * view.zoom * height))
    factor, depth = paint_lesion(lesion, side)
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), view.rotation_deg, 1)
    turn[:, 2] = turn[:, 2] + np.array([width - side, height - side]) / 2 + view.shift * height
    size = (width, height)
    return (
        np.asarray(cv2.warpAffine(factor, turn, size, borderValue=(1, 1, 1)), np.float32),
        np.asarray(cv2.warpAffine(depth, turn, size, borderValue=(-1,)), np.float32),
    )


def _paint_skin(tone: FloatMap, view: View, height: int, width: int) -> FloatMap:
    """Paint skin with smooth redness, fine furrows, pores and grain."""
    grain = view.grain
    broad = smooth_noise(grain[:5, :7], height, width)
    mottling = smooth_noise(grain[10:32, 10:40], height, width)
    redness = smooth_noise(grain[40:50, 40:54], height, width) + 0.6 * mottling
    furrows = ramp(np.abs(smooth_noise(grain[60:100, 60:112], height, width)), 0.16, 0.0)
    pores = ramp(smooth_noise(grain[110:170, 110:190], height, width), 0.45, 0.8)
    fine = smooth_noise(grain, height, width) + 0.5 * smooth_noise(grain[:120, 120:], height, width)
    brightness = 1 + 0.05 * broad + 0.025 * mottling - 0.04 * furrows + 0.045 * pores + 0.035 * fine
    tint: FloatMap = np.array([0.004, -0.035, -0.03], np.float32) * redness[..., None]
    skin: FloatMap = tone * (brightness[..., None] + tint)
    return skin


def _draw_hairs(photo: FloatMap, view: View) -> FloatMap:
    height, width = photo.shape[:2]
    ink = np.zeros((height, width), np.uint8)
    for hair in view.hairs:
        thickness = max(1, round((0.4 + 0.7 * hair[6]) * height / 200))
        path = np.round(_hair_path(hair, height, width) * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.polylines(ink, [path], False, int(120 + 110 * hair[5]), thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    return blend(photo, (54, 34, 32), ink.astype(np.float32) / 255)


def _hair_path(hair: FloatMap, height: int, width: int) -> NDArray[np.float32]:
    """Return a curve of slowly changing bearing, x and y in pixels."""
    steps = np.linspace(0, 1, 16, dtype=np.float32)
    bearing = 2 * np.pi * hair[2] + (hair[3] - 0.5) * 2.4 * steps
    stride = (0.35 + 0.8 * hair[4]) * height / steps.size
    walk = np.cumsum(np.stack([np.cos(bearing), np.sin(bearing)], axis=1), axis=0) * stride
    return np.asarray(walk + hair[:2] * (width, height), np.float32)


def _draw_bubbles(photo: FloatMap, view: View) -> FloatMap:
    """Draw oil bubbles: a bright thin ring with a glint."""
    height, width = photo.shape[:2]
    ink = np.zeros((height, width), np.uint8)
    for x, y, size in view.bubbles.tolist():
        center, radius = (round(x * width), round(y * height)), max(2, round((0.008 + 0.025 * size) * height))
        cv2.circle(ink, center, radius, 90, max(1, radius // 6), cv2.LINE_AA)
        glint = (center[0] - radius // 2, center[1] - radius // 2)
        cv2.circle(ink, glint, max(1, radius // 4), 255, -1, cv2.LINE_AA)
    white: Color = (255, 252, 252)
    return blend(photo, white, np.asarray(cv2.GaussianBlur(ink, (3, 3), 0), np.float32) / 255)


def _light_map(view: View, height: int, width: int) -> FloatMap:
    """Return the light reaching each pixel, shape (height, width, 3)."""
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    distance = np.hypot(x * width, y * height) / 2
    corners = ramp(distance, height / 2, float(np.hypot(height, width)) / 2)
    tube = ramp(distance, view.aperture * width, (view.aperture - 0.03) * width)
    brightness = (1 + view.slope[0] * x + view.slope[1] * y - view.corner_loss * corners) * (0.04 + 0.96 * tube)
    light: FloatMap = brightness[..., None] * view.light
    return light
