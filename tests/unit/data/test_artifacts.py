"""Drawn artifacts depend on the seed only and change the intended pixels."""

import albumentations as A
import numpy as np
import pytest

from segpipe.data.augmentation import Augmentation, DarkCorners, Hairs, RulersAndInk

SKIN = np.full((96, 128, 3), (210, 160, 140), np.uint8)
ARTIFACTS = {"hairs": Hairs(p=1.0), "rulers and ink": RulersAndInk(p=1.0), "dark corners": DarkCorners(p=1.0)}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_artifact_depends_on_the_seed_and_keeps_the_input(name: str) -> None:
    augmentation, before = Augmentation([ARTIFACTS[name]]), SKIN.copy()
    results = [augmentation.image(SKIN, seed=seed) for seed in (0, 1, 0)]
    np.testing.assert_array_equal(results[0], results[2])
    assert (results[0] != results[1]).any()
    np.testing.assert_array_equal(SKIN, before)
    assert all((result.shape, result.dtype) == (SKIN.shape, np.uint8) for result in results)


@pytest.mark.parametrize("name", ARTIFACTS)
def test_artifact_darkens_a_small_part_of_the_image(name: str) -> None:
    fractions = []
    for seed in range(20):
        result = Augmentation([ARTIFACTS[name]]).image(SKIN, seed=seed)
        assert (result.sum(2) <= SKIN.sum(2)).all()
        fractions.append((result.sum(2) < SKIN.sum(2) - 30).mean())
    limit = 0.8 if name == "dark corners" else 0.35
    assert 0.01 < np.mean(fractions) < limit


def test_dark_corners_keep_the_middle_and_darken_the_corners() -> None:
    for seed in range(10):
        result = Augmentation([DarkCorners(radius=(0.6, 0.6), p=1.0)]).image(SKIN, seed=seed)
        assert result[48, 64].sum() > 0.75 * SKIN[48, 64].sum()
        assert result[[0, 0, -1, -1], [0, -1, 0, -1]].mean() < 0.8 * SKIN.mean()


def test_artifacts_do_not_change_masks() -> None:
    mask = np.zeros(SKIN.shape[:2], bool)
    mask[30:60, 40:80] = True
    _, changed = Augmentation([*ARTIFACTS.values(), A.NoOp()]).image_and_mask(SKIN, mask, seed=3)
    np.testing.assert_array_equal(changed, mask)
