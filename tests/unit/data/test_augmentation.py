"""Augmentation depends on the seed only and is the same for image and mask."""

import os

import albumentations as A
import numpy as np

import segpipe.data
from segpipe.data.augmentation import Augmentation
from segpipe.data.synthetic.photo import make_image

IMAGE, MASK = make_image("mel", np.random.default_rng(0), (48, 48))
MOVES = (A.D4(p=1.0), A.Affine(rotate=(-30, 30), scale=(0.8, 1.2), border_mode=2, p=1.0))
COLORS = A.ColorJitter(p=1.0)


def test_same_seed_gives_the_same_result_after_any_calls() -> None:
    first, second = Augmentation([*MOVES, COLORS]), Augmentation([*MOVES, COLORS])
    for seed in range(5):
        second.image(IMAGE, seed=99 + seed)
        np.testing.assert_array_equal(first.image(IMAGE, seed=seed), second.image(IMAGE, seed=seed))


def test_different_seeds_give_different_results() -> None:
    augmentation = Augmentation([*MOVES, COLORS])
    assert len({augmentation.image(IMAGE, seed=seed).tobytes() for seed in range(10)}) == 10


def test_mask_is_transformed_like_its_image() -> None:
    # The image is the mask itself, so both must stay equal.
    picture = np.repeat(MASK[..., None], 3, axis=2).astype(np.uint8) * 255
    augmentation = Augmentation(MOVES)
    for seed in range(10):
        image, mask = augmentation.image_and_mask(picture, MASK, seed=seed)
        assert image.shape == picture.shape
        assert (mask.dtype, mask.shape) == (np.bool_, MASK.shape)
        assert ((image[..., 0] >= 128) == mask).mean() > 0.97
        np.testing.assert_array_equal(image, augmentation.image(picture, seed=seed))


def test_color_transforms_keep_the_mask_and_no_transforms_keep_the_image() -> None:
    image, mask = Augmentation([COLORS]).image_and_mask(IMAGE, MASK, seed=1)
    np.testing.assert_array_equal(mask, MASK)
    assert (image != IMAGE).any()
    np.testing.assert_array_equal(Augmentation([]).image(IMAGE, seed=1), IMAGE)


def test_update_check_of_albumentations_is_disabled() -> None:
    assert segpipe.data.__doc__
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
