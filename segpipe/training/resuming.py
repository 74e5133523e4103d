"""Checkpoints of a training, and what makes one that was killed end as an unbroken one does."""

import io
import os
import shutil
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from segpipe.errors import ConfigError, OutputError

BEST, LAST = "best.ckpt", "last.ckpt"
_CONTENT = {"epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks", "loops"}


class SeededEpochs(Callback):
    """Seeds dropout and whatever else torch draws anew at the start of each epoch.

    The seed is given by that of the training, the epoch and the process, so there is no random state to save and restore.

    Args:
        seed: of the training.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_epoch_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Called by Lightning."""
        sequence = np.random.SeedSequence((self._seed, trainer.current_epoch, trainer.global_rank))
        torch.manual_seed(int(sequence.generate_state(1)[0]))


class Patience(EarlyStopping):
    """Stops after some epochs without a better score; a training that had stopped so does not go on for one more epoch."""

    def on_fit_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Called by Lightning, with the counter of the checkpoint that the training goes on from."""
        trainer.should_stop = self.wait_count >= max(1, self.patience)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Called by Lightning; the patience is that of this run, which may have been given more of it."""
        super().load_state_dict(state_dict | {"patience": self.patience})


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the old checkpoint and then takes its place, so that a kill or a full disk never leaves half of one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        """Called by Lightning.

        Raises:
            OSError: it could not be written; the old one is still there.
        """
        whole = Path(path)
        part = whole.with_suffix(".part")
        content = io.BytesIO()  # torch turns an error of the disk into one of its own, which hides the cause
        torch.save(checkpoint, content)
        whole.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as stream:
                stream.write(content.getbuffer())
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(whole)
        except OSError:
            part.unlink(missing_ok=True)  # on a full disk its place is needed
            raise

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Called by Lightning; only tensors and plain values are taken from a checkpoint, no code."""
        checkpoint: dict[str, Any] = super().load_checkpoint(path, *args, **{**kwargs, "weights_only": True})
        return checkpoint


class KeptCheckpoint(ModelCheckpoint):
    """Remembers the best epoch also where the training was moved or copied: its file lies in this folder, under the same name.

    Args:
        folder: Folder of the checkpoints.
        name: File name of this one.
        monitor: Metric that chooses the best epoch; None takes each epoch.
        remember: Restore the best score so far, whose epoch the file holds.
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
        self._file, self._remember = folder / name, remember

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Called by Lightning."""
        if not self._remember:
            return
        file = str(self._file)
        moved = {"dirpath": self.dirpath, "best_model_path": file, "kth_best_model_path": file, "last_model_path": ""}
        scores = dict(zip([file], state_dict["best_k_models"].values(), strict=False))  # none where there is no monitor
        super().load_state_dict({**state_dict, **moved, "best_k_models": scores})


def epoch_checkpoints(folder: Path, *, monitor: str, first_epoch: int = 0) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    """Writers of `best.ckpt` and, after every epoch, `last.ckpt`.

    They are two, because Lightning's `save_last` passes over epochs that are not the best so far.

    Args:
        folder: takes the checkpoints.
        monitor: name of the metric that chooses the best epoch.
        first_epoch: Epoch that comes next; a kill may have left a `best.ckpt` of that epoch, which is then trained again.
    """
    best = folder / BEST
    known = first_epoch > 0 and best.is_file() and read_checkpoint(best)["epoch"] < first_epoch
    return KeptCheckpoint(folder, BEST, monitor=monitor, remember=known), KeptCheckpoint(folder, LAST)


def monitor_mode(monitor: str) -> str:
    """`min` for a loss, `max` for any other metric."""
    return "min" if monitor.endswith("loss") else "max"


def take_over(ckpt_path: Path, output: Path) -> None:
    """Copy what a training needs of its past, where it resumes in another folder: its checkpoints and its table of metrics.

    Raises:
        OutputError: They cannot be copied.
    """
    source, target = ckpt_path.resolve(), output / "checkpoints"
    if source.parent == target.resolve():
        return
    table = source.parent.parent / "metrics.csv"
    try:
        target.mkdir(parents=True, exist_ok=True)
        for old, new in ((source, target / LAST), (source.with_name(BEST), target / BEST), (table, output / table.name)):
            if old.is_file():
                shutil.copyfile(old, new)
    except OSError as error:
        raise OutputError(f"{ckpt_path} cannot be copied to {target}: {error.strerror}; name another output") from error


def require_whole(path: Path) -> None:
    """Check the checksums of a checkpoint, which torch writes but does not read.

    Raises:
        ConfigError: A byte was changed, or it is no archive of torch.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, RuntimeError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"ckpt_path must be a checkpoint of a training, got {path}, which cannot be read as one") from error
    if damaged:
        raise ConfigError(f"ckpt_path must be a checkpoint of a training, got {path}, which is damaged in {damaged}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of Lightning; only tensors and plain values are taken from it, no code.

    Raises:
        ConfigError: it is damaged, or no checkpoint.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's version, where it is none of torch's
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not set(checkpoint) >= _CONTENT or not isinstance(checkpoint["epoch"], int):
            raise KeyError("epoch")
    except Exception as error:  # torch's reader lets through whatever it meets in a damaged file
        raise ConfigError(f"ckpt_path must be a checkpoint of a training, got {path}, which cannot be read as one") from error
    return checkpoint
