"""Parts of a training on several devices: disjoint shards, pickling."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import TensorDataset

from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import Draw, SeededSampler
from segpipe.errors import ConfigError
from segpipe.training.fit import MovingAverage, Processes, choose_strategy


def shares(length: int, world: int) -> list[list[Draw]]:
    samplers = [SeededSampler(length, seed=1, rank=rank, world=world) for rank in range(world)]
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]
    return [list(sampler) for sampler in samplers]


@pytest.mark.parametrize(("length", "world"), [(12, 1), (12, 2), (13, 2), (14, 3), (3, 4)])
def test_processes_take_turns_in_one_order_and_get_equal_numbers(length: int, world: int) -> None:
    order = list(SeededSampler(length, seed=1))
    each = length // world
    parts = shares(length, world)
    assert [len(part) for part in parts] == [each] * world
    assert [draw for turn in zip(*parts, strict=True) for draw in turn] == order[: each * world]


class Indices(TensorDataset):
    """Examples that return their index."""

    def __getitem__(self, draw: Draw) -> torch.Tensor:
        return self.tensors[0][draw.index]


def modules(length: int, *, world: int, batch_size: int) -> list[SeededDataModule]:
    """Make the data module of each process."""
    examples = Indices(torch.arange(length))
    found = [SeededDataModule(examples, examples, batch_size=batch_size, workers=0, seed=0) for _ in range(world)]
    for rank, data in enumerate(found):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world)
    return found


@pytest.mark.parametrize(("length", "world", "batch_size"), [(20, 2, 8), (21, 2, 4), (25, 3, 6)])
def test_processes_together_train_on_the_batches_of_one(length: int, world: int, batch_size: int) -> None:
    (alone,) = modules(length, world=1, batch_size=batch_size)
    loaders = [data.train_dataloader() for data in modules(length, world=world, batch_size=batch_size)]
    together = [torch.cat(parts) for parts in zip(*loaders, strict=True)]
    assert [set(batch.tolist()) for batch in together] == [set(batch.tolist()) for batch in alone.train_dataloader()]


@pytest.mark.parametrize(("length", "world"), [(7, 2), (9, 4), (8, 2)])
def test_each_validation_image_is_seen_by_one_process(length: int, world: int) -> None:
    seen = [torch.cat(list(data.val_dataloader())).tolist() for data in modules(length, world=world, batch_size=4)]
    assert sorted(index for part in seen for index in part) == list(range(length))


def test_resumed_training_starts_with_the_order_of_its_epoch() -> None:
    (data,) = modules(12, world=1, batch_size=4)
    data.first_epoch = 5
    sampler = SeededSampler(12, seed=0)
    sampler.set_epoch(5)
    assert torch.cat(list(data.train_dataloader())).tolist() == [draw.index for draw in sampler]


def test_reading_leaves_the_random_state_of_the_training_unchanged() -> None:
    (data,) = modules(12, world=1, batch_size=4)
    before = torch.get_rng_state()
    assert len(list(data.train_dataloader())) == len(list(data.val_dataloader())) == 3
    assert torch.equal(torch.get_rng_state(), before)


def test_several_devices_get_one_process_each() -> None:
    assert choose_strategy("cpu", 1) == choose_strategy("cpu", "auto") == "auto"
    assert isinstance(choose_strategy("cpu", 2), Processes)
    with pytest.raises(ConfigError, match=r"trainer.devices must name devices of this machine, got cpu and 0"):
        choose_strategy("cpu", 0)


def test_moving_average_can_be_pickled() -> None:
    sent = pickle.loads(pickle.dumps(MovingAverage(0.75)))
    average = sent._kwargs["avg_fn"](torch.tensor(4.0), torch.tensor(0.0), 1)
    assert average.item() == pytest.approx(3.0)
