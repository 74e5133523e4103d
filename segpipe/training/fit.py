"""One training from start to best weights, by Lightning's Trainer."""

import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import Logger
from torch.multiprocessing.spawn import ProcessException

from segpipe.config.arguments import as_argument
from segpipe.data.datamodules import SeededDataModule
from segpipe.errors import ConfigError, TrainingError, WriteError
from segpipe.training.processes import choose_strategy, quieten
from segpipe.training.resuming import (
    BEST,
    LAST,
    Patience,
    SeededEpochs,
    WholeCheckpoints,
    epoch_checkpoints,
    monitor_mode,
    read_checkpoint,
)
from segpipe.training.tasks import DivergedError, Task


@dataclass(frozen=True)
class Fitted:
    """How a training ended; the task's model holds the best weights, in eval mode.

    Attributes:
        epochs: trained in all.
        best_epoch: whose weights are kept, counted from 0.
    """

    epochs: int
    best_epoch: int


def auto_precision(accelerator: str, *, cpu_bf16: bool) -> str:
    """Lightning's precision for a device.

    bf16 on a GPU that has it, else fp16. On a CPU bf16 pays for the U-Net where the processor has its instructions (2-3 x) and
    not for EfficientNet (0.8 x), so the stage says whether it may.

    Args:
        accelerator: Lightning's name; `auto` takes a CUDA device where there is one.
        cpu_bf16: this network gains from bf16 on a CPU.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    on_cpu = accelerator in ("auto", "cpu") and not torch.backends.mps.is_available()
    return "bf16-mixed" if on_cpu and cpu_bf16 and torch.cpu._is_avx512_bf16_supported() else "32-true"


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
    """Train a task and load the weights of its best epoch into its model.

    Args:
        task: the model, its loss, metrics and optimizer.
        data: training and validation examples.
        output: takes `checkpoints/`.
        monitor: name of the metric that chooses the best epoch, the larger the better; or of a loss.
        trainer: arguments for Lightning's Trainer; its strategy follows from the devices.
        patience: epochs without a better score after which the training stops.
        loggers: take the metrics of each epoch.
        callbacks: more of them.
        ckpt_path: a `last.ckpt` to go on from.

    Raises:
        ConfigError: `trainer` names devices that are not there, or the checkpoint is of another network.
        TrainingError: no epoch was done, the training diverged, a file could not be written, or a process of it failed.
        KeyboardInterrupt: the user stopped it; the text says how to go on.
    """
    if ckpt_path is not None:
        data.first_epoch = _first_epoch(task, ckpt_path)
    checkpoints = output / "checkpoints"
    stop = Patience(monitor, mode=monitor_mode(monitor), patience=patience, check_on_train_epoch_end=True)
    best, last = epoch_checkpoints(checkpoints, monitor=monitor, first_epoch=data.first_epoch)
    with warnings.catch_warnings():
        quieten()
        ours = [best, last, stop, SeededEpochs(data.seed), TQDMProgressBar(leave=True), *callbacks]
        lightning = build_trainer(trainer, output=output, loggers=loggers, callbacks=ours)
        _run(lightning, task, data, ckpt_path=ckpt_path, last=checkpoints / LAST)
    return _finish(task, checkpoints)


def build_trainer(
    trainer: Mapping[str, Any], *, output: Path | None = None, loggers: Sequence[Logger] = (), callbacks: Sequence[Callback] = ()
) -> Trainer:
    """Build Lightning's Trainer; the arguments are those of `fit`.

    Raises:
        ConfigError: `trainer` names devices that are not there.
        TypeError: `trainer` holds an argument that Lightning does not know, or that is set here.
    """
    return Trainer(
        **{**trainer, "strategy": choose_strategy(trainer["accelerator"], trainer["devices"])},
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
    """The epoch that comes next; the settings agree, so only another version of a library gives the network other weights."""
    checkpoint = read_checkpoint(ckpt_path)
    found = {name: weights.shape for name, weights in checkpoint["state_dict"].items()}
    needed = {name: weights.shape for name, weights in task.state_dict().items()}
    wrong = sorted(name for name in found.keys() | needed.keys() if found.get(name) != needed.get(name))
    if wrong:
        raise ConfigError(
            f"ckpt_path must be a checkpoint of the network that is trained, got {ckpt_path}, in which {len(wrong)} tensors are "
            f"missing, left over or of another shape, {wrong[0]} for one; start anew without ckpt_path"
        )
    return int(checkpoint["epoch"]) + 1


def _run(lightning: Trainer, task: Task, data: SeededDataModule, *, ckpt_path: Path | None, last: Path) -> None:
    def way_on() -> str:
        return f"go on with {as_argument('ckpt_path', last)}" if last.exists() else "no epoch was done"

    try:
        lightning.fit(task, data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit as exit_:  # Lightning's answer to Ctrl-C, after which it lets no second one through
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if lightning.strategy.launcher is not None:
            lightning.strategy.launcher.kill(signal.SIGKILL)
        raise KeyboardInterrupt(way_on()) from exit_
    except (OSError, WriteError) as error:
        raise TrainingError(f"a file could not be read or written: {error}; {way_on()}") from error
    except (DivergedError, ProcessException) as error:
        reason = str(error).strip().splitlines()[-1]  # of a process: the end of a traceback, which is all that comes over
        if isinstance(error, DivergedError) or reason.partition(": ")[0].endswith(DivergedError.__name__):
            again = f" {as_argument('allow_change', ['optimizer.lr'])}" if last.exists() else ""
            raise TrainingError(f"{reason[reason.index('training diverged') :]}; {way_on()}{again}") from error
        raise TrainingError(f"a process of the training failed: {reason}; {way_on()}") from error


def _finish(task: Task, checkpoints: Path) -> Fitted:
    """Load the best weights. What happened is read from the checkpoints, for the fit may have run in other processes."""
    if not (checkpoints / BEST).is_file():
        raise TrainingError(f"no epoch was finished in {checkpoints.parent}; give trainer.max_epochs of 1 or more")
    checkpoint = read_checkpoint(checkpoints / BEST)
    task.load_state_dict(checkpoint["state_dict"])
    task.eval()
    return Fitted(epochs=read_checkpoint(checkpoints / LAST)["epoch"] + 1, best_epoch=checkpoint["epoch"])
