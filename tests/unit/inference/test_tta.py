"""Views: each can be undone, and together they are symmetries of the square."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from segpipe.inference.tta import IDENTITY, VIEWS, View, mean_maps, mean_probs, softmax, spread, stack_views, unstack

D4 = VIEWS["d4"]
ids = pytest.mark.parametrize("view", D4, ids=str)


def lopsided(*shape: int, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Make an array of unique values, without symmetry."""
    return np.arange(math.prod(shape), dtype=dtype).reshape(shape)


def drawn_probs(*shape: int) -> NDArray[np.float64]:
    return softmax(np.random.default_rng(0).random(shape))


@ids
@pytest.mark.parametrize(("shape", "dtype"), [((2, 5, 5, 3), np.uint8), ((2, 4, 4), np.float32)], ids=["images NHWC", "maps Nhw"])
def test_undone_view_gives_the_input(view: View, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    batch = lopsided(*shape, dtype=dtype)
    for found in (view.undo(view.apply(batch)), view.apply(view.undo(batch))):
        np.testing.assert_array_equal(found, batch)
        assert found.dtype == dtype


@ids
def test_view_does_not_change_its_input(view: View) -> None:
    batch = lopsided(1, 4, 4, 3)
    view.apply(batch)
    view.undo(batch)
    stack_views({1.0: batch}, [view])[:] = 0
    np.testing.assert_array_equal(batch, lopsided(1, 4, 4, 3))


def test_rotation_is_counter_clockwise_and_flip_is_horizontal() -> None:
    square = np.array([[[1, 2], [3, 4]]])
    assert View(1, False).apply(square).tolist() == [[[2, 4], [1, 3]]]
    assert View(0, True).apply(square).tolist() == [[[2, 1], [4, 3]]]
    assert View(1, True).apply(square).tolist() == [[[1, 3], [2, 4]]]


@pytest.mark.parametrize(("name", "count"), [("none", 1), ("flips", 4), ("d4", 8)])
def test_each_set_is_a_group_with_the_identity_first(name: str, count: int) -> None:
    square = lopsided(1, 3, 3)
    seen = {tuple(view.apply(square).flatten().tolist()) for view in VIEWS[name]}
    products = {tuple(second.apply(first.apply(square)).flatten().tolist()) for first in VIEWS[name] for second in VIEWS[name]}
    assert len(seen) == count
    assert products == seen
    assert VIEWS[name][0] == IDENTITY
    np.testing.assert_array_equal(IDENTITY.apply(square), square)


def test_flips_are_the_four_reflections() -> None:
    image = lopsided(1, 2, 5, 3)
    expected = [image, image[:, :, ::-1], image[:, ::-1], image[:, ::-1, ::-1]]
    np.testing.assert_array_equal(stack_views({1.0: image}, VIEWS["flips"]), np.concatenate(expected))


@pytest.mark.parametrize("name", ["apply", "undo"])
@pytest.mark.parametrize("shape", [(1, 4, 6, 3), (1, 4, 6)], ids=["images NHWC", "maps Nhw"])
def test_a_quarter_turn_needs_a_square(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be square for a quarter turn, got 4 x 6; .*'flips'"):
        getattr(View(1, False), name)(np.zeros(shape))


@pytest.mark.parametrize("rotations", [-1, 4])
def test_rotations_are_0_to_3(rotations: int) -> None:
    with pytest.raises(ValueError, match=f"rotations must be 0, 1, 2 or 3 quarter turns, got {rotations}"):
        View(rotations, False)


@pytest.mark.parametrize("order", ["C", "F"])
def test_stacked_views_can_be_split(order: str) -> None:
    batch = np.asarray(lopsided(3, 4, 4, 3, dtype=np.uint8), order=order)
    stacked = stack_views({1.0: batch}, D4)
    apart = unstack(stacked, D4)
    assert apart.shape == (8, 3, 4, 4, 3)
    assert stacked.dtype == apart.dtype == np.uint8
    for view, of_one_view in zip(D4, apart, strict=True):
        np.testing.assert_array_equal(of_one_view, view.apply(batch))


def test_mean_of_equivariant_maps_is_the_map_itself() -> None:
    maps = lopsided(2, 4, 4)
    found = mean_maps(stack_views({1.0: maps}, D4), D4)[0]
    np.testing.assert_array_equal(found, maps)
    assert found.dtype == np.float32


def test_mean_of_constant_maps_is_symmetric() -> None:
    averaged = mean_maps(np.tile(lopsided(1, 3, 3), (8, 1, 1)), D4)[0]
    for view in D4:
        np.testing.assert_allclose(view.apply(averaged), averaged, rtol=1e-6)


def test_softmax_is_monotonic_and_sums_to_1_without_overflow() -> None:
    logits = np.array([[[-1e3, 0.0, 1e3], [1e308, 1e308, 0.0]], [[0.0, math.log(2), math.log(3)], [5.0, 5.0, 5.0]]])
    probs = softmax(logits)
    np.testing.assert_allclose(probs.sum(-1), 1)
    np.testing.assert_allclose(probs, [[[0, 0, 1], [0.5, 0.5, 0]], [[1 / 6, 2 / 6, 3 / 6], [1 / 3, 1 / 3, 1 / 3]]], atol=1e-12)


def test_mean_probs_sum_to_1() -> None:
    probs = drawn_probs(8, 5, 7)
    np.testing.assert_allclose(mean_probs(probs).sum(1), np.ones(5))
    np.testing.assert_array_equal(mean_probs(probs[:1]), probs[0])


def test_spread_is_0_in_agreement_and_at_most_half() -> None:
    agreed = np.tile(drawn_probs(1, 3, 7), (4, 1, 1))
    np.testing.assert_allclose(spread(agreed), np.zeros(3), atol=1e-12)
    np.testing.assert_array_equal(spread(agreed[:1]), np.zeros(3))
    opposed = np.tile(np.eye(2), (4, 1))[:, None]
    np.testing.assert_allclose(spread(opposed), [0.5])


def test_spread_is_the_largest_over_classes() -> None:
    probs = np.random.default_rng(0).random((4, 50, 3))
    deviations = np.sqrt(((probs - probs.mean(0)) ** 2).mean(0))
    assert set(deviations.argmax(axis=1)) == {0, 1, 2}
    np.testing.assert_allclose(spread(probs), deviations.max(axis=1))
