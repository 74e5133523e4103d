"""Trainings with all trackers: metrics, settings and resumed runs."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import SEGMENTER, call, small

from segpipe.io.images import read_image

wandb = pytest.importorskip("wandb", reason="needs the trackers, which segpipe[tracking] brings")
mlflow = pytest.importorskip("mlflow")
accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

ALL = "logger=[csv,tensorboard,wandb,mlflow]"
PICTURES = {"training", "train_batch", "val_predictions"}


@pytest.fixture(scope="module")
def home(few_resamples: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for data and files of the trackers."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "MLFLOW_TRACKING_URI"):
            patch.setenv(name, str(home / name.lower()))
        yield home
        wandb.teardown()  # ends its process


def train(home: Path, output: Path, *arguments: str, epochs: int, **values: Any) -> None:
    ended = call(
        "train_seg", *small(home / "data"), *SEGMENTER, *arguments, f"trainer.max_epochs={epochs}", output=output, **values
    )
    assert ended.status == 0, ended.err


@pytest.fixture(scope="module")
def tracked(home: Path) -> Path:
    """Output of a training of two epochs."""
    train(home, home / "a b=ü,[1]", ALL, epochs=2)
    assert wandb.run is None  # a run that is still open would receive the next job of a sweep
    assert {path.name for path in home.iterdir()} <= {"data", "cache", "a b=ü,[1]", "wandb_cache_dir"}
    return home / "a b=ü,[1]"


def table(output: Path) -> list[float]:
    return pd.read_csv(output / "metrics.csv")["val_dice"].tolist()


def in_tensorboard(output: Path) -> list[float]:
    events = accumulators.EventAccumulator(str(output / "tensorboard"))
    return [event.value for event in events.Reload().Scalars("val_dice")]


def in_mlflow(output: Path) -> list[float]:
    runs, client = runs_of_mlflow(output)
    assert [run.info.status for run in runs] == ["FINISHED"]
    return [metric.value for metric in client.get_metric_history(runs[0].info.run_id, "val_dice")]


def runs_of_mlflow(output: Path) -> tuple[list[Any], Any]:
    client = mlflow.MlflowClient(f"sqlite:///{output / 'mlflow' / 'mlflow.db'}")
    return client.search_runs([client.get_experiment_by_name("segpipe").experiment_id]), client


def in_wandb(output: Path) -> list[float]:
    rows = [
        {item.key or item.nested_key[0]: item.value_json for item in record.history.item} for record in records_of_wandb(output)
    ]
    return [json.loads(row["val_dice"]) for row in rows if "val_dice" in row]


def records_of_wandb(output: Path) -> Iterator[Any]:
    """Read the records of a run, protobuf in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    files = sorted((output / "wandb").glob("offline-run-*/*.wandb"))
    assert {path.stem for path in files} == {f"run-{(output / 'wandb' / 'run_id').read_text()}"}
    for content in (path.read_bytes() for path in files):
        assert content[:4] == b":W&B"
        position, parts = 7, b""
        while position < len(content):
            length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
            parts += content[position + 7 : position + 7 + length]
            position += 7 + length
            if kind in (1, 4):  # whole, or the last part
                yield Record.FromString(parts)
                parts = b""
            if math.ceil(position / 2**15) * 2**15 - position < 7:  # the rest of the block is too short for a record
                position = math.ceil(position / 2**15) * 2**15


@pytest.mark.parametrize("read", [in_tensorboard, in_wandb, in_mlflow])
def test_each_tracker_has_the_metrics_of_both_epochs(tracked: Path, read: Any) -> None:
    assert len(table(tracked)) == 2
    assert read(tracked) == pytest.approx(table(tracked), rel=1e-6)


def test_tensorboard_has_the_pictures_of_each_epoch(tracked: Path) -> None:
    events = accumulators.EventAccumulator(str(tracked / "tensorboard"), size_guidance={accumulators.IMAGES: 0}).Reload()
    assert set(events.Tags()["images"]) == PICTURES
    steps = [event.step for event in events.Scalars("val_dice")]
    for name in PICTURES:
        first, last = (read_image(event.encoded_image_string) for event in events.Images(name))
        assert [event.step for event in events.Images(name)] == steps
        assert first.shape != last.shape or (first != last).any()
        np.testing.assert_array_equal(last, read_image(tracked / "plots" / f"{name}.png"))


def test_wandb_and_mlflow_have_the_pictures_of_each_epoch(tracked: Path) -> None:
    files = [path.stem for path in (tracked / "wandb").glob("offline-run-*/files/media/images/*.png")]
    assert {name: sum(file.startswith(f"{name}_") for file in files) for name in PICTURES} == dict.fromkeys(PICTURES, 2)
    ((run,), client) = runs_of_mlflow(tracked)
    stored = [Path(file.path).name for file in client.list_artifacts(run.info.run_id, "images")]
    assert {name: sum(file.startswith(name) and file.endswith(".png") for file in stored) for name in PICTURES} == dict.fromkeys(
        PICTURES, 2
    )


def test_each_tracker_has_the_settings(tracked: Path) -> None:
    settings = yaml.safe_load((tracked / "config.yaml").read_text())
    assert settings.pop("logger").keys() == {"tensorboard", "wandb", "mlflow"}
    assert yaml.safe_load((tracked / "tensorboard" / "hparams.yaml").read_text()) == settings
    updates = [item for record in records_of_wandb(tracked) for item in record.config.update]
    assert {item.key: json.loads(item.value_json) for item in updates if item.key in settings} == settings
    ((run,), _) = runs_of_mlflow(tracked)
    assert run.data.params["segmenter/encoder"] == settings["segmenter"]["encoder"]
    assert not [key for key in run.data.params if key.startswith("logger")]


def test_training_is_the_same_without_trackers(tracked: Path, home: Path, tmp_path: Path) -> None:
    train(home, tmp_path / "out", "logger=csv", epochs=2)
    assert table(tmp_path / "out") == table(tracked)
    assert not {"tensorboard", "wandb", "mlflow"} & {path.name for path in (tmp_path / "out").iterdir()}


def test_resumed_training_continues_the_same_runs(tracked: Path, home: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(tracked, output, symlinks=True)
    train(home, output, ALL, epochs=3, ckpt_path=output / "checkpoints" / "last.ckpt")
    assert len(table(output)) == 3
    for read in (in_tensorboard, in_wandb, in_mlflow):
        assert read(output) == pytest.approx(table(output), rel=1e-6), read


def test_new_training_replaces_the_runs(tracked: Path, home: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(tracked, output, symlinks=True)
    train(home, output, ALL, epochs=1, overwrite=True, seed=5)
    assert len(table(output)) == 1
    for read in (in_tensorboard, in_wandb, in_mlflow):
        assert read(output) == pytest.approx(table(output), rel=1e-6), read


@pytest.mark.slow
def test_only_one_of_two_processes_writes_the_runs(home: Path, tmp_path: Path) -> None:
    train(home, tmp_path / "out", ALL, epochs=2, **{"trainer.devices": 2})
    assert len(table(tmp_path / "out")) == 2
    for read in (in_tensorboard, in_wandb, in_mlflow):
        assert read(tmp_path / "out") == pytest.approx(table(tmp_path / "out"), rel=1e-6), read
