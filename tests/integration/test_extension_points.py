"""Trainings with losses, schedulers and monitored metrics that need no code of segpipe."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import CLASSIFIER, SEGMENTER, Trained, call, read_json

from segpipe.io.images import read_image
from segpipe.training import preparation

ONE_CYCLE = ("scheduler._target_=torch.optim.lr_scheduler.OneCycleLR", "+scheduler._partial_=true")


def test_classifier_trains_with_loss_scheduler_and_monitor_of_the_call(trained: Trained, tmp_path: Path) -> None:
    loss = ("loss._target_=torch.nn.CrossEntropyLoss", "+loss.label_smoothing=0.1")
    monitor = ("trainer.monitor=val_balanced_accuracy", "trainer.max_epochs=3", "optimizer.lr=0.01")
    ended = call(
        "train_cls", *trained.data, *CLASSIFIER, trained.bundles[0], *loss, *ONE_CYCLE, *monitor, output=tmp_path / "run"
    )
    assert ended.status == 0, ended.err
    table = pd.read_csv(tmp_path / "run" / "metrics.csv", index_col="epoch")
    training = read_json(tmp_path / "run" / "bundle" / "card.json")["training"]
    assert training["best_epoch"] == table["val_balanced_accuracy"].idxmax()
    assert training["settings"]["trainer"]["monitor"] == "val_balanced_accuracy"
    assert table["learning_rate"].max() > 0.005
    assert table["learning_rate"].iloc[-1] < 1e-3
    assert read_image(tmp_path / "run" / "plots" / "training.png").min() < 100


def test_segmenter_trains_with_a_loss_of_torch(trained: Trained, tmp_path: Path) -> None:
    more = ("loss._target_=torch.nn.BCEWithLogitsLoss", "trainer.monitor=val_loss", *ONE_CYCLE, "trainer.max_epochs=1")
    ended = call("train_seg", *trained.data, *SEGMENTER, *more, output=tmp_path / "run")
    assert ended.status == 0, ended.err


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ("trainer.monitor=val_dice", "trainer.monitor"),
        ("loss._target_=torch.nn.CrossEntropy", "loss"),
        ("+loss.smoothing=0.1", "loss"),
        ("scheduler._target_=torch.optim.lr_scheduler.OneCycle", "scheduler"),
        ("optimizer._target_=torch.optim.Adamw", "optimizer"),
    ],
)
def test_wrong_part_is_one_line_before_data_are_read(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, key: str
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("data are read")

    monkeypatch.setattr(preparation, "load_dataset", fail)
    ended = call("train_cls", *trained.data, *CLASSIFIER, trained.bundles[0], wrong, output=tmp_path / "run")
    assert ended.status == 2
    assert ended.error.startswith(key)
    assert not (tmp_path / "run").exists()
