"""Loggers of a training: the table `metrics.csv` and experiment trackers.

The trackers are subclasses of Lightning's loggers. Their files are in the output folder. A run starts in the process that trains,
the first of several, and ends with the fit, however that ends; a training that is resumed in its folder resumes its run.
"""

import logging
import os
from argparse import Namespace
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pandas as pd
from hydra.core.utils import env_override
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from segpipe.config.fields import to_dict
from segpipe.config.schemas import TrainConfig
from segpipe.errors import ConfigError
from segpipe.io.files import write_file
from segpipe.io.run_files import EPOCH_TABLE, MLFLOW, MLFLOW_FILES, MLFLOW_STORE, TENSORBOARD, TRACKER_RUN, WANDB
from segpipe.types import RgbImage


class EpochTable(Logger):
    """Logger that writes `metrics.csv`, one row for each epoch.

    The file is replaced after each epoch, so that a reader never sees half of it. A resumed training keeps the earlier rows.

    Args:
        output: Folder of the training.
        checkpoint: Checkpoint that the training resumes from, whose `epoch` is the last one to keep; None for a new training.
    """

    def __init__(self, *, output: Path, checkpoint: Mapping[str, Any] | None) -> None:
        super().__init__()
        self._path = output / EPOCH_TABLE
        self._rows: dict[Hashable, dict[Hashable, float]] = {}
        if checkpoint is not None and self._path.is_file():
            table = pd.read_csv(self._path, index_col="epoch")
            self._rows = table[table.index <= checkpoint["epoch"]].to_dict("index")

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Version of the logger, always empty."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add metrics to the row of their `epoch`, which Lightning includes."""
        values = dict(metrics)
        self._rows.setdefault(int(values.pop("epoch")), {}).update(values)
        table = pd.DataFrame.from_dict(self._rows, orient="index").rename_axis("epoch").sort_index()
        write_file(self._path, table.to_csv().encode())

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml is beside the table."""


Checkpoint = Mapping[str, Any]


@runtime_checkable
class PictureLogger(Protocol):
    """Logger that takes pictures beside metrics."""

    def log_picture(self, name: str, picture: RgbImage, step: int) -> None:
        """Log a picture, RGB uint8, shape (H, W, 3), at a step."""


class TensorBoardRun(TensorBoardLogger):
    """Run of TensorBoard, with event files in `tensorboard/`.

    A resumed training discards the events after its checkpoint.

    Args:
        output: Folder of the training.
        checkpoint: Checkpoint that the training resumes from, or None.
    """

    def __init__(self, *, output: Path, checkpoint: Checkpoint | None) -> None:
        purge_step = None if checkpoint is None else checkpoint["global_step"]
        super().__init__(output, name=TENSORBOARD, version="", purge_step=purge_step)

    @rank_zero_only
    def log_picture(self, name: str, picture: RgbImage, step: int) -> None:
        """Log a picture, see `PictureLogger`."""
        self.experiment.add_image(name, picture, step, dataformats="HWC")


class WandbRun(WandbLogger):
    """Run of Weights & Biases, with files in `wandb/`.

    Args:
        output: Folder of the training.
        checkpoint: Checkpoint that the training resumes from, or None.
        project: Project of the run.
        name: Name of the run; None lets Weights & Biases choose one.
        offline: True to write files only, which `wandb sync` sends; else the user must be logged in.
    """

    def __init__(self, *, output: Path, checkpoint: Checkpoint | None, project: str, name: str | None, offline: bool) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which sends reports to its developers
        self._note = output / WANDB / TRACKER_RUN
        mode = "offline" if offline else "online"
        super().__init__(name, output, version=_earlier_run(self._note, checkpoint), project=project, mode=mode)
        self._wandb_init.pop("anonymous", None)  # wandb warns about it even if it is None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the run, which Lightning would start too early."""
        return self.__dict__ | {"_experiment": None}

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log the settings and note the run; called once, at its start."""
        super().log_hyperparams(params)
        self._note.write_text(self.experiment.id)

    @rank_zero_only
    def log_picture(self, name: str, picture: RgbImage, step: int) -> None:
        """Log a picture, see `PictureLogger`."""
        self.log_image(name, [picture], step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run, which Lightning leaves open."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status == "failed"))


class MlflowRun(MLFlowLogger):
    """Run of MLflow.

    Args:
        output: Folder of the training.
        checkpoint: Checkpoint that the training resumes from, or None.
        experiment: Experiment of the run.
        name: Name of the run; None lets MLflow choose one.
        tracking_uri: Address of the server; None keeps a store in `mlflow/`.

    Raises:
        ConfigError: The server cannot be reached, or the experiment cannot be written.
    """

    def __init__(
        self, *, output: Path, checkpoint: Checkpoint | None, experiment: str, name: str | None, tracking_uri: str | None
    ) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it logs the creation of the tables of its store
        folder = output.absolute() / MLFLOW
        folder.mkdir(exist_ok=True)
        self._note = folder / TRACKER_RUN
        self._earlier = _earlier_run(self._note, checkpoint)
        uri = tracking_uri or f"sqlite:///{folder / MLFLOW_STORE}"
        try:
            with env_override({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}):  # by default it retries for minutes
                client = MlflowClient(uri)
                if self._earlier is not None:
                    client.get_run(self._earlier)
                found = client.get_experiment_by_name(experiment)
                if found is None or found.lifecycle_stage == "deleted":
                    client.create_experiment(experiment, None if tracking_uri else (folder / MLFLOW_FILES).as_uri())
        except MlflowException as error:
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(f"logger.mlflow must name a server and an experiment to write to, got {uri}: {reason}") from error
        super().__init__(experiment, run_name=name, run_id=self._earlier, tracking_uri=uri)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log the settings of a new run; MLflow refuses later changes."""
        if self._earlier is None:
            super().log_hyperparams(params)
            self._note.write_text(str(self.run_id))

    @rank_zero_only
    def log_picture(self, name: str, picture: RgbImage, step: int) -> None:
        """Log a picture, see `PictureLogger`."""
        self.experiment.log_image(self.run_id, picture, key=name, step=step)


class TrackedSettings(Callback):
    """Callback that logs the settings of a training.

    Args:
        config: Configuration of the training; its part `logger` is left out.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._settings: dict[str, Any] = to_dict(config)
        del self._settings["logger"]

    def on_fit_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Log the settings; called by Lightning."""
        for logger in trainer.loggers:
            logger.log_hyperparams(self._settings)


def _earlier_run(note: Path, checkpoint: Checkpoint | None) -> str | None:
    """Return the id of the run to resume, or None."""
    return None if checkpoint is None or not note.is_file() else note.read_text()
