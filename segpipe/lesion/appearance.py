"""Shape, colors and size of a lesion, and the skin around it.

The numbers follow the ABCD rule of dermoscopy (Nachbar et al. 1994, doi:10.1016/S0190-9622(94)70061-3) and describe what can be
checked by eye; none of them is a diagnosis. All but the diameters are computed on a working copy, in which the lesion has the
area of a square of `WORKING_SIDE_PX` pixels, so that they depend neither on resolution nor on orientation.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from segpipe.lesion.working_copy import Field, WorkingCopy, make_working_copy, rgb_to_lab
from segpipe.types import BoolMask, FloatArray, RgbImage, mask_box, require_image, require_mask

# Row and column in pixels of the image; the center of the first pixel is (0, 0).
Point = tuple[float, float]

# sRGB of the six colors in dermoscopic images. White, red and blue-gray: Kasmi and Mokrani 2016, doi:10.1049/iet-ipr.2015.0385.
# Brown and black: centers of the CIELAB ranges of Ali, Li and O'Shea 2020, doi:10.1371/journal.pone.0234352; the browns of the
# former are so saturated that most real ones are nearer to red.
REFERENCE_RGB: dict[str, tuple[int, int, int]] = {
    "white": (197, 188, 217),
    "red": (118, 21, 17),
    "light brown": (207, 123, 70),
    "dark brown": (107, 62, 31),
    "blue-gray": (113, 108, 139),
    "black": (73, 39, 33),
}
COLORS = tuple(REFERENCE_RGB)
COLUMNS = (
    *("abcd_asymmetry", "abcd_color_asymmetry", "abcd_border", "abcd_colors", "abcd_color_names"),
    *("abcd_diameter_px", "abcd_diameter_mm", "skin_ita"),
)
# Fraction of the lesion's area from which a color counts.
MIN_COLOR_FRACTION = 0.05
# CIELAB a*, b* of sRGB 194, 150, 130, the patch "light skin" of the ColorChecker chart (McCamy et al. 1976).
SKIN_CHROMA = (13.6, 16.8)
# Unit vectors (row, column), shape (2, 180), in steps of 1 degree: a diameter between them is 0.004 % too small at most.
_DIRECTIONS = np.stack([np.sin(np.deg2rad(np.arange(180))), np.cos(np.deg2rad(np.arange(180)))])


@dataclass(frozen=True)
class Appearance:
    """Numbers of one lesion, and the lines to draw with them.

    Points are (row, column) in pixels of the image, the center of the first pixel being (0, 0). Where a lesion runs out of the
    image, all numbers describe its visible part.

    Attributes:
        asymmetry: Asymmetry of the shape, 0 (disc, ellipse) to 1: area of the symmetric difference of the mask and its mirror
            image, halved, over the area of the mask; mean over both principal axes.
        color_asymmetry: Mean CIELAB difference (CIE 1976) of each pixel and its mirror image within the mask, 0 (equal) to over
            100, 4 to 16 for most lesions; mean over both principal axes.
        border_irregularity: Compactness P^2 / (4 pi A) of the mask, divided by that of the ellipse with its second moments; 1 for
            a disc and an ellipse, 1.03 to 1.5 for most lesions, no upper limit.
        color_fractions: Fraction of the lesion's area, 0 to 1, by name of `COLORS`; the sum is 1.
        diameter_px: Largest Feret diameter (distance of parallel tangents), pixels of the image.
        minor_diameter_px: Smallest Feret diameter, pixels of the image.
        diameter_mm: Largest Feret diameter, millimeters; None without a scale.
        skin_ita: Individual typology angle of the skin around the lesion, degrees: over 55 very light, 41 to 55 light, 28 to 41
            intermediate, 10 to 28 tan, -30 to 10 brown, below dark (Chardon et al. 1991, doi:10.1111/j.1467-2494.1991.tb00561.x).
            Lighting and white balance shift it; over 90 the photograph is bluish. None if too little skin is visible.
        centroid: Center of gravity of the mask.
        axes: End points of the major and of the minor principal axis through the centroid, as far as the mask extends.
    """

    asymmetry: float
    color_asymmetry: float
    border_irregularity: float
    color_fractions: Mapping[str, float]
    diameter_px: float
    minor_diameter_px: float
    diameter_mm: float | None
    skin_ita: float | None
    centroid: Point
    axes: tuple[tuple[Point, Point], tuple[Point, Point]]

    @property
    def color_names(self) -> tuple[str, ...]:
        """Colors that cover at least `MIN_COLOR_FRACTION`, the largest first."""
        counted = [name for name in COLORS if self.color_fractions[name] >= MIN_COLOR_FRACTION]
        return tuple(sorted(counted, key=self.color_fractions.__getitem__, reverse=True))

    def scaled(self, factor: float) -> "Appearance":
        """Convert to pixels of an image that is `factor` times as large."""
        (major, minor) = (
            ((start[0] * factor, start[1] * factor), (end[0] * factor, end[1] * factor)) for start, end in self.axes
        )
        return replace(
            self,
            diameter_px=self.diameter_px * factor,
            minor_diameter_px=self.minor_diameter_px * factor,
            centroid=_scaled(self.centroid, factor),
            axes=(major, minor),
        )

    def to_columns(self) -> dict[str, float | int | str | None]:
        """Return the numbers as plain values by column name."""
        values = (
            *(self.asymmetry, self.color_asymmetry, self.border_irregularity, len(self.color_names), ";".join(self.color_names)),
            *(self.diameter_px, self.diameter_mm, self.skin_ita),
        )
        return dict(zip(COLUMNS, values, strict=True))


def _scaled(point: Point, factor: float) -> Point:
    return point[0] * factor, point[1] * factor


def measure_appearance(image: RgbImage, mask: BoolMask, *, mm_per_pixel: float | None = None) -> Appearance:
    """Measure a lesion and the skin around it.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask: Bool, shape (H, W), true on the lesion.
        mm_per_pixel: Side of a pixel of `image` on the skin, millimeters; None if unknown.

    Raises:
        ValueError: `image` is not an RGB image, or `mask` is not a mask of its size, see `segpipe.types`.
        ValueError: `mask` is empty, or `mm_per_pixel` is not a positive number.
    """
    require_mask(mask, size=require_image(image, min_side=1).shape[:2])
    if mm_per_pixel is not None and not 0 < mm_per_pixel < math.inf:
        raise ValueError(f"mm_per_pixel must be a positive number, got {mm_per_pixel}; leave it out if the scale is unknown")
    hull = _hull(mask)
    copy = make_working_copy(image, mask)
    moments = _moments(copy.mask)
    centroid = copy.in_image(moments.center)
    shape, color = _asymmetries(copy, moments)
    # A pixel is a square, whose corners lie beyond its center.
    widths = np.ptp(hull @ _DIRECTIONS, axis=0) + abs(_DIRECTIONS).sum(axis=0)
    diameter = float(widths.max())
    return Appearance(
        asymmetry=shape,
        color_asymmetry=color,
        border_irregularity=_border_irregularity(copy, moments),
        color_fractions=_color_fractions(copy),
        diameter_px=diameter,
        minor_diameter_px=float(widths.min()),
        diameter_mm=None if mm_per_pixel is None else diameter * mm_per_pixel,
        skin_ita=None if copy.skin is None else math.degrees(math.atan2(copy.skin[0] - 50, copy.skin[2])),
        centroid=centroid,
        axes=(_line(hull, centroid, moments.axes[0]), _line(hull, centroid, moments.axes[1])),
    )


def _hull(mask: BoolMask) -> FloatArray:
    """Return the centers of the outermost pixels, (row, column), shape (K, 2)."""
    box = mask_box(mask)
    pixels = np.ascontiguousarray(mask[box.slices()]).view(np.uint8)
    outlines, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = cv2.convexHull(np.concatenate(outlines)).reshape(-1, 2)[:, ::-1]
    return np.asarray(points + np.array([box.top, box.left]), dtype=np.float64)


@dataclass(frozen=True)
class _Moments:
    """Moments of the mask on the working copy.

    Attributes:
        area: Area, square pixels.
        center: Centroid (row, column).
        axes: Unit vectors (row, column) of the major and of the minor principal axis, shape (2, 2).
        variances: Variances along them, square pixels.
    """

    area: float
    center: FloatArray
    axes: FloatArray
    variances: tuple[float, float]


def _moments(mask: Field) -> _Moments:
    found = cv2.moments(mask)
    area = found["m00"]
    across, down, mixed = (found[name] / area for name in ("mu20", "mu02", "mu11"))
    spread, difference = (across + down) / 2, math.hypot(across - down, 2 * mixed) / 2
    # All axes of a disc or a square are principal axes; any choice by rounding errors would be arbitrary.
    angle = math.atan2(2 * mixed, across - down) / 2 if difference > 1e-6 * spread else 0.0
    row, column = math.sin(angle), math.cos(angle)
    return _Moments(
        area=area,
        center=np.array([found["m01"], found["m10"]]) / area,
        axes=np.array([[row, column], [column, -row]]),
        variances=(spread + difference, spread - difference),
    )


def _line(hull: FloatArray, center: Point, direction: FloatArray) -> tuple[Point, Point]:
    """Return the line through a point as far as the hull extends."""
    offsets = (hull - center) @ direction
    (top, left), (bottom, right) = (center + np.outer([offsets.min(), offsets.max()], direction)).tolist()
    return (top, left), (bottom, right)


def _asymmetries(copy: WorkingCopy, moments: _Moments) -> tuple[float, float]:
    """Return asymmetry of shape and color, means over both principal axes."""
    layers = np.dstack([copy.soft, copy.lesion_lab])
    inside = copy.soft > 0
    values, shapes, colors = layers[inside], [], []
    for axis in moments.axes:
        mirrored = _mirror(layers, moments.center, axis)[inside]
        # The mask without its overlap with the mirror image is half the symmetric difference.
        overlap = np.minimum(values[:, 0], mirrored[:, 0])
        shapes.append(1 - overlap.sum() / values[:, 0].sum())
        differences = values[:, 1:] - mirrored[:, 1:]
        colors.append(overlap @ np.sqrt(np.einsum("ij,ij->i", differences, differences)) / overlap.sum())
    return max(0.0, float(np.mean(shapes))), float(np.mean(colors))


def _mirror(layers: Field, center: FloatArray, axis: FloatArray) -> Field:
    """Reflect about the line through `center` along the unit vector `axis`."""
    height, width = layers.shape[:2]
    reflection = 2 * np.outer(axis, axis) - np.eye(2)
    matrix = np.column_stack([reflection[::-1, ::-1], (center - reflection @ center)[::-1]])  # OpenCV's order is x, y
    return np.asarray(cv2.warpAffine(layers, matrix, (width, height), flags=cv2.INTER_LINEAR), dtype=np.float32)


def _border_irregularity(copy: WorkingCopy, moments: _Moments) -> float:
    """Return the compactness of the mask over that of its ellipse.

    The perimeter is the integral of the gradient of the smoothed mask (coarea formula), which has no bias for any direction of
    the border, unlike counts of pixels. The ellipse's perimeter is Ramanujan's approximation.
    """
    down, across = np.gradient(copy.soft)
    perimeter = float(np.hypot(down, across).sum())
    # Moments are those of points; 1/12 is the variance within a pixel.
    first, second = (2 * math.sqrt(variance + 1 / 12) for variance in moments.variances)
    ellipse = math.pi * (3 * (first + second) - math.sqrt((3 * first + second) * (first + 3 * second)))
    return max(1.0, (perimeter**2 / moments.area) / (ellipse**2 / (math.pi * first * second)))


def _color_fractions(copy: WorkingCopy) -> dict[str, float]:
    """Return the fraction of the lesion nearest to each reference color.

    The white balance is taken from the skin: its a*, b* become `SKIN_CHROMA`, and those of the lesion change in proportion to
    L* + 16, as they do under another light (von Kries). White must be lighter than the skin (Nachbar et al. 1994).
    """
    inside = copy.mask > 0
    colors, weights = copy.lesion_lab[inside], copy.mask[inside]
    references = rgb_to_lab(np.array([[*REFERENCE_RGB.values()]], dtype=np.float32))[0]
    if copy.skin is not None:
        colors[:, 1:] += np.outer(colors[:, 0] + 16, (SKIN_CHROMA - copy.skin[1:]) / (copy.skin[0] + 16))
    # Squared distances, without the term that is the same for all references.
    distances = (references**2).sum(axis=1) - 2 * colors @ references.T
    if copy.skin is not None:
        distances[colors[:, 0] < copy.skin[0], COLORS.index("white")] = np.inf
    sums = np.bincount(distances.argmin(axis=1), weights, minlength=len(COLORS))
    return dict(zip(COLORS, (sums / sums.sum()).tolist(), strict=True))
