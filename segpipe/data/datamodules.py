"""Training and validation data as Lightning wants them."""

from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from segpipe.data.datasets import Draw, SeededSampler
from segpipe.types import FloatArray


class SeededDataModule(LightningDataModule):
    """Two data sets that are indexed by `Draw`: the training one in a seeded order, the validation one as it lies.

    Where several processes train together, they share out each batch and the validation images.

    Args:
        train: the training examples, with their random changes.
        val: the validation examples, without.
        batch_size: images in a batch, in all processes together.
        workers: processes that read, for each that trains; 0 reads in the training process, as quick on two cores.
        seed: of order and changes.
        shares: of each training example in the draws of an epoch, see `SeededSampler`.

    Attributes:
        first_epoch: that of a training that goes on; its workers begin to read before Lightning tells the sampler the epoch.
    """

    def __init__(
        self,
        train: Dataset[Any],
        val: Dataset[Any],
        *,
        batch_size: int,
        workers: int,
        seed: int,
        shares: FloatArray | None = None,
    ) -> None:
        super().__init__()
        self._shares = shares
        self._train = train
        self._val = val
        self._batch_size = batch_size
        self._workers = workers
        self.seed = seed
        self.first_epoch = 0

    def train_dataloader(self) -> DataLoader[Any]:
        """Whole batches only, unless there is not even one: BatchNorm needs more than a leftover image."""
        rank, world = self._place()
        length = len(self._train)  # type: ignore[arg-type]
        sampler = SeededSampler(length, seed=self.seed, rank=rank, world=world, shares=self._shares)
        sampler.set_epoch(self.first_epoch)
        return self._loader(self._train, sampler, drop_last=len(sampler) >= self._batch_size // world)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation image once, in one of the processes."""
        rank, world = self._place()
        return self._loader(self._val, [Draw(index, 0) for index in range(rank, len(self._val), world)])  # type: ignore[arg-type]

    def _place(self) -> tuple[int, int]:
        """The number of this process, and how many there are."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader(self, dataset: Dataset[Any], sampler: Any, *, drop_last: bool = False) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=max(1, self._batch_size // self._place()[1]),
            sampler=sampler,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=drop_last,
            generator=torch.Generator(),  # or each start of a loader would move the random numbers of the training
        )
