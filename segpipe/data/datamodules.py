"""Lightning data module with seeded training order."""

from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from segpipe.data.datasets import Draw, SeededSampler
from segpipe.types import FloatArray


class SeededDataModule(LightningDataModule):
    """Training data in seeded order and validation data in file order.

    Both data sets are indexed by `Draw`. Several training processes split each batch and the validation images among them.

    Args:
        train: Training examples, with augmentation.
        val: Validation examples, without augmentation.
        batch_size: Images per batch, over all processes.
        workers: Reader processes per training process; 0 reads in the training process, which is as fast on two cores.
        seed: Seed of order and augmentation.
        draw_probs: Probability of each training example per draw, see `SeededSampler`.
        least_draws: Least number of training examples in an epoch, over all processes; a smaller data set is repeated.

    Attributes:
        first_epoch: First epoch of a resumed training, whose workers start reading before Lightning sets the epoch.
    """

    def __init__(
        self,
        train: Dataset[Any],
        val: Dataset[Any],
        *,
        batch_size: int,
        workers: int,
        seed: int,
        draw_probs: FloatArray | None = None,
        least_draws: int = 0,
    ) -> None:
        super().__init__()
        self._draw_probs = draw_probs
        self._least_draws = least_draws
        self._train = train
        self._val = val
        self._batch_size = batch_size
        self._workers = workers
        self.seed = seed
        self.first_epoch = 0

    def train_dataloader(self) -> DataLoader[Any]:
        """Load complete batches only, unless there is none.

        BatchNorm needs more than a single leftover image. A small data set is repeated until it fills `least_draws`.
        """
        rank, world = self._rank_and_world()
        length = len(self._train)  # type: ignore[arg-type]
        drawn: dict[str, Any] = {"draw_probs": self._draw_probs, "least_draws": self._least_draws}
        sampler = SeededSampler(length, seed=self.seed, rank=rank, world=world, **drawn)
        sampler.set_epoch(self.first_epoch)
        return self._loader(self._train, sampler, drop_last=len(sampler) >= self._batch_size // world)

    def val_dataloader(self) -> DataLoader[Any]:
        """Load every validation image once, in one of the processes."""
        rank, world = self._rank_and_world()
        return self._loader(self._val, [Draw(index, 0) for index in range(rank, len(self._val), world)])  # type: ignore[arg-type]

    def _rank_and_world(self) -> tuple[int, int]:
        """Return the rank of this process and the number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader(self, dataset: Dataset[Any], sampler: Any, *, drop_last: bool = False) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=max(1, self._batch_size // self._rank_and_world()[1]),
            sampler=sampler,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=drop_last,
            generator=torch.Generator(),  # its own, so that starting a loader does not advance the random state of the training
        )
