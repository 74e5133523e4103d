"""Views: each can be undone, and together they are symmetries of the square."""

import pytest
import torch
from torch import Tensor

from segpipe.inference.tta import IDENTITY, VIEWS, View, mean_maps, mean_probs, spread, stack_views, unstack

D4 = VIEWS["d4"]
ids = pytest.mark.parametrize("view", D4, ids=str)


def lopsided(*shape: int) -> Tensor:
    """Make a tensor of unique values, without symmetry."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


@ids
@pytest.mark.parametrize("shape", [(2, 3, 5, 5), (2, 4, 4)], ids=["NCHW", "Nhw"])
def test_undone_view_gives_the_input(view: View, shape: tuple[int, ...]) -> None:
    batch = lopsided(*shape)
    assert torch.equal(view.undo(view.apply(batch)), batch)
    assert torch.equal(view.apply(view.undo(batch)), batch)


@ids
def test_view_does_not_change_its_input(view: View) -> None:
    batch = lopsided(1, 3, 4, 4)
    view.apply(batch).zero_()
    view.undo(batch).zero_()
    assert torch.equal(batch, lopsided(1, 3, 4, 4))


def test_rotation_is_counter_clockwise_and_flip_is_horizontal() -> None:
    square = torch.tensor([[1, 2], [3, 4]])
    assert View(1, False).apply(square).tolist() == [[2, 4], [1, 3]]
    assert View(0, True).apply(square).tolist() == [[2, 1], [4, 3]]
    assert View(1, True).apply(square).tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(("name", "count"), [("none", 1), ("flips", 4), ("d4", 8)])
def test_each_set_is_a_group_with_the_identity_first(name: str, count: int) -> None:
    square = lopsided(3, 3)
    seen = {tuple(view.apply(square).flatten().tolist()) for view in VIEWS[name]}
    products = {tuple(second.apply(first.apply(square)).flatten().tolist()) for first in VIEWS[name] for second in VIEWS[name]}
    assert len(seen) == count
    assert products == seen
    assert VIEWS[name][0] == IDENTITY
    assert torch.equal(IDENTITY.apply(square), square)


def test_flips_are_the_four_reflections() -> None:
    image = lopsided(1, 3, 2, 5)
    expected = [image, image.flip(-1), image.flip(-2), image.flip(-1, -2)]
    assert torch.equal(stack_views({1.0: image}, VIEWS["flips"]), torch.cat(expected))


@pytest.mark.parametrize("name", ["apply", "undo"])
def test_a_quarter_turn_needs_a_square(name: str) -> None:
    with pytest.raises(ValueError, match=r"must be square for a quarter turn, got 4 x 6; .*'flips'"):
        getattr(View(1, False), name)(torch.zeros(1, 3, 4, 6))


@pytest.mark.parametrize("rotations", [-1, 4])
def test_rotations_are_0_to_3(rotations: int) -> None:
    with pytest.raises(ValueError, match=f"rotations must be 0, 1, 2 or 3 quarter turns, got {rotations}"):
        View(rotations, False)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_stacked_views_can_be_split(memory_format: torch.memory_format) -> None:
    batch = lopsided(3, 3, 4, 4).contiguous(memory_format=memory_format)
    apart = unstack(stack_views({1.0: batch}, D4), D4)
    assert apart.shape == (8, 3, 3, 4, 4)
    for view, of_one_view in zip(D4, apart, strict=True):
        assert torch.equal(of_one_view, view.apply(batch))


def test_mean_of_equivariant_maps_is_the_map_itself() -> None:
    maps = lopsided(2, 4, 4)
    assert torch.equal(mean_maps(stack_views({1.0: maps}, D4), D4)[0], maps)


def test_mean_of_constant_maps_is_symmetric() -> None:
    averaged = mean_maps(lopsided(1, 3, 3).repeat(8, 1, 1), D4)[0]
    for view in D4:
        torch.testing.assert_close(view.apply(averaged), averaged)


def test_mean_probs_sum_to_1() -> None:
    probs = torch.rand(8, 5, 7, generator=torch.Generator().manual_seed(0)).softmax(2)
    torch.testing.assert_close(mean_probs(probs).sum(1), torch.ones(5))
    assert torch.equal(mean_probs(probs[:1]), probs[0])


def test_spread_is_0_in_agreement_and_at_most_half() -> None:
    agreed = torch.rand(1, 3, 7).softmax(2).repeat(4, 1, 1)
    torch.testing.assert_close(spread(agreed), torch.zeros(3))
    assert torch.equal(spread(agreed[:1]), torch.zeros(3))
    opposed = torch.eye(2).repeat(4, 1)[:, None]
    torch.testing.assert_close(spread(opposed), torch.tensor([0.5]))


def test_spread_is_the_largest_over_classes() -> None:
    probs = torch.rand(4, 50, 3, generator=torch.Generator().manual_seed(0))
    of_each_class = probs.numpy().std(axis=0)
    assert set(of_each_class.argmax(axis=1)) == {0, 1, 2}
    torch.testing.assert_close(spread(probs), torch.from_numpy(of_each_class.max(axis=1)))
