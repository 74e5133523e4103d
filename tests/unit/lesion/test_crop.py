"""Crop boxes contain the lesion and stay inside images of any size."""

import numpy as np
import pytest

from segpipe.lesion.crop import CropRule, crop_box, cut_out, full_box, resize_square, scale_mask, square_around
from segpipe.types import Box, mask_box

SEEDS = range(25)


def _random_image(rng: np.random.Generator) -> np.ndarray:
    height, width = rng.integers(16, 90, size=2)
    return rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def _random_box(rng: np.random.Generator, image: np.ndarray) -> Box:
    top, left = (int(rng.integers(0, side)) for side in image.shape[:2])
    return Box(top, left, int(rng.integers(top, image.shape[0])) + 1, int(rng.integers(left, image.shape[1])) + 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_box_is_the_smallest_around_the_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 40, size=2)) < 0.05
    mask.flat[rng.integers(mask.size)] = True
    box = mask_box(mask)
    inside = mask[box.slices()]
    assert inside.sum() == mask.sum()
    assert all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_mask_box_refuses_an_empty_mask() -> None:
    with pytest.raises(ValueError, match="at least one true pixel"):
        mask_box(np.zeros((5, 7), dtype=np.bool_))


@pytest.mark.parametrize("margin", [0.0, 0.25, 3.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_crop_lies_in_the_image_and_contains_the_lesion(seed: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    image = _random_image(rng)
    box = _random_box(rng, image)
    crop = crop_box(image, box, CropRule(margin_fraction=margin))
    assert 0 <= crop.top < crop.bottom <= image.shape[0]
    assert 0 <= crop.left < crop.right <= image.shape[1]
    assert crop.top <= box.top
    assert box.bottom <= crop.bottom
    assert crop.left <= box.left
    assert box.right <= crop.right


@pytest.mark.parametrize("seed", SEEDS)
def test_crop_is_square_unless_the_image_is_too_small(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = _random_image(rng)
    box = _random_box(rng, image)
    height, width = image.shape[:2]
    crop = square_around(box, margin_fraction=0.25, height=height, width=width)
    side = round(max(box.height, box.width) * 1.5)
    assert (crop.height, crop.width) == (min(side, height), min(side, width))


def test_crop_is_centered_on_a_lesion_far_from_the_border() -> None:
    assert square_around(Box(40, 50, 60, 60), margin_fraction=0.5, height=100, width=100) == Box(30, 35, 70, 75)


def test_crop_is_shifted_into_the_image() -> None:
    assert square_around(Box(0, 90, 10, 100), margin_fraction=0.5, height=100, width=100) == Box(0, 80, 20, 100)


def test_whole_image_rule_ignores_the_lesion() -> None:
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    assert crop_box(image, Box(1, 2, 3, 4), CropRule(whole_image=True)) == full_box(image) == Box(0, 0, 30, 40)


def test_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match=r"margin_fraction must be .* got -0\.1"):
        CropRule(margin_fraction=-0.1)


def test_cut_out_with_background_is_a_view() -> None:
    image = np.random.default_rng(0).integers(0, 256, size=(20, 30, 3), dtype=np.uint8)
    crop = cut_out(image, np.zeros((20, 30), dtype=np.bool_), Box(2, 3, 12, 18), keep_background=True)
    assert np.shares_memory(crop, image)
    np.testing.assert_array_equal(crop, image[2:12, 3:18])


def test_cut_out_without_background_paints_only_skin_black() -> None:
    image = np.random.default_rng(0).integers(1, 256, size=(20, 30, 3), dtype=np.uint8)
    mask = np.zeros((20, 30), dtype=np.bool_)
    mask[5:9, 6:11] = True
    crop = cut_out(image, mask, Box(2, 3, 12, 18), keep_background=False)
    np.testing.assert_array_equal((crop > 0).all(axis=2), mask[2:12, 3:18])
    np.testing.assert_array_equal(crop[mask[2:12, 3:18]], image[mask])
    assert image.min() > 0, "the photograph must not be modified"


@pytest.mark.parametrize("box", [Box(-1, 0, 5, 5), Box(0, 0, 21, 5), Box(0, 0, 5, 31), Box(4, 4, 4, 9)])
def test_cut_out_refuses_a_box_outside_the_image(box: Box) -> None:
    image, mask = np.zeros((20, 30, 3), dtype=np.uint8), np.zeros((20, 30), dtype=np.bool_)
    with pytest.raises(ValueError, match="must lie in the image of 20 x 30 pixels"):
        cut_out(image, mask, box, keep_background=True)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_mask_that_is_enlarged_and_reduced_is_the_same(factor: int) -> None:
    mask = np.random.default_rng(factor).random((37, 50)) > 0.5
    enlarged = scale_mask(mask, 37 * factor, 50 * factor)
    np.testing.assert_array_equal(scale_mask(enlarged, 37, 50), mask)
    assert scale_mask(mask, 37, 50) is mask


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (64, 64), (301, 97)])
def test_resize_square_keeps_a_uniform_color(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), (12, 130, 250), dtype=np.uint8)
    np.testing.assert_array_equal(resize_square(image, 64), np.full((64, 64, 3), (12, 130, 250), dtype=np.uint8))


def test_resize_square_averages_when_it_shrinks() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    np.testing.assert_array_equal(resize_square(stripes, 32), np.full((32, 32, 3), 100, dtype=np.uint8))
