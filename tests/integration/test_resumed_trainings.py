"""Resumed trainings: unchanged settings and data, moved folders, damaged checkpoints."""

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import SEGMENTER, Ended, Trained, call, read_json

from segpipe.data.check import _load
from segpipe.training.identity import RECORD
from segpipe.training.resuming import read_checkpoint
from segpipe.training.schedule import WarmupCosine
from segpipe.training.segmenter import MaskMetrics

EPOCHS = 2


@pytest.fixture(scope="module")
def root(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in `run/` whose first of two epochs is the best."""
    folder = tmp_path_factory.mktemp("resuming")
    with pytest.MonkeyPatch.context() as patch:
        score(patch, 0.9, 0.1)
        ended = call("train_seg", *arguments(trained), output=folder / "run")
    assert ended.status == 0, ended.err
    return folder


def arguments(trained: Trained) -> tuple[str, ...]:
    return (*trained.data, *SEGMENTER, f"trainer.max_epochs={EPOCHS}")


def score(patch: pytest.MonkeyPatch, *values: float) -> None:
    """Set the scores of the next epochs."""
    scores = iter(values)
    patch.setattr(MaskMetrics, "compute", lambda _: {"val_dice": torch.tensor(next(scores))})


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    """A copy of that training."""
    return Path(shutil.copytree(root / "run", tmp_path / "copies" / "run"))


def resume(trained: Trained, ckpt_path: Path, *more: str, script: str = "train_seg", **values: Any) -> Ended:
    return call(script, *arguments(trained), f"ckpt_path={ckpt_path}", *more, **values)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_checkpoint_of_another_training_is_refused_before_a_file_is_written(trained: Trained, run: Path) -> None:
    before, last = contents(run.parent), run / "checkpoints" / "last.ckpt"
    split = pd.read_csv(run / "split.csv")
    split.assign(part=split["part"].replace({"test": "val", "val": "test"})).to_csv(run.parent.parent / "other.csv", index=False)
    for more, keys in (
        (("seed=1", "optimizer.lr=0.5"), ("seed was 0, is 1", "optimizer.lr was 0.001, is 0.5")),
        ((f"split={run.parent.parent / 'other.csv'}",), ("split was ",)),
        (
            ("segmenter.decoder_channels=[16,16,16,8,8]",),
            ("segmenter.decoder_channels was [16, 16, 8, 8, 8], is [16, 16, 16, 8, 8]",),
        ),
    ):
        refused = resume(trained, last, *more)
        assert refused.status == 2
        assert all(key in refused.error for key in keys)
    classifier = trained.folder / "cls" / "checkpoints" / "last.ckpt"
    refused = call("train_seg", *arguments(trained), f"ckpt_path={classifier}", output=run.parent / "new")
    assert (refused.status, "stage was classifier, is segmenter" in refused.error) == (2, True)
    assert contents(run.parent) == before


def test_moved_data_are_accepted_and_changed_data_refused(trained: Trained, run: Path, tmp_path: Path) -> None:
    last, data = run / "checkpoints" / "last.ckpt", Path(shutil.copytree(trained.folder / "data", tmp_path / "data"))
    resumed = resume(trained, last, f"data.root={data}")
    assert resumed.status == 0, resumed.err
    before, images = contents(run), sorted(data.rglob("*.jpg"))
    shutil.copyfile(images[0], images[1])
    _load.cache_clear()  # one process stands for two
    refused = resume(trained, last, f"data.root={data}")
    assert refused.status == 2
    assert re.search(r"data was \d+ images, SHA-256 .*, is \d+ images, SHA-256 ", refused.error)
    assert contents(run) == before


def test_moved_training_keeps_its_best_epoch(trained: Trained, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = (run / "checkpoints" / "best.ckpt").read_bytes()
    score(monkeypatch, 0.2, 0.3)
    resumed = resume(trained, run / "checkpoints" / "last.ckpt", **{"trainer.max_epochs": 4})
    assert resumed.status == 0, resumed.err
    training = read_json(run / "bundle" / "card.json")["training"]
    assert (training["epochs"], training["best_epoch"]) == (4, 0)
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == best
    assert training["changes"] == [{"epoch": 2, "key": "trainer.max_epochs", "before": 2, "after": 4}]


def test_training_resumed_into_another_folder_copies_its_epochs(
    trained: Trained, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run)
    score(monkeypatch, 0.2, 0.95)
    more = ("optimizer.lr=1e-4", "allow_change=[optimizer.lr]", f"output={tmp_path / 'new'}")
    resumed = resume(trained, run / "checkpoints" / "last.ckpt", *more, **{"trainer.max_epochs": 4})
    assert resumed.status == 0, resumed.err
    assert contents(run) == before
    table = pd.read_csv(tmp_path / "new" / "metrics.csv")
    assert table["val_dice"].tolist() == pytest.approx([0.9, 0.1, 0.2, 0.95])
    training = read_json(tmp_path / "new" / "bundle" / "card.json")["training"]
    assert (training["epochs"], training["best_epoch"], training["settings"]["optimizer"]["lr"]) == (4, 3, 1e-4)
    assert [change["key"] for change in training["changes"]] == ["optimizer.lr", "trainer.max_epochs"]
    # From the first resumed step on, the schedule has four epochs and the new learning rate.
    steps = read_checkpoint(tmp_path / "new" / "checkpoints" / "last.ckpt")["global_step"] // 4
    expected = [1e-4 * WarmupCosine()(epoch * steps, 4 * steps) for epoch in (3, 4)]
    assert table["learning_rate"].tolist()[2:] == pytest.approx(expected, rel=1e-5)


def test_checkpoint_outside_a_training_needs_an_output(
    trained: Trained, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "work").mkdir()
    shutil.copy(run / "checkpoints" / "last.ckpt", run / "work")
    lone = tmp_path / "lone" / "checkpoints"
    lone.mkdir(parents=True)
    shutil.copy(run / "checkpoints" / "last.ckpt", lone)
    before = contents(tmp_path)
    monkeypatch.chdir(run / "work")
    for ckpt_path in ("last.ckpt", str(lone / "last.ckpt"), "."):
        refused = resume(trained, Path(ckpt_path))
        assert refused.status == 2
        assert refused.error.startswith("ckpt_path must be ")
    refused = resume(trained, lone / "last.ckpt", output=tmp_path / "new")
    assert (refused.status, "best.ckpt of the same training beside it" in refused.error) == (2, True)
    assert contents(tmp_path) == before
    monkeypatch.chdir(run / "checkpoints")
    resumed = resume(trained, Path("last.ckpt"))
    assert resumed.status == 0, resumed.err
    assert resumed.out.splitlines()[-2] == f"bundle in {run / 'bundle'}"


@pytest.mark.parametrize("record", [None, 3, {"settings": 1}])
def test_checkpoint_without_a_record_of_its_training_is_refused(trained: Trained, run: Path, record: object) -> None:
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(last)
    checkpoint.pop(RECORD)
    torch.save(checkpoint | ({} if record is None else {RECORD: record}), run / "fresh")
    (run / "fresh").replace(last)
    before = contents(run)
    refused = resume(trained, last)
    assert refused.status == 2
    assert "must be a checkpoint with a record of its training" in refused.error
    assert contents(run) == before


def test_checkpoint_with_a_flipped_byte_is_refused(trained: Trained, run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1  # in a tensor
    last.write_bytes(content)
    before = contents(run)
    refused = resume(trained, last)
    assert (refused.status, "is damaged in" in refused.error) == (2, True)
    assert contents(run) == before


def test_best_checkpoint_newer_than_the_last_is_trained_again(
    trained: Trained, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
    torch.save(checkpoint | {"epoch": EPOCHS}, run / "fresh")  # one epoch after last.ckpt
    (run / "fresh").replace(run / "checkpoints" / "best.ckpt")
    score(monkeypatch, 0.5)
    resumed = resume(trained, run / "checkpoints" / "last.ckpt", **{"trainer.max_epochs": 3})
    assert resumed.status == 0, resumed.err
    assert read_checkpoint(run / "checkpoints" / "best.ckpt")["epoch"] == 2


@pytest.mark.parametrize("changed", ["state_dict", "optimizer_states"])
def test_checkpoint_of_another_network_is_one_line(trained: Trained, run: Path, changed: str) -> None:
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(last)
    content = dict(list(checkpoint["state_dict"].items())[1:]) if changed == "state_dict" else None
    checkpoint.pop(changed)
    torch.save(checkpoint | ({} if content is None else {changed: content}), run / "fresh")
    (run / "fresh").replace(last)
    refused = resume(trained, last)
    assert refused.status == 2
    assert refused.error.startswith("ckpt_path must be a checkpoint of ")


def test_resume_finds_the_checkpoint_in_output(trained: Trained, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score(monkeypatch, 0.2, 0.95)
    again = (*arguments(trained), "resume=true", "trainer.max_epochs=4")
    resumed = call("train_seg", *again, output=run)
    assert resumed.status == 0, resumed.err
    assert f"resuming {run / 'checkpoints' / 'last.ckpt'}" in resumed.out
    assert pd.read_csv(run / "metrics.csv")["val_dice"].tolist() == pytest.approx([0.9, 0.1, 0.2, 0.95])
    assert read_json(run / "bundle" / "card.json")["training"]["best_epoch"] == 3
    assert "resume" not in read_json(run / "bundle" / "card.json")["training"]["settings"]


def test_resume_begins_a_training_where_there_is_none(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score(monkeypatch, 0.2, 0.3)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.yaml").write_text("left by a training that was stopped in its first epoch")
    begun = call("train_seg", *arguments(trained), "resume=true", output=tmp_path / "new")
    assert begun.status == 0, begun.err
    assert f"nothing to resume in {tmp_path / 'new'}" in begun.out
    assert read_json(tmp_path / "new" / "bundle" / "card.json")["training"]["epochs"] == EPOCHS


def test_resume_needs_one_source_that_is_a_training(trained: Trained, run: Path, tmp_path: Path) -> None:
    last, before = run / "checkpoints" / "last.ckpt", contents(run)
    for more, reason in (
        (("resume=true",), "needs output"),
        (("resume=true", f"output={tmp_path / 'new'}", f"ckpt_path={last}"), "one of resume=true"),
        (("resume=true", f"output={run}", "overwrite=true"), "one of resume=true"),
        (("resume=true", f"output={run}", "seed=1"), "seed was 0, is 1"),
        ((f"output={run}",), "resume=true resumes them"),
    ):
        refused = call("train_seg", *arguments(trained), *more)
        assert refused.status == 2
        assert reason in refused.error
    assert contents(run) == before
    shutil.rmtree(run / "checkpoints")
    refused = call("train_seg", *arguments(trained), "resume=true", output=run)
    assert (refused.status, "resume=true resumes them" in refused.error) == (2, False)
