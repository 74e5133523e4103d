"""What takes the metrics of a training: the table metrics.csv, and the trackers that `logger` names.

The trackers are Lightning's own loggers. Their files lie in the output folder. A run begins in the process that trains, which is
the first of several, and ends with the fit, whatever ends it; a training that goes on in its folder goes on with its run.
"""

import logging
import os
from argparse import Namespace
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.utils import env_override
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from segpipe.config.building import build
from segpipe.errors import ConfigError
from segpipe.io.images import write_file
from segpipe.training.resuming import read_checkpoint


class EpochTable(Logger):
    """Writes `metrics.csv`: one row for each epoch, rewritten whole, so that a reader never sees half of it.

    A resumed training keeps the rows of the epochs before it.

    Args:
        output: folder of the training.
        checkpoint: that it goes on from; its `epoch` is the last one to keep.
    """

    def __init__(self, *, output: Path, checkpoint: Mapping[str, Any] | None) -> None:
        super().__init__()
        self._path = output / "metrics.csv"
        self._rows: dict[Hashable, dict[Hashable, float]] = {}
        if checkpoint is not None and self._path.is_file():
            table = pd.read_csv(self._path, index_col="epoch")
            self._rows = table[table.index <= checkpoint["epoch"]].to_dict("index")

    @property
    def name(self) -> str:
        """Of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add figures to the row of their epoch, which Lightning puts among them."""
        values = dict(metrics)
        self._rows.setdefault(int(values.pop("epoch")), {}).update(values)
        table = pd.DataFrame.from_dict(self._rows, orient="index").rename_axis("epoch").sort_index()
        write_file(self._path, table.to_csv().encode())

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: config.yaml lies beside the table."""


Checkpoint = Mapping[str, Any]


class TensorBoardRun(TensorBoardLogger):
    """Event files in `tensorboard/`; a training that goes on takes back what was logged after its checkpoint.

    Args:
        output: folder of the training.
        checkpoint: that it goes on from.
    """

    def __init__(self, *, output: Path, checkpoint: Checkpoint | None) -> None:
        purge_step = None if checkpoint is None else checkpoint["global_step"]
        super().__init__(output, name="tensorboard", version="", purge_step=purge_step)


class WandbRun(WandbLogger):
    """A run of Weights & Biases, its files in `wandb/`.

    Args:
        output: folder of the training.
        checkpoint: that it goes on from.
        project: that the run belongs to.
        name: of the run; None lets Weights & Biases find one.
        offline: write files only, for `wandb sync` to send; else the user must be logged in.
    """

    def __init__(self, *, output: Path, checkpoint: Checkpoint | None, project: str, name: str | None, offline: bool) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which goes to its makers
        self._note = output / "wandb" / "run_id"
        mode = "offline" if offline else "online"
        super().__init__(name, output, version=_earlier_run(self._note, checkpoint), project=project, mode=mode)
        self._wandb_init.pop("anonymous", None)  # wandb warns of it, also where it is None

    def __getstate__(self) -> dict[str, Any]:
        """Lightning would begin the run here, before it is sent to the process that trains."""
        return self.__dict__ | {"_experiment": None}

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Called once, when the run has begun."""
        super().log_hyperparams(params)
        self._note.write_text(self.experiment.id)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run, which Lightning leaves open to the end of the process and so to the next job of a sweep."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status == "failed"))


class MlflowRun(MLFlowLogger):
    """A run of MLflow.

    Args:
        output: folder of the training.
        checkpoint: that it goes on from.
        experiment: that the run belongs to.
        name: of the run; None lets MLflow find one.
        tracking_uri: of the server; None keeps a store in `mlflow/`.

    Raises:
        ConfigError: the server cannot be reached, or lets nothing be written to the experiment.
    """

    def __init__(
        self, *, output: Path, checkpoint: Checkpoint | None, experiment: str, name: str | None, tracking_uri: str | None
    ) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells how it makes the tables of its store
        folder = output.absolute() / "mlflow"
        folder.mkdir(exist_ok=True)
        self._note = folder / "run_id"
        self._earlier = _earlier_run(self._note, checkpoint)
        uri = tracking_uri or f"sqlite:///{folder / 'mlflow.db'}"
        try:
            with env_override({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}):  # by default it tries for minutes
                client = MlflowClient(uri)
                if self._earlier is not None:
                    client.get_run(self._earlier)
                found = client.get_experiment_by_name(experiment)
                if found is None or found.lifecycle_stage == "deleted":
                    client.create_experiment(experiment, None if tracking_uri else (folder / "artifacts").as_uri())
        except MlflowException as error:
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(f"logger.mlflow must name a server and an experiment to write to, got {uri}: {reason}") from error
        super().__init__(experiment, run_name=name, run_id=self._earlier, tracking_uri=uri)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Called once, when the run has begun; those of an earlier one stay, for MLflow lets none of them change."""
        if self._earlier is None:
            super().log_hyperparams(params)
            self._note.write_text(str(self.run_id))


def build_loggers(config: DictConfig, output: Path) -> list[Logger]:
    """The table of a training and the trackers that `logger` names.

    Args:
        config: of the training.
        output: its folder, which exists.

    Raises:
        ConfigError: the checkpoint cannot be read, or a tracker cannot be reached.
    """
    checkpoint = None if config.ckpt_path is None else read_checkpoint(Path(config.ckpt_path))
    trackers = [build(tracker, "logger", _partial_=True) for tracker in config.logger.values() if tracker is not None]
    return [make(output=output, checkpoint=checkpoint) for make in (EpochTable, *trackers)]


class TrackedSettings(Callback):
    """Hands the settings of a training to its loggers, in the process that trains.

    Args:
        config: of the training; how it is tracked is none of its settings.
    """

    def __init__(self, config: DictConfig) -> None:
        self._settings: dict[str, Any] = dict(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        del self._settings["logger"]

    def on_fit_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Called by Lightning."""
        for logger in trainer.loggers:
            logger.log_hyperparams(self._settings)


def _earlier_run(note: Path, checkpoint: Checkpoint | None) -> str | None:
    """The run that a training goes on with; None begins one."""
    return None if checkpoint is None or not note.is_file() else note.read_text()
