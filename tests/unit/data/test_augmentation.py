"""Random changes: all given by the seed, and alike for image and mask."""

import os

import albumentations as A
import numpy as np

import segpipe.data
from segpipe.data.augmentation import Augmentation
from segpipe.data.synthetic.dataset import make_image

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


def test_albumentations_is_told_not_to_ask_the_network() -> None:
    assert segpipe.data.__doc__
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
