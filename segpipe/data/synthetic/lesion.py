"""How the lesions of each diagnosis look, and the drawing of one lesion on an empty canvas."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segpipe.data.synthetic import features
from segpipe.data.synthetic.features import EXTENT, GRID_SIZE, Canvas, Colour, Feature, FloatMap

REFERENCE_SKIN: Colour = (220, 172, 174)
"""The skin on which the colours of an appearance are stated; on other skin they shift with it."""
_LAYERS = 6
_HARMONICS = np.arange(2, 10)
# Layer of the noise, its bumps along the canvas, and how far it moves the border, as a share of the irregularity.
_RAGGED = ((0, 7, 0.7), (1, 16, 0.4), (2, 36, 0.25))


@dataclass(frozen=True)
class Appearance:
    """How lesions of one diagnosis look.

    Attributes:
        rim: colour near the border, on the reference skin.
        core: colour in the middle, on the reference skin.
        irregularity: how far the border strays from an ellipse, as a fraction of the radius.
        edge_width: over how many radii the lesion fades into the skin.
        features: structures painted over the ground colour, in this order.
    """

    rim: Colour
    core: Colour
    irregularity: float
    edge_width: float
    features: tuple[Feature, ...]


APPEARANCES: dict[str, Appearance] = {
    "mel": Appearance(
        (156, 102, 82), (108, 68, 56), 0.26, 0.2, (features.pigment_network, features.colour_patches, features.black_dots)
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
    """One lesion, the same in all its photographs.

    Attributes:
        appearance: the looks of its diagnosis.
        radius_fraction: mean radius as a fraction of the image's height, before the zoom of a view.
        elongation: longer over shorter axis, 1 or more.
        waves: amplitude in radii and phase in radians of each wave along the border, shape (2, waves).
        shade: factor on each channel of the lesion's colour, shape (3,).
        skin: RGB of the skin around it, shape (3,).
        grids: random numbers for its textures, uniform in [-1, 1], shape (layers, GRID_SIZE, GRID_SIZE).
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
    """Draw a lesion at random.

    Args:
        appearance: the looks of its diagnosis, one of `APPEARANCES`.
        rng: where the random numbers come from.
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
    """Paint a lesion upright in the middle of a square whose half-side is EXTENT lesion radii.

    Args:
        lesion: what to paint.
        side: of the square, pixels.

    Returns:
        The factor by which the lesion changes the skin under it, shape (side, side, 3), 1 where there is none; and the depth
        inside its border in lesion radii, shape (side, side), negative outside.
    """
    canvas = _ground(lesion, side)
    for feature in lesion.appearance.features:
        canvas = replace(canvas, colour=feature(canvas))
    half_edge = lesion.appearance.edge_width / 2
    opacity = features.ramp(canvas.depth, -half_edge, half_edge)
    patchiness = 0.9 + 0.25 * features.canvas_noise(canvas, 2, 10)
    smooth_opacity = opacity * opacity * (3 - 2 * opacity) * patchiness
    factor = canvas.colour * lesion.shade / np.asarray(REFERENCE_SKIN, np.float32)
    return 1 + smooth_opacity[..., None] * (factor - 1), canvas.depth


def _ground(lesion: Lesion, side: int) -> Canvas:
    """The lesion's outline and its ground colour, without any structure."""
    line = np.linspace(-EXTENT, EXTENT, side, dtype=np.float32)
    x, y = line[None, :] * lesion.elongation**0.5, line[:, None] / lesion.elongation**0.5
    radius = np.hypot(x, y)
    empty = np.zeros((side, side, 3), np.float32)
    canvas = Canvas(empty, depth=_border(lesion, np.arctan2(y, x)) - radius, radius=radius, grids=lesion.grids)
    for layer, cells, share in _RAGGED:
        ragged = lesion.appearance.irregularity * share * features.canvas_noise(canvas, layer, cells)
        canvas = replace(canvas, depth=canvas.depth + ragged)
    mottling = 0.35 * features.canvas_noise(canvas, 5, 8) + 0.25 * features.canvas_noise(canvas, 4, 30)
    core_weight: FloatMap = np.clip(features.ramp(canvas.depth, 0, 0.8) + mottling, 0, 1)
    rim = empty + np.asarray(lesion.appearance.rim, np.float32)
    return replace(canvas, colour=features.blend(rim, lesion.appearance.core, core_weight))


def _border(lesion: Lesion, angle: FloatMap) -> FloatMap:
    """Distance of the border from the centre at each angle, in lesion radii."""
    compass = np.linspace(-np.pi, np.pi, 361)
    amplitudes, phases = lesion.waves
    distance = 1 + amplitudes @ np.cos(_HARMONICS[:, None] * compass + phases[:, None])
    return np.asarray(np.interp(angle, compass, np.clip(distance, 0.5, 1.15)), np.float32)
