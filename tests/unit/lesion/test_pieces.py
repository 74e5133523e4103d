"""The piece of a U-Net's mask that is taken for the lesion, on drawn masks."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.lesion.quality import NOTES, REASONS, choose_piece

Probs = NDArray[np.float32]
SIZES = [64, 192, 224]
MIDDLE = (0.5, 0.5)


def disc(size: int, radius: float, center: tuple[float, float] = MIDDLE, *, prob: float = 1.0) -> Probs:
    """A round mask; radius and center (down, right) as fractions of the side."""
    rows, columns = (np.indices((size, size)) + 0.5) / size
    return np.where(np.hypot(rows - center[0], columns - center[1]) < radius, prob, 0).astype(np.float32)


def check_taken(found_in: Probs, wanted: Probs, notes: tuple[str, ...]) -> None:
    found = choose_piece(found_in)
    assert (found.refusals, found.notes) == ((), notes)
    np.testing.assert_array_equal(found.mask, wanted > 0.5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("center", [MIDDLE, (0.0, 0.5), (1.0, 1.0)])
def test_a_single_piece_is_taken_wherever_it_lies(size: int, center: tuple[float, float]) -> None:
    check_taken(disc(size, 0.2, center), disc(size, 0.2, center), ())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("other", "center"),
    [
        (0.25, (0.5, 1.0)),  # a larger one at the rim, as a sticker is
        (0.4, (1.1, 1.1)),  # in a corner, of seven times the area
        (0.15, (0.9, 0.1)),  # as large, free of the border
    ],
)
def test_the_lesion_in_the_middle_is_taken_and_the_other_piece_noted(
    size: int, other: float, center: tuple[float, float]
) -> None:
    lesion = disc(size, 0.12)
    check_taken(np.maximum(lesion, disc(size, other, center)), lesion, ("piece_left_out",))


def test_the_lesion_off_the_middle_is_taken_where_the_other_piece_is_at_the_border() -> None:
    lesion = disc(192, 0.17, (0.35, 0.75))
    check_taken(np.maximum(lesion, disc(192, 0.25, (0.6, 0.05))), lesion, ("piece_left_out",))


def test_a_frame_around_the_lesion_is_left_out() -> None:
    lesion, frame = disc(192, 0.2), 1 - disc(192, 0.48)
    check_taken(np.maximum(lesion, frame), lesion, ("piece_left_out",))


def test_an_unsure_piece_does_not_spoil_a_sure_one() -> None:
    lesion = disc(192, 0.1)
    check_taken(np.maximum(lesion, disc(192, 0.3, (0.5, 1.1), prob=0.6)), lesion, ("piece_left_out",))


def test_a_lesion_that_fills_the_image_wins_over_a_small_one_free_of_the_border() -> None:
    lesion = disc(192, 0.45, (0.55, 0.4))
    check_taken(np.maximum(lesion, disc(192, 0.08, (0.1, 0.9))), lesion, ("piece_left_out",))


def test_crumbs_are_left_out_without_a_note() -> None:
    crumbs = np.maximum(disc(192, 0.03, (0.9, 0.9)), disc(192, 0.04, (0.5, 0.5)))
    lesion = disc(192, 0.2, (0.2, 0.2))
    check_taken(np.maximum(lesion, crumbs), lesion, ())


@pytest.mark.parametrize("size", SIZES)
def test_pieces_of_like_rank_are_refused(size: int) -> None:
    found = choose_piece(np.maximum(disc(size, 0.15, (0.25, 0.25)), disc(size, 0.12, (0.75, 0.75))))
    assert (found.refusals, found.notes) == (("in_pieces",), ())


def test_the_best_piece_is_judged_as_one_alone_is() -> None:
    unsure = np.maximum(disc(192, 0.2, prob=0.6), disc(192, 0.1, (0.9, 0.9)))
    assert choose_piece(unsure).refusals == ("unsure",)


def test_an_empty_map_is_too_small_and_many_crumbs_are_in_pieces() -> None:
    assert choose_piece(np.zeros((32, 48), dtype=np.float32)).refusals == ("too_small",)
    crumbs = np.zeros((96, 96), dtype=np.float32)
    crumbs[::4, ::4] = 1
    found = choose_piece(crumbs)
    assert found.refusals == ("in_pieces",)
    assert not found.mask.any()


def test_pieces_that_touch_at_a_corner_are_two() -> None:
    probs = np.zeros((20, 20), dtype=np.float32)
    probs[5:12, 5:12] = probs[12:14, 12:14] = 1
    assert choose_piece(probs).mask.sum() == 49


@pytest.mark.parametrize("seed", range(10))
def test_noise_is_not_believed_and_every_code_has_its_explanation(seed: int) -> None:
    probs = cv2.GaussianBlur(np.random.default_rng(seed).random((60, 80)).astype(np.float32), (0, 0), seed + 1)
    found = choose_piece(probs)
    assert found.refusals
    assert set(found.refusals) <= set(REASONS)
    assert not set(NOTES) & set(REASONS)


@pytest.mark.parametrize("seed", range(10))
def test_a_turned_map_gives_the_turned_piece(seed: int) -> None:
    noise = np.random.default_rng(seed).random((60, 60)).astype(np.float32)
    probs = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 5), None, 0, 1, cv2.NORM_MINMAX).clip(0, 1)
    one, other = choose_piece(probs), choose_piece(np.ascontiguousarray(np.rot90(probs)))
    assert (one.refusals, one.notes) == (other.refusals, other.notes)
    np.testing.assert_array_equal(np.rot90(one.mask), other.mask)
