"""Fit of a training by Lightning, on one device or several.

Each device has its own process, which lives as long as the fit. All other steps (folders, tables, calibration, the score on the
test split, the bundle) run once, in the process that the user started.
"""

import logging
import os
import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessException

from segpipe.config.arguments import as_argument
from segpipe.config.fields import to_dict
from segpipe.config.training_groups import TrainerConfig
from segpipe.data.datamodules import SeededDataModule
from segpipe.errors import ConfigError, TrainingError, WriteError
from segpipe.io.run_files import BEST_CHECKPOINT, CHECKPOINTS, LAST_CHECKPOINT
from segpipe.training.resuming import Patience, SeededEpochs, WholeCheckpoints, epoch_checkpoints, monitor_mode, read_checkpoint
from segpipe.training.tasks import DivergedError, Task

_NOT_LIGHTNINGS = ("patience", "monitor", "ema_decay")  # keys of `trainer` that are segpipe's own


class Processes(DDPStrategy):
    """Strategy for data-parallel training by processes that the fit itself starts.

    Frozen stages have no gradient, so DDP has to look for unused parameters. Buffers are not broadcast: DDP would do so with
    every batch, also in the validation, where the processes may have different numbers of batches; see `Task`.
    """

    def __init__(self) -> None:
        # Read by torch when the processes import it; otherwise DDP advises against the search as soon as all stages train.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        super().__init__(
            start_method="spawn",
            find_unused_parameters=True,
            broadcast_buffers=False,
            cluster_environment=LightningEnvironment(),  # the fit starts the processes in a SLURM job, too
        )

    def setup_environment(self) -> None:
        """Silence Lightning; called first in each process."""
        quieten()
        super().setup_environment()


class MovingAverage(EMAWeightAveraging):
    """Exponential moving average of the weights that can be pickled.

    Args:
        decay: Decay of the average per step, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)
        self._decay = decay

    def __reduce__(self) -> tuple[type, tuple[float]]:
        return MovingAverage, (self._decay,)


def choose_strategy(accelerator: str, devices: Any) -> Any:
    """Choose Lightning's strategy: `Processes` for several devices, `auto` for one.

    Args:
        accelerator: Lightning's name of the accelerator.
        devices: Number of devices, a list of their numbers, or `auto` for all.

    Raises:
        ConfigError: There are no such devices.
    """
    try:
        probe = Trainer(accelerator=accelerator, devices=devices, logger=False, enable_checkpointing=False)
    except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"trainer.accelerator and trainer.devices must name devices of this machine, got {accelerator} and {devices}: {error}"
        ) from error
    return Processes() if probe.num_devices > 1 else "auto"


def quieten() -> None:
    """Silence the tips and warnings of Lightning in this process."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")


@dataclass(frozen=True)
class Fitted:
    """Result of a fit.

    Attributes:
        epochs: Number of trained epochs.
        best_epoch: Epoch with the best weights, counted from 0.
        start: Starting weights of a fine-tuning, see `segpipe.bundle.records.Training`; empty for other trainings.
    """

    epochs: int
    best_epoch: int
    start: Mapping[str, Any] = field(default_factory=dict)


def auto_precision(accelerator: str, *, cpu_bf16: bool) -> str:
    """Choose Lightning's precision for a device.

    bf16 on a GPU that supports it, else fp16. On a CPU bf16 is faster for the U-Net where the processor has its instructions
    (2-3 x) but not for EfficientNet (0.8 x), so the stage decides whether to use it.

    Args:
        accelerator: Lightning's name; `auto` takes a CUDA device where there is one.
        cpu_bf16: True where this network is faster with bf16 on a CPU.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    on_cpu = accelerator in ("auto", "cpu") and not torch.backends.mps.is_available()
    return "bf16-mixed" if on_cpu and cpu_bf16 and torch.cpu.get_capabilities().get("avx512_bf16", False) else "32-true"


def trainer_arguments(settings: TrainerConfig, *, cpu_bf16: bool) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer, with a definite precision."""
    arguments: dict[str, Any] = {name: value for name, value in to_dict(settings).items() if name not in _NOT_LIGHTNINGS}
    if arguments["precision"] == "auto":
        arguments["precision"] = auto_precision(arguments["accelerator"], cpu_bf16=cpu_bf16)
    return arguments


def fit(
    task: Task,
    data: SeededDataModule,
    *,
    output: Path,
    monitor: str,
    trainer: Mapping[str, Any],
    patience: int,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback] = (),
    ckpt_path: Path | None = None,
) -> Fitted:
    """Train a task and load the best weights into its model.

    Args:
        task: Model with its loss, metrics and optimizer.
        data: Training and validation examples.
        output: Folder for `checkpoints/`.
        monitor: Metric that chooses the best epoch; a loss is minimized, any other metric maximized.
        trainer: Arguments of Lightning's Trainer; the strategy follows from the devices.
        patience: Epochs without a better score after which the training stops.
        loggers: Loggers of the metrics of each epoch.
        callbacks: Further callbacks of Lightning.
        ckpt_path: `last.ckpt` to resume from.

    Raises:
        ConfigError: `trainer` names devices that do not exist, or the checkpoint is of another network.
        TrainingError: No epoch was finished, the training diverged, a file could not be written, or a process failed.
        KeyboardInterrupt: The user stopped the training; the message says how to resume.
    """
    if ckpt_path is not None:
        data.first_epoch = _first_epoch(task, ckpt_path)
    checkpoints = output / CHECKPOINTS
    stop = Patience(monitor, mode=monitor_mode(monitor), patience=patience, check_on_train_epoch_end=True)
    best, last = epoch_checkpoints(checkpoints, monitor=monitor, first_epoch=data.first_epoch)
    with warnings.catch_warnings():
        quieten()
        own = [best, last, stop, SeededEpochs(data.seed), *callbacks]
        lightning = build_trainer(trainer, output=output, loggers=loggers, callbacks=own)
        _run(lightning, task, data, ckpt_path=ckpt_path, last=checkpoints / LAST_CHECKPOINT)
    return _finish(task, checkpoints)


def build_trainer(
    trainer: Mapping[str, Any], *, output: Path | None = None, loggers: Sequence[Logger] = (), callbacks: Sequence[Callback] = ()
) -> Trainer:
    """Build Lightning's Trainer; the arguments are those of `fit`.

    Raises:
        ConfigError: `trainer` names devices that do not exist.
        TypeError: `trainer` holds an argument that Lightning does not know, or that is set here.
    """
    own = {"strategy": choose_strategy(trainer["accelerator"], trainer["devices"]), "enable_progress_bar": False}
    return Trainer(
        **{**trainer, **own},  # the bar is that of `segpipe.training.display`
        logger=list(loggers),
        callbacks=list(callbacks),
        plugins=[WholeCheckpoints()],
        use_distributed_sampler=False,
        default_root_dir=output,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def _first_epoch(task: Task, ckpt_path: Path) -> int:
    """Return the next epoch of a checkpoint; refuse one of another network.

    The settings are known to agree, so only another version of a library gives the network other weights.
    """
    checkpoint = read_checkpoint(ckpt_path)
    found = {name: weights.shape for name, weights in checkpoint["state_dict"].items()}
    needed = {name: weights.shape for name, weights in task.state_dict().items()}
    wrong = sorted(name for name in found.keys() | needed.keys() if found.get(name) != needed.get(name))
    if wrong:
        raise ConfigError(
            f"ckpt_path must be a checkpoint of the network that is trained, got {ckpt_path}, in which {len(wrong)} tensors are "
            f"missing, left over or of another shape, {wrong[0]} for one; start again without ckpt_path"
        )
    return int(checkpoint["epoch"]) + 1


def _run(lightning: Trainer, task: Task, data: SeededDataModule, *, ckpt_path: Path | None, last: Path) -> None:
    def advice() -> str:
        return f"resume with {as_argument('ckpt_path', last)}" if last.exists() else "no epoch was finished"

    try:
        lightning.fit(task, data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit as exit_:  # raised by Lightning on Ctrl-C; it ignores further ones
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if lightning.strategy.launcher is not None:
            lightning.strategy.launcher.kill(signal.SIGKILL)
        raise KeyboardInterrupt(advice()) from exit_
    except (OSError, WriteError) as error:
        raise TrainingError(f"a file could not be read or written: {error}; {advice()}") from error
    except (DivergedError, ProcessException) as error:
        reason = str(error).strip().splitlines()[-1]  # of a process only the end of its traceback arrives
        if isinstance(error, DivergedError) or reason.partition(": ")[0].endswith(DivergedError.__name__):
            again = f" {as_argument('allow_change', ['optimizer.lr'])}" if last.exists() else ""
            raise TrainingError(f"{reason[reason.index('training diverged') :]}; {advice()}{again}") from error
        raise TrainingError(f"a process of the training failed: {reason}; {advice()}") from error


def _finish(task: Task, checkpoints: Path) -> Fitted:
    """Load the best weights in eval mode.

    The result is read from the checkpoints, because the fit may have run in other processes.
    """
    if not (checkpoints / BEST_CHECKPOINT).is_file():
        raise TrainingError(f"no epoch was finished in {checkpoints.parent}; give trainer.max_epochs of 1 or more")
    checkpoint = read_checkpoint(checkpoints / BEST_CHECKPOINT)
    task.load_state_dict(checkpoint["state_dict"])
    task.eval()
    return Fitted(epochs=read_checkpoint(checkpoints / LAST_CHECKPOINT)["epoch"] + 1, best_epoch=checkpoint["epoch"])
