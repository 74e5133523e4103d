"""Overlap of masks: by hand, at the limits, and between Dice and Jaccard."""

import numpy as np
import pytest

from segpipe.metrics.segmentation import dice, jaccard, score_masks, thresholded_jaccard


def random_masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.random((9, 13)) < 0.4, random.random((9, 13)) < 0.6


def test_overlap_computed_by_hand() -> None:
    predicted = np.array([[True, True, True, False]])
    true = np.array([[False, True, True, True]])
    assert dice(predicted, true) == pytest.approx(2 * 2 / 6)
    assert jaccard(predicted, true) == pytest.approx(2 / 4)


@pytest.mark.parametrize("measure", [dice, jaccard])
def test_overlap_at_the_limits(measure) -> None:
    mask, _ = random_masks(0)
    empty = np.zeros_like(mask)
    assert measure(mask, mask) == 1
    assert measure(mask, ~mask) == 0
    assert measure(empty, mask) == 0
    assert measure(empty, empty) == 1


@pytest.mark.parametrize("seed", range(5))
def test_dice_follows_from_jaccard_and_both_are_symmetric(seed) -> None:
    one, other = random_masks(seed)
    overlap = jaccard(one, other)
    assert dice(one, other) == pytest.approx(2 * overlap / (1 + overlap))
    assert (dice(one, other), jaccard(one, other)) == (dice(other, one), jaccard(other, one))


@pytest.mark.parametrize("measure", [dice, jaccard])
def test_masks_of_other_shape_or_type_are_refused(measure) -> None:
    mask, _ = random_masks(0)
    with pytest.raises(ValueError, match=r"one shape, got \(9, 13\) and \(9, 12\)"):
        measure(mask, mask[:, 1:])
    with pytest.raises(ValueError, match=r"must be bool \(H, W\), got uint8"):
        measure(mask.astype(np.uint8) * 255, mask)


def test_jaccard_below_the_threshold_is_zero() -> None:
    jaccards = np.array([0.0, 0.6499, 0.65, 0.9])
    assert thresholded_jaccard(jaccards).tolist() == [0, 0, 0.65, 0.9]
    assert thresholded_jaccard(jaccards, threshold=0).tolist() == jaccards.tolist()


def test_mask_metrics_are_means() -> None:
    scores = score_masks(np.array([0.5, 0.8, 0.9, 1.0]), np.array([0.35, 0.65, 0.8, 1.0]))
    assert scores == pytest.approx({"dice": 0.8, "jaccard": 0.7, "thresholded_jaccard": 2.45 / 4, "share_below_065": 1 / 4})


def test_mask_weights_equal_repeated_images() -> None:
    random = np.random.default_rng(1)
    dices, jaccards, weights = random.random(20), random.random(20), random.integers(0, 4, 20)
    repeated = np.repeat(np.arange(20), weights)
    assert score_masks(dices, jaccards, weights) == pytest.approx(score_masks(dices[repeated], jaccards[repeated]))


def test_empty_or_unequal_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one number per image, got shapes \(0,\) and \(0,\)"):
        score_masks(np.array([]), np.array([]))
    with pytest.raises(ValueError, match=r"one number per image, got shapes \(2,\) and \(3,\)"):
        score_masks(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="not all 0"):
        score_masks(np.ones(2), np.ones(2), np.zeros(2, int))
