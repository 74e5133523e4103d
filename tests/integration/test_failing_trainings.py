"""Trainings that diverge, and splits without some classes in a part."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSIFIER, SEGMENTER, Trained, call, read_json

from segpipe.diagnosis import CODES
from segpipe.losses.dice import BceDiceLoss
from segpipe.training.resuming import read_checkpoint
from segpipe.training.tasks import Task


def test_diverged_training_ends_with_one_line_without_a_bundle(trained: Trained, tmp_path: Path) -> None:
    ended = call("train_seg", *trained.data, *SEGMENTER, "optimizer.lr=1e30", "trainer.max_epochs=2", output=tmp_path / "out")
    assert ended.status == 1
    assert ended.error.startswith("training diverged in epoch 0: ")
    assert "optimizer.lr=" in ended.error
    assert not (tmp_path / "out" / "bundle").exists()
    assert not list((tmp_path / "out").rglob("*.ckpt"))


def test_epochs_before_the_divergence_are_kept_and_the_advice_works(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, forward = tmp_path / "out put", BceDiceLoss.forward
    with monkeypatch.context() as patch:
        epoch: list[int] = []
        patch.setattr(Task, "on_train_epoch_start", lambda task: epoch.append(task.current_epoch))
        patch.setattr(BceDiceLoss, "forward", lambda *given: forward(*given) * (torch.nan if epoch and epoch[-1] else 1))
        known = (*trained.data, *SEGMENTER, "trainer.max_epochs=2")
        ended = call("train_seg", *known, output=output)
    assert ended.status == 1
    assert ended.error.startswith("training diverged in epoch 1: ")
    assert read_checkpoint(output / "checkpoints" / "last.ckpt")["epoch"] == 0
    assert not (output / "bundle").exists()
    assert len(pd.read_csv(output / "metrics.csv")) == 1
    advice = [
        word for word in shlex.split(ended.error.replace(";", " ")) if re.match(r"(ckpt_path|allow_change|optimizer\.lr)=", word)
    ]
    assert len(advice) == 3
    resumed = call("train_seg", *known, *advice)
    assert resumed.status == 0, resumed.err
    assert read_json(output / "bundle" / "card.json")["training"]["epochs"] == 2


def test_missing_classes_are_reported_and_the_training_finishes(trained: Trained, tmp_path: Path) -> None:
    split = pd.read_csv(trained.folder / "seg" / "split.csv")
    metadata = pd.read_csv(trained.folder / "data" / "HAM10000_metadata.csv")
    diagnosis = split["image_id"].map(metadata.set_index("image_id")["dx"])
    lesion = split["lesion_id"].rank(method="dense")
    part = np.where(
        (diagnosis == "nv") & (lesion % 2 == 0), "val", np.where((diagnosis == "mel") & (lesion % 2 == 0), "test", "train")
    )
    split.assign(part=part).to_csv(tmp_path / "split.csv", index=False)
    more = (f"split={tmp_path / 'split.csv'}", "crop=whole_image", "allow_leak=true", trained.bundles[0], "trainer.max_epochs=3")
    ended = call("train_cls", *trained.data, *CLASSIFIER, *more, output=tmp_path / "out")
    assert ended.status == 0, ended.err
    warning = next(line for line in ended.err.splitlines() if line.startswith("warning: classes are missing"))
    missing = {part: set(codes.split(", ")) for part, codes in re.findall(r"(\w+) has no image of ([a-z, ]+)", warning)}
    assert missing == {"val": set(CODES) - {"nv"}, "test": set(CODES) - {"mel"}}
    table = pd.read_csv(tmp_path / "out" / "metrics.csv")
    assert len(table) == 3
    assert table.notna().all(axis=None) and "val_auroc" not in table
    assert read_json(tmp_path / "out" / "bundle" / "card.json")["training"]["best_epoch"] == table["val_loss"].idxmin()
