"""Random changes: all given by the seed, alike for image and mask, and boxes that stay in their image."""

import os

import albumentations as A
import numpy as np
import pytest

import segpipe.data
from segpipe.data.augmentation import Augmentation, BoxJitter, shift_box
from segpipe.data.synthetic import make_image
from segpipe.lesion.crop import Box

IMAGE, MASK = make_image("mel", np.random.default_rng(0), (48, 48))
MOVES = (A.D4(p=1.0), A.Affine(rotate=(-30, 30), scale=(0.8, 1.2), border_mode=2, p=1.0))
COLOURS = A.ColorJitter(p=1.0)


def test_a_seed_gives_the_same_change_whatever_came_before() -> None:
    first, second = Augmentation([*MOVES, COLOURS]), Augmentation([*MOVES, COLOURS])
    for seed in range(5):
        second.image(IMAGE, seed=99 + seed)
        np.testing.assert_array_equal(first.image(IMAGE, seed=seed), second.image(IMAGE, seed=seed))


def test_seeds_differ_in_their_changes() -> None:
    augmentation = Augmentation([*MOVES, COLOURS])
    assert len({augmentation.image(IMAGE, seed=seed).tobytes() for seed in range(10)}) == 10


def test_the_mask_moves_with_its_image() -> None:
    # The lesion itself is the picture, so its mask must be found in it again.
    picture = np.repeat(MASK[..., None], 3, axis=2).astype(np.uint8) * 255
    augmentation = Augmentation(MOVES)
    for seed in range(10):
        image, mask = augmentation.image_and_mask(picture, MASK, seed=seed)
        assert image.shape == picture.shape
        assert (mask.dtype, mask.shape) == (np.bool_, MASK.shape)
        assert ((image[..., 0] >= 128) == mask).mean() > 0.97
        np.testing.assert_array_equal(image, augmentation.image(picture, seed=seed))


def test_colours_leave_the_mask_alone_and_no_transform_changes_nothing() -> None:
    image, mask = Augmentation([COLOURS]).image_and_mask(IMAGE, MASK, seed=1)
    np.testing.assert_array_equal(mask, MASK)
    assert (image != IMAGE).any()
    np.testing.assert_array_equal(Augmentation([]).image(IMAGE, seed=1), IMAGE)


@pytest.mark.parametrize("seed", range(50))
def test_a_shifted_box_lies_in_its_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 60, size=2).tolist()
    top, left = int(rng.integers(height)), int(rng.integers(width))
    box = Box(top, left, int(rng.integers(top, height)) + 1, int(rng.integers(left, width)) + 1)
    shifted = shift_box(box, rng.normal(size=4) * 2, height=height, width=width)
    assert 0 <= shifted.top < shifted.bottom <= height
    assert 0 <= shifted.left < shifted.right <= width
    assert shift_box(box, np.zeros(4), height=height, width=width) == box


def test_each_side_moves_by_its_own_share_of_the_box() -> None:
    shifted = shift_box(Box(20, 30, 40, 70), np.array([0.1, -0.1, 0.2, 0.05]), height=100, width=100)
    assert shifted == Box(22, 26, 44, 72)


def test_jitter_is_given_by_its_generator_and_bounded() -> None:
    draws = np.array([BoxJitter(0.1).draw(np.random.default_rng(seed)) for seed in range(500)])
    assert np.abs(draws).max() == pytest.approx(0.2)
    assert draws.std() == pytest.approx(0.1, rel=0.1)
    np.testing.assert_array_equal(draws[7], BoxJitter(0.1).draw(np.random.default_rng(7)))
    assert not BoxJitter(0.0).draw(np.random.default_rng(0)).any()


def test_albumentations_is_told_not_to_ask_the_network() -> None:
    assert segpipe.data.__doc__
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
