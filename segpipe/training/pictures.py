"""Pictures of a training, drawn after each epoch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from segpipe.io.images import write_png
from segpipe.io.run_files import EPOCH_TABLE, TRAIN_BATCH, TRAINING_PLOT, VAL_PREDICTIONS
from segpipe.training.resuming import best_epoch
from segpipe.training.schedule import UnfreezePlan
from segpipe.training.tracking import PictureLogger
from segpipe.types import RgbImage

SHOWN_TRAINING = 24  # images of a batch
SHOWN_VALIDATION = 8  # images whose predictions are followed
SHOWN_EPOCHS = 6  # rows of predictions; the last is the current epoch

# Images, RGB uint8, shape (N, size, size, 3); and their labels, shape (N,), or masks, bool, shape (N, size, size).
Pixels = NDArray[np.uint8]
Targets = NDArray[Any]
Decode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Drawings:
    """Functions that draw the pictures of a training.

    Attributes:
        curves: Function of the training's folder, the monitored metric, the best epoch so far, and the first epoch of each stage.
        batch: Function of the epoch and the augmented images with their targets.
        predictions: Function of validation images, their targets, and their predictions by epoch.
    """

    curves: Callable[[Path, str, int, Mapping[str, int]], RgbImage]
    batch: Callable[[int, Pixels, Targets], RgbImage]
    predictions: Callable[[Pixels, Targets, Mapping[int, NDArray[Any]]], RgbImage]


class Pictures(Callback):
    """Callback that draws the pictures of a training after each epoch.

    They are written into `plots/` and sent to the trackers. The predictions are those of the validation itself. The checkpoints
    hold those of earlier epochs, for a training that is resumed.

    Args:
        output: Folder of the training, with `metrics.csv`.
        drawings: Functions that draw the pictures.
        monitor: Metric that chooses the best epoch.
        diagnoses: Diagnosis of each validation image, in their order; images of all diagnoses are chosen.
        decode: Function from the logits of validation images to what is drawn.
        epochs: Largest number of epochs.
        plan: Unfreezing plan; None for a model without stages.
    """

    def __init__(
        self,
        output: Path,
        drawings: Drawings,
        monitor: str,
        *,
        diagnoses: Sequence[str],
        decode: Decode,
        epochs: int,
        plan: UnfreezePlan | None,
    ) -> None:
        self._output = output
        self._drawings = drawings
        self._monitor = monitor
        self._diagnoses = list(diagnoses)
        self._decode = decode
        self._kept_epochs = set(np.linspace(0, epochs - 1, min(epochs, SHOWN_EPOCHS)).round().astype(int).tolist())
        self._first_epochs = {} if plan is None else plan.first_epochs
        self._chosen: list[int] = []  # positions among all validation images
        self._seen = 0
        self._batch: tuple[Pixels, Targets] | None = None
        self._validation: list[tuple[Pixels, Targets]] = []
        self._current: list[Tensor] = []
        self._predictions: dict[int, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Choose the validation images to follow; called by Lightning."""
        every = range(0, len(self._diagnoses), trainer.world_size)  # those of the first process
        chosen = [every[position] for position in choose_varied([self._diagnoses[index] for index in every], SHOWN_VALIDATION)]
        if chosen != self._chosen:
            self._chosen, self._predictions = chosen, {}

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, number: int) -> None:
        """Keep the first batch of an epoch; called by Lightning."""
        if number == 0 and trainer.is_global_zero:
            self._batch = _arrays(batch, slice(SHOWN_TRAINING))

    def on_validation_epoch_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Start a new row of predictions; called by Lightning."""
        self._seen, self._validation, self._current = 0, [], []

    def on_validation_batch_end(self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        """Keep the predictions of the chosen images; called by Lightning."""
        if trainer.is_global_zero:
            positions = [index // trainer.world_size - self._seen for index in self._chosen]
            rows = [position for position in positions if 0 <= position < len(batch[0])]
            self._seen += len(batch[0])
            if rows:
                self._validation.append(_arrays(batch, rows))
                self._current.append(self._decode(outputs[rows].float()).cpu())

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Draw the pictures; called by Lightning."""
        if not trainer.is_global_zero:
            return
        kept = {epoch: row for epoch, row in self._predictions.items() if epoch in self._kept_epochs}
        if self._current:
            kept[trainer.current_epoch] = torch.cat(self._current)
        self._predictions = kept
        for name, picture in self._draw(trainer.current_epoch).items():
            write_png(self._output / name, picture)
            for logger in trainer.loggers:
                if isinstance(logger, PictureLogger):
                    logger.log_picture(Path(name).stem, picture, max(0, trainer.global_step - 1))

    def _draw(self, epoch: int) -> dict[str, RgbImage]:
        best = best_epoch(pd.read_csv(self._output / EPOCH_TABLE, index_col="epoch"), self._monitor)
        pictures = {TRAINING_PLOT: self._drawings.curves(self._output, self._monitor, best, self._first_epochs)}
        if self._batch is not None:
            pictures[TRAIN_BATCH] = self._drawings.batch(epoch, *self._batch)
        if self._validation:
            pixels, targets = (np.concatenate(parts) for parts in zip(*self._validation, strict=True))
            predictions = {epoch: row.numpy() for epoch, row in sorted(self._predictions.items())}
            pictures[VAL_PREDICTIONS] = self._drawings.predictions(pixels, targets, predictions)
        return pictures

    def state_dict(self) -> dict[str, Any]:
        """Return the chosen images and their predictions; called by Lightning."""
        return {"chosen": self._chosen, "predictions": self._predictions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the predictions of earlier epochs; called by Lightning."""
        self._chosen, self._predictions = state_dict["chosen"], state_dict["predictions"]


def choose_varied(diagnoses: Sequence[str], count: int) -> list[int]:
    """Choose positions of all diagnoses in turn, sorted.

    Args:
        diagnoses: Diagnosis of each image.
        count: Largest number of positions.
    """
    by_code: dict[str, list[int]] = {}
    for position, code in enumerate(diagnoses):
        by_code.setdefault(code, []).append(position)
    turns: Iterable[int | None] = chain.from_iterable(zip_longest(*by_code.values()))
    return sorted([position for position in turns if position is not None][:count])


def as_masks(logits: Tensor) -> Tensor:
    """Decode the logits of a segmenter.

    Args:
        logits: Float, shape (N, 1, H, W).

    Returns:
        Masks, bool, shape (N, H, W).
    """
    return logits[:, 0] > 0


def as_probs(logits: Tensor) -> Tensor:
    """Decode the logits of a classifier.

    Args:
        logits: Float, shape (N, C).

    Returns:
        Probabilities of the same shape.
    """
    return logits.softmax(1)


def _arrays(batch: Sequence[Tensor], rows: Any) -> tuple[Pixels, Targets]:
    """Convert images and targets of a batch to arrays, see `Drawings`."""
    pixels, targets = batch[0][rows].permute(0, 2, 3, 1), batch[1][rows]
    return pixels.cpu().numpy(), (targets[:, 0] > 0.5 if targets.ndim > 1 else targets).cpu().numpy()
