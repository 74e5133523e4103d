"""Choice of the lesion among the pieces of drawn masks."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.lesion.quality import NOTES, REASONS, choose_piece

Probs = NDArray[np.float32]
SIZES = [64, 192, 224]
MIDDLE = (0.5, 0.5)


def disc(size: int, radius: float, center: tuple[float, float] = MIDDLE, *, prob: float = 1.0) -> Probs:
    """Draw a round mask; radius and center (down, right) as fractions of the side."""
    rows, columns = (np.indices((size, size)) + 0.5) / size
    return np.where(np.hypot(rows - center[0], columns - center[1]) < radius, prob, 0).astype(np.float32)


def check_choice(probs: Probs, expected: Probs, notes: tuple[str, ...]) -> None:
    found = choose_piece(probs)
    assert (found.refusals, found.notes) == ((), notes)
    np.testing.assert_array_equal(found.mask, expected > 0.5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("center", [MIDDLE, (0.0, 0.5), (1.0, 1.0)])
def test_single_piece_is_chosen_anywhere(size: int, center: tuple[float, float]) -> None:
    check_choice(disc(size, 0.2, center), disc(size, 0.2, center), ())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("other", "center"),
    [
        (0.25, (0.5, 1.0)),  # larger, at the border, like a sticker
        (0.4, (1.1, 1.1)),  # in a corner, with seven times the area
        (0.15, (0.9, 0.1)),  # similar size, off the border
    ],
)
def test_central_piece_is_chosen_and_the_other_noted(size: int, other: float, center: tuple[float, float]) -> None:
    lesion = disc(size, 0.12)
    check_choice(np.maximum(lesion, disc(size, other, center)), lesion, ("piece_left_out",))


def test_off_center_piece_is_preferred_to_one_at_the_border() -> None:
    lesion = disc(192, 0.17, (0.35, 0.75))
    check_choice(np.maximum(lesion, disc(192, 0.25, (0.6, 0.05))), lesion, ("piece_left_out",))


def test_frame_around_the_lesion_is_dropped() -> None:
    lesion, frame = disc(192, 0.2), 1 - disc(192, 0.48)
    check_choice(np.maximum(lesion, frame), lesion, ("piece_left_out",))


def test_unsure_piece_does_not_affect_the_chosen_one() -> None:
    lesion = disc(192, 0.1)
    check_choice(np.maximum(lesion, disc(192, 0.3, (0.5, 1.1), prob=0.6)), lesion, ("piece_left_out",))


def test_large_lesion_is_preferred_to_a_small_piece_off_the_border() -> None:
    lesion = disc(192, 0.45, (0.55, 0.4))
    check_choice(np.maximum(lesion, disc(192, 0.08, (0.1, 0.9))), lesion, ("piece_left_out",))


def test_tiny_pieces_are_dropped_without_a_note() -> None:
    specks = np.maximum(disc(192, 0.03, (0.9, 0.9)), disc(192, 0.04, (0.5, 0.5)))
    lesion = disc(192, 0.2, (0.2, 0.2))
    check_choice(np.maximum(lesion, specks), lesion, ())


@pytest.mark.parametrize("size", SIZES)
def test_pieces_of_similar_score_are_refused(size: int) -> None:
    found = choose_piece(np.maximum(disc(size, 0.15, (0.25, 0.25)), disc(size, 0.12, (0.75, 0.75))))
    assert (found.refusals, found.notes) == (("in_pieces",), ())


def test_chosen_piece_is_judged_like_a_single_one() -> None:
    unsure = np.maximum(disc(192, 0.2, prob=0.6), disc(192, 0.1, (0.9, 0.9)))
    assert choose_piece(unsure).refusals == ("unsure",)


def test_empty_map_is_too_small_and_many_tiny_pieces_are_in_pieces() -> None:
    assert choose_piece(np.zeros((32, 48), dtype=np.float32)).refusals == ("too_small",)
    specks = np.zeros((96, 96), dtype=np.float32)
    specks[::4, ::4] = 1
    found = choose_piece(specks)
    assert found.refusals == ("in_pieces",)
    assert not found.mask.any()


def test_pieces_that_touch_at_a_corner_are_separate() -> None:
    probs = np.zeros((20, 20), dtype=np.float32)
    probs[5:12, 5:12] = probs[12:14, 12:14] = 1
    assert choose_piece(probs).mask.sum() == 49


@pytest.mark.parametrize("seed", range(10))
def test_noise_is_refused_with_documented_reasons(seed: int) -> None:
    probs = cv2.GaussianBlur(np.random.default_rng(seed).random((60, 80)).astype(np.float32), (0, 0), seed + 1)
    found = choose_piece(probs)
    assert found.refusals
    assert set(found.refusals) <= set(REASONS)
    assert not set(NOTES) & set(REASONS)


@pytest.mark.parametrize("seed", range(10))
def test_choice_is_equivariant_to_rotation(seed: int) -> None:
    noise = np.random.default_rng(seed).random((60, 60)).astype(np.float32)
    probs = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 5), None, 0, 1, cv2.NORM_MINMAX).clip(0, 1)
    one, other = choose_piece(probs), choose_piece(np.ascontiguousarray(np.rot90(probs)))
    assert (one.refusals, one.notes) == (other.refusals, other.notes)
    np.testing.assert_array_equal(np.rot90(one.mask), other.mask)
