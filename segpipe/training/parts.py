"""Parts of a training, built from its configuration."""

import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import Callback
from lightning.pytorch.loggers import Logger
from torch import nn

from segpipe.config.building import build, build_accepted
from segpipe.config.groups import AugmentConfig
from segpipe.config.schemas import TrainConfig
from segpipe.config.training_groups import LossConfig, OptimizerConfig, SchedulerConfig
from segpipe.data.augmentation import Augmentation
from segpipe.data.datamodules import SeededDataModule
from segpipe.io.files import counted
from segpipe.io.passes import working
from segpipe.training.fine_tuning import Start, keep_better, score_weights
from segpipe.training.fit import Fitted, MovingAverage, build_trainer, fit, quieten, trainer_arguments
from segpipe.training.identity import Identity, RecordedIdentity
from segpipe.training.resuming import read_checkpoint, take_over
from segpipe.training.schedule import Schedule, ScheduledRate, SchedulerFactory, TorchScheduler
from segpipe.training.tasks import OptimizerFactory, Task
from segpipe.training.tracking import EpochTable, TrackedSettings

LEAST_STEPS = 8  # of the optimizer in an epoch


def build_loss(settings: LossConfig, *, counts: Sequence[float] | None = None) -> nn.Module:
    """Build the loss of a training.

    Args:
        settings: Settings of the loss. Keys of the chosen option that another `_target_` does not take are left out.
        counts: Training images of each class, passed only to a loss that takes `counts`; None for a segmenter.
    """
    offered: dict[str, Any] = {} if counts is None else {"counts": counts}
    loss: nn.Module = build_accepted(settings, "loss", **offered)
    return loss


def build_optimizer(settings: OptimizerConfig) -> OptimizerFactory:
    """Build the function that makes the optimizer from parameters or parameter groups."""
    factory: OptimizerFactory = build(settings, "optimizer", _partial_=True)
    return factory


def build_augmentation(settings: AugmentConfig) -> Augmentation:
    """Build the random changes of the training images."""
    return Augmentation([build(transform, "augment") for transform in settings.transforms])


def build_scheduler(settings: SchedulerConfig) -> SchedulerFactory:
    """Build the factory of the scheduler that a configuration names.

    A class of `torch.optim.lr_scheduler` is completed with the optimizer and, where it takes them and the configuration does not
    set them, with the number of steps (`total_steps`, `T_max`) and the learning rates of the optimizer (`max_lr`).

    Args:
        settings: Settings of the scheduler. Keys of the chosen option that another `_target_` does not take are left out.

    Returns:
        Function of an optimizer and the number of steps of the training; the scheduler that it returns is stepped at every step.
    """
    built = build_accepted(settings, "scheduler", partial_within="torch.optim.lr_scheduler")
    return ScheduledRate(built) if isinstance(built, Schedule) else TorchScheduler(built)


def build_loggers(config: TrainConfig, output: Path) -> list[Logger]:
    """Build the table of a training and the trackers that `logger` names.

    Args:
        config: Configuration of the training.
        output: Folder of the training, which exists.

    Raises:
        ConfigError: The checkpoint cannot be read, or a tracker cannot be reached.
    """
    checkpoint = None if config.ckpt_path is None else read_checkpoint(Path(config.ckpt_path))
    trackers = [build(tracker, "logger", _partial_=True) for tracker in config.logger.values() if tracker is not None]
    return [make(output=output, checkpoint=checkpoint) for make in (EpochTable, *trackers)]


def fit_as_configured(
    config: TrainConfig,
    task: Task,
    data: SeededDataModule,
    output: Path,
    *,
    identity: Identity,
    monitor: str,
    cpu_bf16: bool,
    fine_tuning: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Fitted:
    """Train a task with the trainer, loggers and checkpoint of a configuration.

    With `trainer.ema_decay` the moving average of the weights is validated and kept.

    Args:
        config: Configuration of the training.
        task: Model with its loss, metrics and optimizer.
        data: Training and validation examples.
        output: Folder for `metrics.csv`, `checkpoints/` and the files of the trackers.
        identity: Identity of the training, for its checkpoints.
        monitor: Metric that chooses the best epoch; a loss is minimized, any other metric maximized.
        cpu_bf16: True where this network is faster with bf16 on a CPU, see `auto_precision`.
        fine_tuning: True to keep the starting weights unless an epoch is better, see `keep_better`.
        callbacks: Further callbacks of Lightning.
    """
    arguments = trainer_arguments(config.trainer, cpu_bf16=cpu_bf16)
    start = _score(task, data, arguments, "the starting weights") if fine_tuning else None
    ckpt_path = None if config.ckpt_path is None else Path(config.ckpt_path)
    if ckpt_path is not None:
        take_over(ckpt_path, output)
    decay = config.trainer.ema_decay
    averaging = [] if decay is None else [MovingAverage(decay)]
    fitted = fit(
        task,
        data,
        output=output,
        monitor=monitor,
        trainer=arguments,
        patience=config.trainer.patience,
        loggers=build_loggers(config, output),
        callbacks=[*callbacks, *averaging, TrackedSettings(config), RecordedIdentity(identity)],
        ckpt_path=ckpt_path,
    )
    if start is None:
        return fitted
    losses = _score(task, data, arguments, "the fine-tuned weights").losses
    return replace(fitted, start=keep_better(start, losses, task, output, best_epoch=fitted.best_epoch, monitor=monitor))


def _score(task: Task, data: SeededDataModule, arguments: Mapping[str, Any], what: str) -> Start:
    """Score the present weights of a task; `what` names them."""
    devices = arguments["devices"]
    one = {"devices": devices[:1] if isinstance(devices, list) else 1, "enable_progress_bar": False}
    one["inference_mode"] = False  # the metrics are updated again in the fit, outside of it
    with warnings.catch_warnings(), working(f"scoring {what}"):
        quieten()
        try:
            return score_weights(task, data, build_trainer({**arguments, **one}))
        except SystemExit as exit_:  # as in `segpipe.training.fit`
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt(f"{what} were being scored; start again with resume=true") from exit_


def least_draws(config: TrainConfig) -> int:
    """Return the number of training images that an epoch has at least."""
    return LEAST_STEPS * config.batch_size * config.trainer.accumulate_grad_batches


def repeats_text(config: TrainConfig, images: int) -> str | None:
    """Describe the epochs of a small data set, if any are repeated.

    Args:
        config: Configuration of the training.
        images: Number of training images.
    """
    draws = least_draws(config)
    if images >= draws:
        return None
    return (
        f"{counted(images, 'training image')}: each epoch draws {draws:,}, repeating them with different augmentation, so that "
        f"it has {LEAST_STEPS} steps of {draws // LEAST_STEPS:,} images"
    )
