"""Appearance of each diagnosis, and drawing of a lesion on a canvas."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segpipe.data.synthetic import features
from segpipe.data.synthetic.features import EXTENT, GRID_SIZE, Canvas, Color, Feature, FloatMap

REFERENCE_SKIN: Color = (220, 172, 174)
"""Skin color to which the colors of an appearance refer; on other skin they shift with it."""
_LAYERS = 6
_HARMONICS = np.arange(2, 10)
# Noise layer, bumps per side, and amplitude at the border as a fraction of the irregularity.
_RAGGED = ((0, 7, 0.7), (1, 16, 0.4), (2, 36, 0.25))


@dataclass(frozen=True)
class Appearance:
    """Appearance of the lesions of one diagnosis.

    Attributes:
        rim: Color near the border, on the reference skin.
        core: Color in the middle, on the reference skin.
        irregularity: Deviation of the border from an ellipse, as a fraction of the radius.
        edge_width: Width of the transition to the skin, in lesion radii.
        features: Structures painted over the ground color, in this order.
    """

    rim: Color
    core: Color
    irregularity: float
    edge_width: float
    features: tuple[Feature, ...]


APPEARANCES: dict[str, Appearance] = {
    "mel": Appearance(
        (156, 102, 82), (108, 68, 56), 0.26, 0.2, (features.pigment_network, features.color_patches, features.black_dots)
    ),
    "nv": Appearance((184, 120, 100), (136, 80, 62), 0.1, 0.4, (features.pigment_network,)),
    "bcc": Appearance((210, 146, 152), (202, 126, 138), 0.2, 0.4, (features.ovoid_nests, features.branching_vessels)),
    "akiec": Appearance((204, 132, 122), (188, 108, 102), 0.2, 0.4, (features.strawberry_pattern, features.white_scales)),
    "bkl": Appearance((184, 132, 112), (158, 108, 90), 0.16, 0.08, (features.fissures, features.milia_and_comedones)),
    "df": Appearance((196, 144, 126), (184, 128, 110), 0.08, 0.4, (features.central_scar, features.fine_network)),
    "vasc": Appearance((188, 50, 84), (150, 28, 68), 0.13, 0.16, (features.lacunae,)),
}


@dataclass(frozen=True)
class Lesion:
    """One lesion, common to all its photographs.

    Attributes:
        appearance: Appearance of its diagnosis.
        radius_fraction: Mean radius as a fraction of the image height, before the zoom of a view.
        elongation: Ratio of the longer to the shorter axis, 1 or more.
        waves: Amplitude in radii and phase in radians of each wave along the border, shape (2, waves).
        shade: Factor on each channel of the lesion's color, shape (3,).
        skin: RGB of the surrounding skin, shape (3,).
        grids: Random numbers of its textures, uniform in [-1, 1], shape (layers, GRID_SIZE, GRID_SIZE).
    """

    appearance: Appearance
    radius_fraction: float
    elongation: float
    waves: NDArray[np.float64]
    shade: FloatMap
    skin: FloatMap
    grids: FloatMap


_SKINS = np.array([(238, 210, 212), (226, 180, 190), (228, 158, 154), (212, 172, 148), (198, 164, 172), (220, 150, 164)])


def draw_lesion(appearance: Appearance, rng: np.random.Generator) -> Lesion:
    """Draw a random lesion of a given appearance.

    Args:
        appearance: Appearance of its diagnosis, one of `APPEARANCES`.
        rng: Random number generator.
    """
    amplitudes = appearance.irregularity * rng.normal(size=_HARMONICS.size) / _HARMONICS**1.1
    return Lesion(
        appearance=appearance,
        radius_fraction=rng.uniform(0.2, 0.34),
        elongation=rng.uniform(1, 1.4),
        waves=np.stack([amplitudes, rng.uniform(0, 2 * np.pi, _HARMONICS.size)]),
        shade=(rng.uniform(0.88, 1.1) * rng.uniform(0.97, 1.03, 3)).astype(np.float32),
        skin=rng.dirichlet(np.ones(len(_SKINS))).dot(_SKINS).astype(np.float32),
        grids=rng.uniform(-1, 1, (_LAYERS, GRID_SIZE, GRID_SIZE)).astype(np.float32),
    )


def paint_lesion(lesion: Lesion, side: int) -> tuple[FloatMap, FloatMap]:
    """Paint a lesion upright in the middle of a square.

    The half-side of the square is EXTENT lesion radii.

    Args:
        lesion: Lesion to paint.
        side: Side of the square, pixels.

    Returns:
        Factor of the lesion on the underlying skin, shape (side, side, 3), 1 outside; and the depth inside its border in
        lesion radii, shape (side, side), negative outside.
    """
    canvas = _ground(lesion, side)
    for feature in lesion.appearance.features:
        canvas = replace(canvas, color=feature(canvas))
    half_edge = lesion.appearance.edge_width / 2
    opacity = features.ramp(canvas.depth, -half_edge, half_edge)
    patchiness = 0.9 + 0.25 * features.canvas_noise(canvas, 2, 10)
    smooth_opacity = opacity * opacity * (3 - 2 * opacity) * patchiness
    factor = canvas.color * lesion.shade / np.asarray(REFERENCE_SKIN, np.float32)
    return 1 + smooth_opacity[..., None] * (factor - 1), canvas.depth


def _ground(lesion: Lesion, side: int) -> Canvas:
    """Paint the outline and ground color of a lesion, without structures."""
    line = np.linspace(-EXTENT, EXTENT, side, dtype=np.float32)
    x, y = line[None, :] * lesion.elongation**0.5, line[:, None] / lesion.elongation**0.5
    radius = np.hypot(x, y)
    empty = np.zeros((side, side, 3), np.float32)
    canvas = Canvas(empty, depth=_border(lesion, np.arctan2(y, x)) - radius, radius=radius, grids=lesion.grids)
    for layer, cells, amplitude in _RAGGED:
        ragged = lesion.appearance.irregularity * amplitude * features.canvas_noise(canvas, layer, cells)
        canvas = replace(canvas, depth=canvas.depth + ragged)
    mottling = 0.35 * features.canvas_noise(canvas, 5, 8) + 0.25 * features.canvas_noise(canvas, 4, 30)
    core_weight: FloatMap = np.clip(features.ramp(canvas.depth, 0, 0.8) + mottling, 0, 1)
    rim = empty + np.asarray(lesion.appearance.rim, np.float32)
    return replace(canvas, color=features.blend(rim, lesion.appearance.core, core_weight))


def _border(lesion: Lesion, angle: FloatMap) -> FloatMap:
    """Return the border's distance from the center by angle, in radii."""
    compass = np.linspace(-np.pi, np.pi, 361)
    amplitudes, phases = lesion.waves
    distance = 1 + amplitudes @ np.cos(_HARMONICS[:, None] * compass + phases[:, None])
    return np.asarray(np.interp(angle, compass, np.clip(distance, 0.5, 1.15)), np.float32)
