"""Numbers of a lesion on shapes, colors and skins whose answer is known."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2lab

from segpipe.io.files import read_json
from segpipe.lesion.appearance import COLORS, MIN_COLOR_FRACTION, REFERENCE_RGB, Appearance, measure_appearance
from segpipe.lesion.working_copy import rgb_to_lab
from segpipe.types import BoolMask, RgbImage

Numbers = Mapping[str, float]
STATISTICS = "median", "p5", "p95"

DOCS = Path(__file__).parents[3] / "docs"
HEIGHT, WIDTH = 225, 300
# CIELAB of the ColorChecker's light skin; lesions beside it keep their colors, because the white balance changes nothing.
SKIN_LAB = (70.0, 13.6, 16.8)


def lab_color(lightness: float, a: float, b: float) -> NDArray[np.uint8]:
    rgb = cv2.cvtColor(np.array([[[lightness, a, b]]], dtype=np.float32), cv2.COLOR_LAB2RGB)
    return np.rint(rgb[0, 0] * 255).astype(np.uint8)


def grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows and columns relative to the middle of the image."""
    rows, columns = np.indices((HEIGHT, WIDTH), dtype=np.float64)
    return rows - HEIGHT / 2, columns - WIDTH / 2


def ellipse(first: float, second: float, degrees: float = 0) -> BoolMask:
    rows, columns = grid()
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    along, aside = columns * cosine + rows * sine, rows * cosine - columns * sine
    return np.hypot(along / first, aside / second) <= 1


def rectangle(height: int, width: int) -> BoolMask:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[50 : 50 + height, 60 : 60 + width] = True
    return mask


def l_shape() -> BoolMask:
    return rectangle(120, 40) | rectangle(40, 140)


def half_disc() -> BoolMask:
    return ellipse(70, 70) & (grid()[1] < 0)


def blob() -> BoolMask:
    """Draw a shape without any symmetry, inside the image."""
    rows, columns = grid()
    angle = np.arctan2(rows, columns)
    radius = 60 + 12 * np.cos(2 * angle + 0.4) + 8 * np.sin(3 * angle) + 4 * np.cos(7 * angle)
    return np.hypot(rows, columns) <= radius


def photograph(mask: BoolMask, color: NDArray[np.uint8] | tuple[int, int, int] = (107, 62, 31)) -> RgbImage:
    image = np.empty((*mask.shape, 3), dtype=np.uint8)
    image[:] = lab_color(*SKIN_LAB)
    image[mask] = color
    return image


def mottled(mask: BoolMask) -> RgbImage:
    """Draw a lesion with all colors between brown and black, and uneven skin."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 30, (8, 10, 3)).astype(np.float32)
    noise = cv2.resize(coarse, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(photograph(mask) + noise, 0, 255).astype(np.uint8)


def measure(mask: BoolMask) -> Appearance:
    return measure_appearance(photograph(mask), mask)


def numbers(appearance: Appearance) -> NDArray[np.float64]:
    values = [appearance.asymmetry, appearance.color_asymmetry, appearance.border_irregularity]
    values += [appearance.color_fractions[name] for name in COLORS]
    assert appearance.skin_ita is not None
    return np.array([*values, appearance.diameter_px, appearance.minor_diameter_px, appearance.skin_ita])


@pytest.mark.parametrize("radius", [4, 15, 40, 90])
def test_disc(radius: int) -> None:
    found = measure(ellipse(radius, radius))
    assert found.asymmetry == pytest.approx(0, abs=0.02)
    assert found.color_asymmetry == pytest.approx(0, abs=0.5)
    assert found.border_irregularity == pytest.approx(1, abs=0.05)
    assert found.diameter_px == pytest.approx(2 * radius, abs=1.5)
    assert found.minor_diameter_px == pytest.approx(2 * radius, abs=1.5)


@pytest.mark.parametrize("degrees", [0, 10, 33, 45, 80, 120])
@pytest.mark.parametrize("second", [20, 40, 85])
def test_rotated_ellipse(second: int, degrees: int) -> None:
    found = measure(ellipse(90, second, degrees))
    assert found.asymmetry == pytest.approx(0, abs=0.02)
    assert found.border_irregularity == pytest.approx(1, abs=0.02)
    assert found.diameter_px == pytest.approx(180, abs=1.5)
    assert found.minor_diameter_px == pytest.approx(2 * second, abs=1.5)


@pytest.mark.parametrize("degrees", [0, 10, 33, 60, 120])
def test_axes_are_those_of_the_ellipse(degrees: int) -> None:
    found = measure(ellipse(90, 40, degrees))
    assert found.centroid == pytest.approx((HEIGHT / 2, WIDTH / 2), abs=0.2)
    for line, angle, length in zip(found.axes, (degrees, degrees + 90), (180, 80), strict=True):
        (top, left), (bottom, right) = line
        assert math.hypot(bottom - top, right - left) == pytest.approx(length, abs=2)
        difference = math.degrees(math.atan2(bottom - top, right - left)) - angle
        assert abs((difference + 90) % 180 - 90) < 1
        assert ((top + bottom) / 2, (left + right) / 2) == pytest.approx(found.centroid, abs=1)


def test_l_shape_and_half_disc_are_asymmetric() -> None:
    # An L with equal arms is symmetric about one of its axes, and so is a half disc.
    assert measure(l_shape()).asymmetry > 0.3
    assert 0.05 < measure(half_disc()).asymmetry < 0.15
    assert measure(l_shape()).border_irregularity > 1.5


def test_asymmetry_of_a_triangle() -> None:
    """An isosceles triangle is symmetric about its height; across it, overlap is known."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    height, base = 160, 60
    points = np.array([[150, 30], [150 - base // 2, 30 + height], [150 + base // 2, 30 + height]])
    # Reflected about the centroid (2/3 of the height), rows t above it overlap in the narrower of two widths.
    rows = np.linspace(-2 / 3, 2 / 3, 100_001)
    width = np.where((rows >= -2 / 3) & (rows <= 1 / 3), rows + 2 / 3, 0)
    overlap = np.minimum(width, width[::-1]).mean() * (4 / 3) / 0.5
    cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    assert measure(mask > 0).asymmetry == pytest.approx((1 - overlap) / 2, abs=0.02)


def test_one_dark_half_is_an_asymmetry_of_color() -> None:
    mask, plain = ellipse(80, 50), measure(ellipse(80, 50))
    image = photograph(mask, (207, 123, 70))
    image[mask & (grid()[1] < 0)] = (107, 62, 31)
    halves = measure_appearance(image, mask)
    difference = np.linalg.norm(np.subtract((59.8, 28.4, 42.3), (30.9, 17.0, 26.9)))
    # The halves differ about the minor axis, and are equal about the major one.
    assert halves.color_asymmetry == pytest.approx(difference / 2, rel=0.1)
    assert halves.asymmetry == pytest.approx(plain.asymmetry, abs=1e-6)


def test_notches_and_rays_make_the_border_irregular() -> None:
    rows, columns = grid()
    angle, radius = np.arctan2(rows, columns), np.hypot(rows, columns)
    stars = [measure(radius <= 70 * (1 + depth * np.cos(9 * angle))).border_irregularity for depth in (0, 0.05, 0.1, 0.2)]
    assert stars == sorted(stars)
    assert stars[0] == pytest.approx(1, abs=0.01)
    assert stars[3] > 1.8


def test_diameters_of_a_rectangle() -> None:
    found = measure_appearance(photograph(rectangle(60, 80)), rectangle(60, 80), mm_per_pixel=0.05)
    assert found.diameter_px == pytest.approx(100, abs=0.01)
    assert found.minor_diameter_px == pytest.approx(60)
    assert found.diameter_mm == pytest.approx(5, abs=0.001)
    assert found.to_columns()["abcd_diameter_mm"] == found.diameter_mm


@pytest.mark.parametrize("name", COLORS)
def test_each_color_is_named(name: str) -> None:
    mask = ellipse(60, 50)
    found = measure_appearance(photograph(mask, REFERENCE_RGB[name]), mask)
    assert found.color_names == (name,)
    assert found.color_fractions[name] == pytest.approx(1, abs=0.01)


def test_patches_are_counted_by_their_area() -> None:
    mask = rectangle(100, 120)
    image = photograph(mask)
    fractions = dict(zip(COLORS, (0.1, 0.2, 0.25, 0.3, 0.13, 0.02), strict=True))
    left = 60.0
    for name, fraction in fractions.items():
        right = left + fraction * 120
        image[50:150, round(left) : round(right)] = REFERENCE_RGB[name]
        left = right
    found = measure_appearance(image, mask)
    assert sum(found.color_fractions.values()) == pytest.approx(1)
    for name, fraction in fractions.items():
        assert found.color_fractions[name] == pytest.approx(fraction, abs=0.04)
    assert set(found.color_names) == set(COLORS) - {"black"}
    assert list(found.color_names) == sorted(found.color_names, key=lambda name: -found.color_fractions[name])
    assert all(found.color_fractions[name] >= MIN_COLOR_FRACTION for name in found.color_names)
    assert found.to_columns()["abcd_colors"] == 5
    assert found.to_columns()["abcd_color_names"] == ";".join(found.color_names)


def test_a_colored_light_does_not_change_the_colors() -> None:
    mask = ellipse(60, 50)
    image = photograph(mask, REFERENCE_RGB["light brown"])
    image[mask & (grid()[1] < 0)] = REFERENCE_RGB["dark brown"]
    bluish = np.rint(image * (0.9, 0.92, 1.0) + (0, 0, 12)).astype(np.uint8)
    plain, shifted = measure_appearance(image, mask), measure_appearance(bluish, mask)
    for name in COLORS:
        assert shifted.color_fractions[name] == pytest.approx(plain.color_fractions[name], abs=0.03)
    assert shifted.skin_ita is not None and plain.skin_ita is not None
    assert shifted.skin_ita > plain.skin_ita + 5


def test_white_is_lighter_than_the_skin() -> None:
    mask = ellipse(60, 50)
    image = photograph(mask, REFERENCE_RGB["white"])
    assert measure_appearance(image, mask).color_names == ("white",)
    image[~mask] = lab_color(90, *SKIN_LAB[1:])
    assert "white" not in measure_appearance(image, mask).color_names


@pytest.mark.parametrize(
    "lab", [(75.0, 12.0, 16.0), (65.0, 15.0, 20.0), (50.0, 14.0, 18.0), (35.0, 12.0, 14.0), (75.0, 12.0, -5.0)]
)
def test_typology_angle_of_a_known_skin(lab: tuple[float, float, float]) -> None:
    mask = ellipse(40, 30)
    image = photograph(mask)
    image[~mask] = lab_color(*lab)
    expected = math.degrees(math.atan2(lab[0] - 50, lab[2]))
    assert measure_appearance(image, mask).skin_ita == pytest.approx(expected, abs=2)


def test_typology_angle_ignores_frame_hair_and_glare() -> None:
    mask = ellipse(40, 30)
    image = photograph(mask)
    expected = measure_appearance(image, mask).skin_ita
    rows, columns = grid()
    dirty = image.copy()
    dirty[np.hypot(rows, columns) > 75] = 10
    dirty[:, ::15][~mask[:, ::15]] = (60, 40, 30)
    dirty[::18][~mask[::18]] = 255
    assert measure_appearance(dirty, mask).skin_ita == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    "turn", [np.fliplr, np.flipud, np.rot90, lambda array: np.rot90(array, 2), lambda array: np.swapaxes(array, 0, 1)]
)
@pytest.mark.parametrize("shape", [blob, l_shape, half_disc, lambda: ellipse(2, 5, 30)])
def test_mirror_images_and_quarter_turns_have_the_same_numbers(
    turn: Callable[[NDArray[np.generic]], NDArray[np.generic]], shape: Callable[[], BoolMask]
) -> None:
    mask = shape()
    image = mottled(mask)
    turned = measure_appearance(np.ascontiguousarray(turn(image)), np.ascontiguousarray(turn(mask)))
    assert numbers(turned) == pytest.approx(numbers(measure_appearance(image, mask)), abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_resizing_changes_little(factor: float) -> None:
    mask = blob()
    image = mottled(mask)
    size = (round(WIDTH * factor), round(HEIGHT * factor))
    larger = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    resized = measure_appearance(larger, cv2.resize(mask.astype(np.float32), size) >= 0.5)
    before = measure_appearance(image, mask)
    assert resized.asymmetry == pytest.approx(before.asymmetry, abs=0.01)
    assert resized.color_asymmetry == pytest.approx(before.color_asymmetry, abs=0.5)
    assert resized.border_irregularity == pytest.approx(before.border_irregularity, abs=0.03)
    assert resized.diameter_px / factor == pytest.approx(before.diameter_px, abs=3)
    assert resized.skin_ita == pytest.approx(before.skin_ita, abs=1)
    for name in COLORS:
        assert resized.color_fractions[name] == pytest.approx(before.color_fractions[name], abs=0.03)


@pytest.mark.parametrize("degrees", [20, 45, 70])
def test_rotation_changes_little(degrees: float) -> None:
    mask = blob()
    matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), degrees, 1)
    image = mottled(mask)
    turned = cv2.warpAffine(image, matrix, (WIDTH, HEIGHT))
    found = measure_appearance(turned, cv2.warpAffine(mask.astype(np.float32), matrix, (WIDTH, HEIGHT)) >= 0.5)
    before = measure_appearance(image, mask)
    assert found.asymmetry == pytest.approx(before.asymmetry, abs=0.01)
    assert found.border_irregularity == pytest.approx(before.border_irregularity, abs=0.02)
    assert found.color_asymmetry == pytest.approx(before.color_asymmetry, abs=0.5)


def single(row: int, column: int) -> BoolMask:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[row, column] = True
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        single(0, 0),
        single(100, 100),
        single(3, 3) | single(HEIGHT - 2, WIDTH - 4),
        rectangle(1, 120),
        rectangle(100, 1),
        ellipse(40, 30) | single(0, 0),
        np.ones((HEIGHT, WIDTH), dtype=np.bool_),
        ~ellipse(100, 90),
        ellipse(200, 60),
        np.eye(HEIGHT, WIDTH, dtype=np.bool_),
    ],
)
def test_any_mask_has_finite_numbers_in_range(mask: BoolMask) -> None:
    found = measure_appearance(mottled(mask), mask)
    assert 0 <= found.asymmetry <= 1
    assert 0 <= found.color_asymmetry < 200
    assert 1 <= found.border_irregularity < 100
    assert sum(found.color_fractions.values()) == pytest.approx(1)
    assert 1 <= found.minor_diameter_px <= found.diameter_px <= math.hypot(HEIGHT, WIDTH) + 1
    assert found.skin_ita is None or -180 <= found.skin_ita <= 180
    points = np.array([found.centroid, *found.axes[0], *found.axes[1]])
    assert np.isfinite(points).all()
    assert (abs(points - (HEIGHT / 2, WIDTH / 2)) < math.hypot(HEIGHT, WIDTH)).all()


def test_whole_image_has_no_skin_but_colors() -> None:
    mask = np.ones((HEIGHT, WIDTH), dtype=np.bool_)
    found = measure_appearance(photograph(mask), mask)
    assert found.skin_ita is None
    assert found.color_names == ("dark brown",)
    assert found.diameter_px == pytest.approx(math.hypot(HEIGHT, WIDTH), abs=0.01)


def test_lesion_at_the_border_is_measured_as_far_as_it_is_visible() -> None:
    mask = np.hypot(grid()[0] + HEIGHT / 2, grid()[1]) <= 70
    found = measure(mask)
    assert found.diameter_px == pytest.approx(140, abs=2)
    assert found.minor_diameter_px == pytest.approx(71, abs=2)
    assert found.axes[1][0][0] == pytest.approx(0, abs=1) or found.axes[1][1][0] == pytest.approx(0, abs=1)


def test_thin_lesion_of_a_very_large_photograph_is_found() -> None:
    mask = np.zeros((3000, 4000), dtype=np.bool_)
    mask[1501] = True
    found = measure_appearance(photograph(mask), mask)
    assert found.centroid == pytest.approx((1501, 1999.5), abs=1)
    assert found.diameter_px == pytest.approx(4000, abs=1)


def test_columns_are_plain_values() -> None:
    columns = measure(blob()).to_columns()
    assert [*columns] == [
        *("abcd_asymmetry", "abcd_color_asymmetry", "abcd_border", "abcd_colors", "abcd_color_names"),
        *("abcd_diameter_px", "abcd_diameter_mm", "skin_ita"),
    ]
    assert columns["abcd_diameter_mm"] is None
    assert {type(value) for value in columns.values()} == {float, int, str, type(None)}


def test_the_same_image_gives_the_same_numbers_and_stays_unchanged() -> None:
    mask = blob()
    image = mottled(mask)
    before = image.copy(), mask.copy()
    assert measure_appearance(image, mask) == measure_appearance(image, mask)
    assert np.array_equal(image, before[0]) and np.array_equal(mask, before[1])


def test_lab_is_that_of_scikit_image() -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    expected = rgb2lab(colors)
    np.testing.assert_allclose(rgb_to_lab(colors), expected, atol=0.002)
    np.testing.assert_allclose(rgb_to_lab(colors.astype(np.float32)), expected, atol=0.002)


def test_views_are_accepted() -> None:
    mask = blob()
    image = mottled(mask)
    views = measure_appearance(np.flipud(np.flipud(image)), np.asfortranarray(mask))
    assert views == measure_appearance(image, mask)


def test_empty_masks_and_wrong_arguments_are_refused() -> None:
    mask = blob()
    with pytest.raises(ValueError, match="mask must have at least one true pixel"):
        measure_appearance(photograph(mask), np.zeros_like(mask))
    with pytest.raises(ValueError, match="mask must have the size of its image, 225 x 300"):
        measure_appearance(photograph(mask), mask[:-1])
    with pytest.raises(ValueError, match="image must be RGB"):
        measure_appearance(photograph(mask)[..., 0], mask)
    for scale in (0.0, -0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"mm_per_pixel must be a positive number, got {scale}"):
            measure_appearance(photograph(mask), mask, mm_per_pixel=scale)


def stability_row(column: str, mirror: Numbers, rotation: Numbers, resizing: Numbers) -> str:
    correlations = [f"{family['rank_correlation_lowest']:.3f}" for family in (mirror, rotation, resizing)]
    if "median_change_degrees" in rotation:
        changes = [f"{family['median_change_degrees']:.2f} degrees" for family in (rotation, resizing)]
    else:
        changes = [f"{100 * family['median_relative_change']:.1f} %" for family in (rotation, resizing)]
    name = column if column.startswith("fraction") else f"`{column}`"
    return f"| {name} | {' | '.join(correlations + changes)} |"


def distribution_row(diagnosis: str, found: Mapping[str, Any]) -> str:
    digits = {"abcd_asymmetry": 2, "abcd_color_asymmetry": 1, "abcd_border": 2}
    columns = [column for column in found if column.startswith(("abcd", "skin"))]
    texts = {column: [f"{found[column][name]:.{digits.get(column, 0)}f}" for name in STATISTICS] for column in columns}
    cells = [f"{median} ({lowest} to {highest})" for median, lowest, highest in texts.values()]
    return f"| {diagnosis} | {found['images']} | {' | '.join(cells)} |"


def test_documented_numbers_are_the_measured_ones() -> None:
    measured, page = read_json(DOCS / "results" / "appearance.json"), (DOCS / "trust.md").read_text(encoding="utf-8")
    families = [measured["stability"][name] for name in ("mirror", "rotation", "resizing")]
    for column in families[0]:
        assert min(family[column]["rank_correlation_lowest"] for family in families) > 0.95
        assert stability_row(column, *(family[column] for family in families)) in page
    for diagnosis, found in measured["distribution"].items():
        assert diagnosis == "all" or distribution_row(diagnosis, found) in page
    assert f"{measured['images']} images" in page
    assert f"takes {measured['milliseconds']:.0f} ms" in page
    assert measured["milliseconds"] < 10


def test_documented_colors_are_the_references() -> None:
    page = (DOCS / "trust.md").read_text(encoding="utf-8")
    for name, rgb in REFERENCE_RGB.items():
        assert f"| {name} | {', '.join(map(str, rgb))} |" in page
    for column in measure(blob()).to_columns():
        assert f"| `{column}` |" in page
