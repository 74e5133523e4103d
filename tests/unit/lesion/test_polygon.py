"""Outlines as polygons: near the mask, with few corners, and filled again."""

import cv2
import numpy as np
import pytest

from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.lesion.polygon import MAX_POINTS, MOST_CORNERS, fill_polygon, outline_polygon, require_polygon
from segpipe.types import BoolMask


def iou(one: BoolMask, other: BoolMask) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("size", [(60, 80), (450, 600), (901, 333)])
def test_filled_polygon_is_near_the_mask(code: str, size: tuple[int, int]) -> None:
    _, mask = make_image(code, np.random.default_rng(2), size)
    polygon = outline_polygon(mask)
    assert 3 <= len(polygon) <= MAX_POINTS and polygon.min() >= 0 and polygon.max() <= 1
    assert iou(fill_polygon(polygon, *size), mask) > 0.95


def test_polygon_of_a_rectangle_is_exact_at_any_resolution() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[10:30, 15:45] = True
    polygon = outline_polygon(mask)
    corners = sorted((polygon * (60, 40)).round(6).tolist())
    assert corners == [[15.5, 10.5], [15.5, 29.5], [44.5, 10.5], [44.5, 29.5]]
    np.testing.assert_array_equal(fill_polygon(polygon, 40, 60), mask)
    assert fill_polygon(polygon, 400, 600).sum() == pytest.approx(190 * 290, rel=0.02)


def test_largest_piece_is_taken_without_holes() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[20:60, 20:60] = True
    mask[35:45, 35:45] = False
    mask[80:90, 80:90] = True
    filled = fill_polygon(outline_polygon(mask), 100, 100)
    assert filled[20:60, 20:60].all() and filled.sum() == 1600


def test_number_of_corners_is_limited() -> None:
    star = np.zeros((400, 400), np.uint8)
    angles = np.linspace(0, 2 * np.pi, 161)[:-1]
    radii = np.where(np.arange(160) % 2, 180, 120)
    points = 200 + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    cv2.fillPoly(star, [points.astype(np.int32)], 1)
    assert 3 <= len(outline_polygon(star.astype(np.bool_))) <= MAX_POINTS


def test_empty_mask_has_no_corners() -> None:
    assert outline_polygon(np.zeros((9, 9), np.bool_)).shape == (0, 2)


def test_parts_beyond_the_image_are_cut_off() -> None:
    polygon = require_polygon([[-1, -1], [2, -1], [2, 2], [-1, 2]])
    assert fill_polygon(polygon, 20, 30).all()


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        (None, ["corners (x, y)"]),
        ("abc", ["corners (x, y)"]),
        ({"a": 1}, ["corners (x, y)"]),
        ([[10**400, 0]] * 3, ["corners (x, y)"]),
        ([[0, 0], [1, 1], [0, float("nan")]], ["corners (x, y)"]),
        ([[0, 0], [1, 1], [0]], ["corners (x, y)"]),
        ([[0, 0, 0]] * 3, ["corners (x, y)"]),
        ([[0, 0], [1, 1]], ["3 to", "got 2"]),
        ([[0, 0]] * (MOST_CORNERS + 1), [f"{MOST_CORNERS}", f"got {MOST_CORNERS + 1}"]),
    ],
)
def test_other_values_are_refused_in_one_line(corners: object, words: list[str]) -> None:
    with pytest.raises(ValueError) as refused:
        require_polygon(corners)
    assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)
