"""Training and validation data as Lightning wants them."""

from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from segpipe.data.datasets import Draw, SeededSampler


class SeededDataModule(LightningDataModule):
    """Two data sets that are indexed by `Draw`: the training one in a seeded order, the validation one as it lies.

    Args:
        train: the training examples, with their random changes.
        val: the validation examples, without.
        batch_size: images in a batch.
        workers: processes that read; 0 reads in the training process, as quick on two cores.
        seed: of order and changes.
    """

    def __init__(self, train: Dataset[Any], val: Dataset[Any], *, batch_size: int, workers: int, seed: int) -> None:
        super().__init__()
        self._train = train
        self._val = val
        self._batch_size = batch_size
        self._workers = workers
        self._sampler = SeededSampler(len(train), seed=seed)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[Any]:
        """Whole batches only, unless there is not even one: BatchNorm needs more than a leftover image."""
        drop_last = len(self._sampler) >= self._batch_size
        return self._loader(self._train, self._sampler, drop_last=drop_last)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation image once."""
        return self._loader(self._val, [Draw(index, 0) for index in range(len(self._val))])  # type: ignore[arg-type]

    def _loader(self, dataset: Dataset[Any], sampler: Any, *, drop_last: bool = False) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self._batch_size,
            sampler=sampler,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=drop_last,
        )
