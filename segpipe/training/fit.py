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

from segpipe.data.datamodules import SeededDataModule
from segpipe.errors import ConfigError, TrainingError, WriteError
from segpipe.training.processes import choose_strategy, quieten
from segpipe.training.resuming import Patience, SeededEpochs, WholeCheckpoints, epoch_checkpoints
from segpipe.training.tasks import Task


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
        monitor: name of the metric that chooses the best epoch; the larger the better.
        trainer: arguments for Lightning's Trainer; its strategy follows from the devices.
        patience: epochs without a better score after which the training stops.
        loggers: take the metrics of each epoch.
        callbacks: more of them.
        ckpt_path: a `last.ckpt` to go on from.

    Raises:
        ConfigError: `trainer` names devices that are not there.
        TrainingError: no epoch was done, or a file could not be written, or a process of the training failed.
        KeyboardInterrupt: the user stopped it; the text says how to go on.
    """
    if ckpt_path is not None:
        data.first_epoch = read_checkpoint(ckpt_path)["epoch"] + 1
    checkpoints = output / "checkpoints"
    stop = Patience(monitor, mode="max", patience=patience, check_on_train_epoch_end=True)
    best, last = epoch_checkpoints(checkpoints, monitor=monitor)
    with warnings.catch_warnings():
        quieten()
        lightning = Trainer(
            **{**trainer, "strategy": choose_strategy(trainer["accelerator"], trainer["devices"])},
            logger=loggers,
            callbacks=[best, last, stop, SeededEpochs(data.seed), TQDMProgressBar(leave=True), *callbacks],
            plugins=[WholeCheckpoints()],
            use_distributed_sampler=False,
            default_root_dir=output,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        _run(lightning, task, data, ckpt_path=ckpt_path, last=checkpoints / "last.ckpt")
    return _finish(task, best=best.best_model_path, last=checkpoints / "last.ckpt", ckpt_path=ckpt_path)


def _run(lightning: Trainer, task: Task, data: SeededDataModule, *, ckpt_path: Path | None, last: Path) -> None:
    def way_on() -> str:
        return f"go on with ckpt_path={last}" if last.exists() else "no epoch was done"

    try:
        lightning.fit(task, data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit as exit_:  # Lightning's answer to Ctrl-C, after which it lets no second one through
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if lightning.strategy.launcher is not None:
            lightning.strategy.launcher.kill(signal.SIGKILL)
        raise KeyboardInterrupt(way_on()) from exit_
    except (OSError, WriteError) as error:
        raise TrainingError(f"a file could not be read or written: {error}; {way_on()}") from error
    except ProcessException as error:
        reason = str(error).strip().splitlines()[-1]  # the end of a traceback, which is all that comes over
        raise TrainingError(f"a process of the training failed: {reason}; {way_on()}") from error


def _finish(task: Task, *, best: str, last: Path, ckpt_path: Path | None) -> Fitted:
    """Load the best weights. What happened is read from the checkpoints, for the fit may have run in other processes."""
    if not best:
        raise TrainingError(f"no epoch was finished in {last.parents[1]}; give trainer.max_epochs of 1 or more")
    newest = last if last.exists() or ckpt_path is None else ckpt_path  # a finished training may go on in another folder
    checkpoint = read_checkpoint(Path(best))
    task.load_state_dict(checkpoint["state_dict"])
    task.eval()
    return Fitted(epochs=read_checkpoint(newest)["epoch"] + 1, best_epoch=checkpoint["epoch"])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of Lightning; only tensors and plain values are taken from it, no code.

    Raises:
        ConfigError: it is damaged, or no checkpoint.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's version, where it is none of torch's
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not {"epoch", "state_dict"} <= set(checkpoint):
            raise KeyError("epoch")
    except Exception as error:  # torch's reader lets through whatever it meets in a damaged file
        raise ConfigError(f"ckpt_path must be a checkpoint of a training, got {path}, which cannot be read as one") from error
    return checkpoint
