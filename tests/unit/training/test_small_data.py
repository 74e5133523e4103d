"""Epochs of small data sets: number of steps, repeats, text."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import Draw, SeededSampler
from segpipe.training.parts import LEAST_STEPS, least_draws, repeats_text


class Indices(TensorDataset):
    """Examples that return their index."""

    def __getitem__(self, draw: Draw) -> torch.Tensor:
        return self.tensors[0][draw.index]


def config(batch_size: int, accumulated: int = 1) -> Any:
    return SimpleNamespace(batch_size=batch_size, trainer=SimpleNamespace(accumulate_grad_batches=accumulated))


def module(images: int, batch_size: int, accumulated: int = 1, **named: Any) -> SeededDataModule:
    examples, draws = Indices(torch.arange(images)), least_draws(config(batch_size, accumulated))
    return SeededDataModule(examples, examples, batch_size=batch_size, workers=0, seed=0, least_draws=draws, **named)


@pytest.mark.parametrize(("images", "batch_size", "accumulated"), [(1, 8, 1), (12, 32, 1), (63, 32, 1), (63, 8, 1), (90, 4, 4)])
def test_small_data_set_has_eight_steps_of_whole_batches(images: int, batch_size: int, accumulated: int) -> None:
    batches = list(module(images, batch_size, accumulated).train_dataloader())
    assert len(batches) // accumulated >= LEAST_STEPS
    assert {len(batch) for batch in batches} == {batch_size}
    counts = torch.bincount(torch.cat(batches), minlength=images)
    assert counts.max() - counts.min() <= 1
    assert counts.min() >= 1 or images > LEAST_STEPS * batch_size * accumulated


def test_larger_data_set_is_drawn_once_in_the_order_without_repeats() -> None:
    drawn = torch.cat(list(module(65, 8).train_dataloader()))
    assert drawn.tolist() == [draw.index for draw in SeededSampler(65, seed=0)][:64]


def test_repeats_differ_in_order_and_augmentation() -> None:
    draws = list(SeededSampler(10, seed=0, least_draws=30))
    rounds = [draws[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(draw.index for draw in drawn) == list(range(10)) for drawn in rounds)
    assert len({tuple(draw.index for draw in drawn) for drawn in rounds}) == 3
    assert len({draw.seed for draw in draws}) == 30


def test_processes_share_the_repeated_draws() -> None:
    whole = list(SeededSampler(10, seed=0, least_draws=32))
    parts = [list(SeededSampler(10, seed=0, rank=rank, world=2, least_draws=32)) for rank in (0, 1)]
    assert parts == [whole[::2], whole[1::2]]


def test_text_has_images_draws_and_steps_only_where_images_are_repeated() -> None:
    assert repeats_text(config(8), 64) is None
    text = repeats_text(config(16, 2), 63)
    assert text is not None
    for number in ("63 training images", "256", f"{LEAST_STEPS} steps of 32 images"):
        assert number in text
