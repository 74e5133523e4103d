"""What makes a training that was killed go on as if it never had been."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO


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


def epoch_checkpoints(folder: Path, *, monitor: str) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    """Writers of `best.ckpt` and, after every epoch, `last.ckpt`.

    They are two, because Lightning's `save_last` passes over epochs that are not the best so far.

    Args:
        folder: takes the checkpoints.
        monitor: name of the metric that chooses the best epoch; the larger the better.
    """
    common: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    return ModelCheckpoint(folder, "best", monitor=monitor, mode="max", **common), ModelCheckpoint(folder, "last", **common)
