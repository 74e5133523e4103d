"""Checkpoints of a training, and callbacks that make resuming exact."""

import io
import math
import os
import shutil
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from segpipe.errors import ConfigError, OutputError
from segpipe.io.run_files import BEST_CHECKPOINT, CHECKPOINTS, EPOCH_TABLE, LAST_CHECKPOINT

TIE_BREAKER = "val_loss"  # decides between epochs with the same value of the monitored metric
_CONTENT = {"epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks", "loops"}


class SeededEpochs(Callback):
    """Callback that seeds torch at the start of each epoch.

    The seed follows from that of the training, the epoch and the process, so there is no random state to save and restore.

    Args:
        seed: Seed of the training.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_epoch_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Seed the epoch; called by Lightning."""
        sequence = np.random.SeedSequence((self._seed, trainer.current_epoch, trainer.global_rank))
        torch.manual_seed(int(sequence.generate_state(1)[0]))


class Patience(EarlyStopping):
    """Early stopping that also holds after resuming.

    An epoch with the best score so far and a smaller loss counts as an improvement.
    """

    _loss = math.inf  # of the best epoch so far

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Count an epoch without improvement; called by Lightning."""
        stopped, loss = trainer.should_stop, _loss_of(trainer)
        super().on_train_epoch_end(trainer, task)
        if self.wait_count == 0:
            self._loss = loss
        elif bool(trainer.callback_metrics[self.monitor] == self.best_score) and loss < self._loss:
            self._loss, self.wait_count, trainer.should_stop = loss, 0, stopped

    def on_fit_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Stop again where the checkpoint had stopped; called by Lightning."""
        trainer.should_stop = self.wait_count >= max(1, self.patience)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counter, but not the patience, which may have changed."""
        super().load_state_dict(state_dict | {"patience": self.patience})
        self._loss = state_dict.get(TIE_BREAKER, -math.inf)  # -inf: of an older version

    def state_dict(self) -> dict[str, Any]:
        """Return the state with the loss of the best epoch."""
        return {**super().state_dict(), TIE_BREAKER: self._loss}


def _loss_of(trainer: Trainer) -> float:
    return float(trainer.callback_metrics.get(TIE_BREAKER, math.inf))


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoint writer that replaces the old file by a complete one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        """Write a checkpoint; called by Lightning.

        Raises:
            OSError: The checkpoint could not be written; the old one is unchanged.
        """
        whole = Path(path)
        part = whole.with_suffix(".part")
        content = io.BytesIO()  # torch turns a disk error into one of its own, which hides the cause
        torch.save(checkpoint, content)
        whole.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as stream:
                stream.write(content.getbuffer())
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(whole)
        except OSError:
            part.unlink(missing_ok=True)  # on a full disk the space is needed
            raise

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read tensors and plain values from a checkpoint, but no code."""
        checkpoint: dict[str, Any] = super().load_checkpoint(path, *args, **{**kwargs, "weights_only": True})
        return checkpoint


class KeptCheckpoint(ModelCheckpoint):
    """Checkpoint of a fixed name, in a folder that may be moved.

    Of two epochs with the same score, that with the smaller loss is kept.

    Args:
        folder: Folder of the checkpoints.
        name: File name of the checkpoint.
        monitor: Metric that chooses the best epoch; None writes every epoch.
        remember: True to restore the best score so far, whose epoch the file holds.
    """

    def __init__(self, folder: Path, name: str, *, monitor: str | None = None, remember: bool = True) -> None:
        super().__init__(
            folder,
            Path(name).stem,
            monitor=monitor,
            mode=monitor_mode(monitor or ""),
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self._file, self._remember, self._loss = folder / name, remember, math.inf

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Decide whether an epoch is the best so far; called by Lightning."""
        loss = _loss_of(trainer)
        tied = current is not None and self.best_model_score is not None and bool(current == self.best_model_score)
        better = super().check_monitor_top_k(trainer, current) or (tied and loss < self._loss)
        if better:
            self._loss = loss
        return better

    def state_dict(self) -> dict[str, Any]:
        """Return the state with the loss of the best epoch."""
        return {**super().state_dict(), TIE_BREAKER: self._loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, with this folder as its location."""
        if not self._remember:
            return
        file = str(self._file)
        moved = {"dirpath": self.dirpath, "best_model_path": file, "kth_best_model_path": file, "last_model_path": ""}
        scores = dict(zip([file], state_dict["best_k_models"].values(), strict=False))  # none where there is no monitor
        super().load_state_dict({**state_dict, **moved, "best_k_models": scores})
        self._loss = state_dict.get(TIE_BREAKER, -math.inf)  # -inf: of an older version


def epoch_checkpoints(folder: Path, *, monitor: str, first_epoch: int = 0) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    """Make the writers of `best.ckpt` and, after every epoch, `last.ckpt`.

    There are two, because Lightning's `save_last` skips epochs that are not the best so far.

    Args:
        folder: Folder of the checkpoints.
        monitor: Metric that chooses the best epoch.
        first_epoch: Next epoch; a kill may have left a `best.ckpt` of that epoch, which is then trained again.
    """
    best = folder / BEST_CHECKPOINT
    known = first_epoch > 0 and best.is_file() and read_checkpoint(best)["epoch"] < first_epoch
    return KeptCheckpoint(folder, BEST_CHECKPOINT, monitor=monitor, remember=known), KeptCheckpoint(folder, LAST_CHECKPOINT)


def best_epoch(table: pd.DataFrame, monitor: str) -> int:
    """Return the epoch of a table whose weights are kept.

    That is the one with the best score; of equal ones, the first of those with the smallest loss.

    Args:
        table: Content of `metrics.csv`, indexed by epoch.
        monitor: Metric that chooses the best epoch.
    """
    worst_first = table[monitor] if monitor_mode(monitor) == "max" else -table[monitor]
    best = table[worst_first == worst_first.max()]
    return int(best.index.to_numpy()[best[TIE_BREAKER].argmin()])


def monitor_mode(monitor: str) -> str:
    """Return `min` for a loss and `max` for any other metric."""
    return "min" if monitor.endswith("loss") else "max"


def take_over(ckpt_path: Path, output: Path) -> None:
    """Copy checkpoints and `metrics.csv` where a training resumes in another folder.

    Raises:
        OutputError: The files cannot be copied.
    """
    source, target = ckpt_path.resolve(), output / CHECKPOINTS
    if source.parent == target.resolve():
        return
    table = source.parent.parent / EPOCH_TABLE
    try:
        target.mkdir(parents=True, exist_ok=True)
        for old, new in (
            (source, target / LAST_CHECKPOINT),
            (source.with_name(BEST_CHECKPOINT), target / BEST_CHECKPOINT),
            (table, output / table.name),
        ):
            if old.is_file():
                shutil.copyfile(old, new)
    except OSError as error:
        raise OutputError(f"{ckpt_path} cannot be copied to {target}: {error.strerror}; name another output") from error


def require_whole(path: Path) -> None:
    """Verify the checksums of a checkpoint, which torch itself ignores.

    Raises:
        ConfigError: The file is damaged, or no archive of torch.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, RuntimeError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"ckpt_path must be a checkpoint of a training, got {path}, which cannot be read as one") from error
    if damaged:
        raise ConfigError(f"ckpt_path must be a checkpoint of a training, got {path}, which is damaged in {damaged}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read tensors and plain values of a Lightning checkpoint, but no code.

    Raises:
        ConfigError: The file is damaged, or no checkpoint.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle version of other programs
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not set(checkpoint) >= _CONTENT or not isinstance(checkpoint["epoch"], int):
            raise KeyError("epoch")
    except Exception as error:  # torch raises all kinds of errors for a damaged file
        raise ConfigError(f"ckpt_path must be a checkpoint of a training, got {path}, which cannot be read as one") from error
    return checkpoint
