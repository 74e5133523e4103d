"""Lines, progress bar and display of a training."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import Callback, LightningModule, Trainer
from tqdm import tqdm

from segpipe.config.fields import to_dict
from segpipe.config.training_groups import TrainerConfig
from segpipe.io.passes import Progress
from segpipe.io.run_files import EPOCH_TABLE
from segpipe.training.pictures import Decode, Drawings, Pictures
from segpipe.training.resuming import best_epoch
from segpipe.training.schedule import UnfreezePlan

_LINES = (300.0, 300.0)  # seconds before the first line of a log file within an epoch, and between two
_BEST = " best"


def say_nothing(_: str) -> None:
    """Report no line."""


@dataclass(frozen=True)
class Display:
    """Lines and pictures that show the progress of a training.

    Both functions must be picklable where several processes train.

    Attributes:
        say: Function that reports a line to the user.
        drawings: Functions that draw the pictures; None for no pictures.
    """

    say: Callable[[str], None] = say_nothing
    drawings: Drawings | None = None

    def callbacks(
        self,
        output: Path,
        trainer: TrainerConfig,
        *,
        monitor: str,
        diagnoses: Sequence[str],
        decode: Decode,
        plan: UnfreezePlan | None = None,
    ) -> list[Callback]:
        """Make the callbacks of a fit.

        Args:
            output: Folder of the training, with `metrics.csv`.
            trainer: Settings of the trainer.
            monitor: Metric that chooses the best epoch.
            diagnoses: Diagnosis of each validation image, in their order.
            decode: Function from the logits of validation images to what is drawn.
            plan: Unfreezing plan; None for a model without stages.
        """
        bar = bool(to_dict(trainer).get("enable_progress_bar", True))  # an argument of Lightning's Trainer
        lines = EpochLines(output, self.say, monitor=monitor, val_images=len(diagnoses), plan=plan, bar=bar)
        if self.drawings is None:
            return [lines]
        epochs = trainer.max_epochs
        return [lines, Pictures(output, self.drawings, monitor, diagnoses=diagnoses, decode=decode, epochs=epochs, plan=plan)]


QUIET = Display()


class EpochLines(Callback):
    """Callback that reports a line for each epoch, below a bar.

    Args:
        output: Folder of the training, with `metrics.csv`.
        say: Function that reports a line to the user.
        monitor: Metric that chooses the best epoch.
        val_images: Number of validation images.
        plan: Unfreezing plan; None for a model without stages.
        bar: False for lines alone.
    """

    def __init__(
        self,
        output: Path,
        say: Callable[[str], None],
        *,
        monitor: str,
        val_images: int,
        plan: UnfreezePlan | None = None,
        bar: bool = True,
    ) -> None:
        self._table = output / EPOCH_TABLE
        self._say = say
        self._monitor = monitor
        self._val_images = val_images
        self._plan = plan
        self._shows_bar = bar
        self._bar: Progress | None = None
        self._note = ""
        self._started, self._first_epoch = 0.0, 0

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Start the clock; called by Lightning."""
        self._started, self._first_epoch = time.monotonic(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Start the bar of an epoch; called by Lightning."""
        if self._shows_bar and trainer.is_global_zero:
            loader: Any = trainer.train_dataloader
            drawn = min(trainer.num_training_batches * loader.batch_size, len(loader.sampler))
            total = int(drawn) * trainer.world_size + self._val_images
            self._bar = Progress(total, self._name(trainer), lines=_LINES)

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, number: int) -> None:
        """Count the images of a batch; called by Lightning."""
        self._count(batch, trainer.world_size)

    def on_validation_batch_end(self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        """Count the images of a batch; called by Lightning."""
        self._count(batch, trainer.world_size)

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Replace the bar by the line of the epoch; called by Lightning."""
        if trainer.is_global_zero:
            self._close()
            table = pd.read_csv(self._table, index_col="epoch")
            best = best_epoch(table, self._monitor)
            self._note = f"{self._monitor} {table[self._monitor].iloc[-1]:.4f}, best {table[self._monitor][best]:.4f}"
            self._say(self._line(trainer, table.iloc[-1], is_best=best == trainer.current_epoch))

    def on_exception(self, trainer: Trainer, task: LightningModule, exception: BaseException) -> None:
        """Remove the bar; called by Lightning."""
        self._close()

    def _count(self, batch: Any, processes: int) -> None:
        if self._bar is not None:
            self._bar.update(len(batch[0]) * processes, note=self._note)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _name(self, trainer: Trainer) -> str:
        last = (trainer.max_epochs or 1) - 1
        return f"epoch {trainer.current_epoch:>{len(str(last))}}/{last}"

    def _line(self, trainer: Trainer, row: "pd.Series[float]", *, is_best: bool) -> str:
        values = {name: f"{name} {row[name]:.4f}" for name in ("train_loss", "val_loss", self._monitor)}
        values[self._monitor] += _BEST if is_best else " " * len(_BEST)
        epochs = trainer.current_epoch + 1
        seconds = (time.monotonic() - self._started) / (epochs - self._first_epoch) * ((trainer.max_epochs or epochs) - epochs)
        parts = [self._name(trainer), *values.values(), f"learning_rate {row['learning_rate']:.2e}"]
        if self._plan is not None:
            parts.append(f"trained: {trained_stages(self._plan, trainer.current_epoch)}".ljust(_longest(self._plan)))
        return "  ".join([*parts, f"{tqdm.format_interval(seconds)} left"])


def trained_stages(plan: UnfreezePlan, epoch: int) -> str:
    """Name the stages trained in an epoch, from the head on."""
    frozen = set(plan.frozen_in(epoch))
    names = [stage.name for stage in plan.stages if stage.name not in frozen]
    if not frozen:
        return "all stages"
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _longest(plan: UnfreezePlan) -> int:
    return max(len(f"trained: {trained_stages(plan, stage.from_epoch)}") for stage in plan.stages)
