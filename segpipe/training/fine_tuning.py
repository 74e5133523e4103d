"""Starting weights of a fine-tuning, which are kept where they are better."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import LightningModule, Trainer
from torch import Tensor

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.records import Training
from segpipe.config.schemas import TrainConfig
from segpipe.data.datamodules import SeededDataModule
from segpipe.io.run_files import BEST_CHECKPOINT, CHECKPOINTS, EPOCH_TABLE
from segpipe.training.resuming import TIE_BREAKER, monitor_mode, read_checkpoint
from segpipe.training.starting_weights import start_card
from segpipe.training.tasks import Task

_OF_MODEL = "model."  # prefix of the network in the weights of a task


@dataclass(frozen=True)
class Start:
    """Starting weights that already do the task of a training.

    Attributes:
        weights: Weights of the network.
        scores: Metrics of the validation images, as in `metrics.csv`.
    """

    weights: Mapping[str, Tensor]
    scores: Mapping[str, float]


def is_fine_tuning(config: TrainConfig, classes: Sequence[str], *, seen_by: Callable[[Training], str | None]) -> bool:
    """Return True if the starting bundle already does the task.

    Args:
        config: Configuration of the training.
        classes: Classes of the data set, which a classifier must have.
        seen_by: Function that describes the validation and test lesions that a model has seen, which must be None.
    """
    start = start_card(config)
    if start is None or seen_by(start.training) is not None:
        return False
    return not isinstance(start, ClassifierCard) or set(classes) <= set(start.classes)


class _Validation(LightningModule):
    """Validation of a task before its training."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        """Update the metrics with a batch; called by Lightning."""
        self.task.validation_step(batch, number)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics; called by Lightning."""
        self.log_dict({TIE_BREAKER: self.task.val_loss.compute(), **self.task.metrics.compute()})
        self.task.val_loss.reset()
        self.task.metrics.reset()


def score_start(task: Task, data: SeededDataModule, trainer: Trainer) -> Start:
    """Score the starting weights on the validation images.

    Args:
        task: Task of the training, before its first epoch.
        data: Training and validation examples.
        trainer: Trainer on one device.
    """
    modes = [(module, module.training) for module in task.modules()]
    (scores,) = trainer.validate(_Validation(task), datamodule=data, verbose=False)
    for module, training in modes:
        module.training = training
    return Start(copy.deepcopy(task.model.state_dict()), {name: float(value) for name, value in scores.items()})


def keep_better(start: Start, task: Task, output: Path, *, best_epoch: int, monitor: str) -> dict[str, Any]:
    """Restore the starting weights unless the best epoch is better.

    Epochs and start are compared as epochs are among each other: by the monitored metric, ties by the validation loss.

    Args:
        start: Starting weights.
        task: Task with the weights of the best epoch.
        output: Folder of the training, with `metrics.csv`.
        best_epoch: Number of that epoch.
        monitor: Metric that chooses the best epoch.

    Returns:
        Record of the start, see `segpipe.bundle.records.Training`.
    """
    sign = -1 if monitor_mode(monitor) == "min" else 1
    table = pd.read_csv(output / EPOCH_TABLE, index_col="epoch")
    best = {str(name): float(table[name].loc[best_epoch]) for name in table.columns}
    first, second = ((sign * scores[monitor], -scores[TIE_BREAKER]) for scores in (start.scores, best))
    kept = bool(first >= second)
    if kept:
        task.model.load_state_dict(start.weights)
    return {"scores": dict(start.scores), "kept": kept}


def read_best_weights(output: Path) -> dict[str, Tensor]:
    """Read the weights of the network after the best epoch.

    Args:
        output: Folder of a training that has ended.
    """
    state = read_checkpoint(output / CHECKPOINTS / BEST_CHECKPOINT)["state_dict"]
    return {name.removeprefix(_OF_MODEL): weights for name, weights in state.items() if name.startswith(_OF_MODEL)}
