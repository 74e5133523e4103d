"""Starting weights of a fine-tuning, which stay unless others are better."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning import LightningModule, Trainer
from scipy.special import stdtr
from torch import Tensor

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.records import Training
from segpipe.config.schemas import TrainConfig
from segpipe.data.datamodules import SeededDataModule
from segpipe.io.run_files import BEST_CHECKPOINT, CHECKPOINTS, EPOCH_TABLE
from segpipe.training.resuming import TIE_BREAKER, monitor_mode, read_checkpoint
from segpipe.training.starting_weights import start_card
from segpipe.training.tasks import Task

LEVEL = 0.05  # p-value below which fine-tuned weights replace the start
_OF_MODEL = "model."  # prefix of the network in the weights of a task


@dataclass(frozen=True)
class Start:
    """Starting weights that already do the task of a training.

    Attributes:
        weights: Weights of the network.
        scores: Metrics of the validation images, as in `metrics.csv`.
        losses: Loss of each validation image.
    """

    weights: Mapping[str, Tensor]
    scores: Mapping[str, float]
    losses: Sequence[float]


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
    """Validation of a task outside of its training."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.losses: list[float] = []

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        """Update the metrics with a batch; called by Lightning."""
        logits, targets = self.task.validation_step(batch, number), batch[1]
        images = (slice(first, first + 1) for first in range(len(logits)))
        self.losses += [float(self.task.loss(logits[one], targets[one])) for one in images]

    def on_validation_epoch_end(self) -> None:
        """Log the metrics; called by Lightning."""
        self.log_dict({TIE_BREAKER: self.task.val_loss.compute(), **self.task.metrics.compute()})
        self.task.val_loss.reset()
        self.task.metrics.reset()


def score_weights(task: Task, data: SeededDataModule, trainer: Trainer) -> Start:
    """Score the present weights of a task on the validation images.

    Args:
        task: Task of the training, before its first epoch or after its last.
        data: Training and validation examples.
        trainer: Trainer on one device.
    """
    modes = [(module, module.training) for module in task.modules()]
    validation = _Validation(task)
    (scores,) = trainer.validate(validation, datamodule=data, verbose=False)
    for module, training in modes:
        module.training = training
    values = {name: float(value) for name, value in scores.items()}
    return Start(copy.deepcopy(task.model.state_dict()), values, validation.losses)


def keep_better(
    start: Start, losses: Sequence[float], task: Task, output: Path, *, best_epoch: int, monitor: str
) -> dict[str, Any]:
    """Restore the starting weights unless the best epoch is better.

    It must have a better score, by which epochs are compared among each other, and smaller losses by more than noise: few
    validation images tell little, and the best of several epochs often looks better by chance. Therefore the p-value is
    multiplied by the number of epochs (Bonferroni's correction).

    Args:
        start: Starting weights.
        losses: Loss of each validation image after the best epoch, in the order of those of the start.
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
    p_value = min(1.0, len(table) * smaller_p_value(start.losses, losses)) if second > first else None
    kept = p_value is None or p_value >= LEVEL
    if kept:
        task.model.load_state_dict(start.weights)
    return {"scores": dict(start.scores), "kept": kept, "p_value": p_value}


def smaller_p_value(before: Sequence[float], after: Sequence[float]) -> float:
    """Test whether the losses of the same images have become smaller.

    Args:
        before: Loss of each image.
        after: Another loss of each image, in the same order.

    Returns:
        P-value of the one-sided paired t-test; 1 for fewer than two images.
    """
    gains = np.subtract(before, after)
    if len(gains) < 2:
        return 1.0
    mean, error = float(gains.mean()), float(gains.std(ddof=1)) / len(gains) ** 0.5
    if error == 0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(len(gains) - 1, -mean / error))


def read_best_weights(output: Path) -> dict[str, Tensor]:
    """Read the weights of the network after the best epoch.

    Args:
        output: Folder of a training that has ended.
    """
    state = read_checkpoint(output / CHECKPOINTS / BEST_CHECKPOINT)["state_dict"]
    return {name.removeprefix(_OF_MODEL): weights for name, weights in state.items() if name.startswith(_OF_MODEL)}
