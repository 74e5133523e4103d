"""Trackers: their library, login and server."""

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import segpipe.config.schemas  # noqa: F401 - registers the schemas
from segpipe.config.values import check_values
from segpipe.errors import ConfigError, MissingExtraError
from segpipe.training.tracking import MlflowRun, TensorBoardRun

CONF = Path(__file__).parents[3] / "conf"


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def training(*overrides: str) -> DictConfig:
    return compose("train_seg", ["data=synthetic", *overrides])


@pytest.mark.parametrize(
    ("name", "library"), [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow"), ("mlflow", "sqlalchemy")]
)
def test_missing_library_is_named_with_its_installation(monkeypatch: pytest.MonkeyPatch, name: str, library: str) -> None:
    check_values(training(f"logger=[csv,{name}]"))
    monkeypatch.setitem(sys.modules, library, None)  # as the import system itself says that there is none
    with pytest.raises(
        MissingExtraError, match=rf'^logger={name} needs {library}, which is not installed; pip install "segpipe\[tracking\]"$'
    ):
        check_values(training(f"logger=[csv,{name}]"))
    check_values(training("logger=csv"))


def test_folder_with_runs_is_not_mistaken_for_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match="logger=wandb needs wandb"):
        check_values(training("logger=wandb"))


def test_upload_needs_a_login_and_does_not_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "NETRC", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"^logger\.wandb\.offline=false needs a login; run wandb login, or set WANDB_API_KEY$"):
        check_values(training("logger=wandb", "logger.wandb.offline=false"))


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "htp://server", "runs"])
def test_unreachable_server_is_one_line(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match=f"^logger.mlflow must name a server and an experiment to write to, got {uri}: .+$"):
        MlflowRun(output=tmp_path, checkpoint=None, experiment="e", name=None, tracking_uri=uri)


def test_deleted_run_is_one_line(tmp_path: Path) -> None:
    values = {"output": tmp_path, "experiment": "e", "name": None, "tracking_uri": None}
    MlflowRun(checkpoint=None, **values)
    (tmp_path / "mlflow" / "run_id").write_text("0" * 32)
    with pytest.raises(ConfigError, match=r"got sqlite:////.+/mlflow\.db: Run with id=0+ not found$"):
        MlflowRun(checkpoint={"epoch": 0}, **values)


def log_to_tensorboard(output: Path, *steps: int, checkpoint: dict[str, int] | None) -> None:
    run = TensorBoardRun(output=output, checkpoint=checkpoint)
    for step in steps:
        run.log_metrics({"val_dice": float(step)}, step)
    run.finalize("success")


def test_tensorboard_events_after_the_checkpoint_are_discarded(tmp_path: Path) -> None:
    log_to_tensorboard(tmp_path, 3, 7, 11, checkpoint=None)
    time.sleep(1.1)  # the files are named, and so ordered, by the second in which they begin
    log_to_tensorboard(tmp_path, 11, 15, checkpoint={"global_step": 8})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("val_dice")
    assert [event.step for event in events] == [3, 7, 11, 15]
