"""Trainings that are killed, fill the disk, or use two processes."""

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import CLASSIFIER, SEGMENTER, Ended, Trained, call, read_json
from lightning import Trainer
from torch.multiprocessing.spawn import ProcessRaisedException

from segpipe.bundle.folder import load_segmenter
from segpipe.config.composing import compose_config, typed
from segpipe.data.datasets import Draw, MaskDataset
from segpipe.models.preprocessing import normalize
from segpipe.training.preparation import prepare_data
from segpipe.training.resuming import read_checkpoint
from segpipe.training.segmenter import MaskMetrics, build_untrained
from segpipe.training.tasks import Task

EPOCHS = 3
NETWORKS = {"seg": SEGMENTER, "cls": (*CLASSIFIER, "classifier.dropout=0.5", "unfreeze=progressive", "trainer.ema_decay=0.9")}
# Independent of batches and random numbers; stages are unfrozen during the training.
STEADY = (
    *("classifier.name=test_convnext", "classifier.attention=none", "classifier.dropout=0", "classifier.input_size=64"),
    "loss=cross_entropy",
)


def arguments_of(trained: Trained, kind: str) -> tuple[str, ...]:
    """Return the arguments of a training on the data of the tests."""
    crops = trained.bundles[:1] if kind == "cls" else ()
    return (f"train_{kind}", *trained.data, *NETWORKS[kind], *crops)


def train(trained: Trained, kind: str, output: Path, *arguments: str, **values: Any) -> Ended:
    return call(*arguments_of(trained, kind), *arguments, output=output, **{"trainer.max_epochs": EPOCHS} | values)


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(function: Callable[..., Any], when: Callable[..., bool], *, first: bool) -> Callable[..., Any]:
    """Wrap a function to kill its process before or after a call."""

    def call_or_die(*arguments: Any, **values: Any) -> Any:
        if first and when(*arguments):
            die()
        result = function(*arguments, **values)
        if when(*arguments):
            die()
        return result

    return call_or_die


def train_and_die(moment: str, arguments: tuple[str, ...]) -> None:
    """Train and kill the process at a moment; for a separate process."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # forked workers, as in any training, end with the process

    def is_last(_: Path, target: Path) -> bool:
        return target.name == "last.ckpt"

    def is_midway(task: Task, _: object, batch: int) -> bool:
        return (task.current_epoch, batch) == (1, 2)

    if moment == "in the middle of the second epoch":
        Task.training_step = dying(Task.training_step, is_midway, first=True)  # type: ignore[method-assign]
    else:
        Path.replace = dying(Path.replace, is_last, first=moment == "before last.ckpt is in place")  # type: ignore[method-assign]
    call(*arguments)


def assert_killed(moment: str, arguments: tuple[str, ...]) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segpipe.training.classifier", "segpipe.training.segmenter"])
    process = context.Process(target=train_and_die, args=(moment, arguments))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def assert_same_state(first: Any, second: Any, *, within: float) -> None:
    """Check that two trees of dictionaries and lists have the same values."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        first, second = list(first.values()), list(second.values())
    if isinstance(first, list | tuple):
        for one, other in zip(first, second, strict=True):
            assert_same_state(one, other, within=within)
    elif isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, atol=within, rtol=0)
    else:
        assert first == pytest.approx(second, abs=within)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "moments"),
    [
        (
            "cls",
            ("in the middle of the second epoch", "before last.ckpt is in place", "as soon as last.ckpt is in place"),
        ),
        ("seg", ("in the middle of the second epoch",)),
    ],
)
def test_killed_training_equals_an_uninterrupted_one(
    trained: Trained, tmp_path: Path, kind: str, moments: tuple[str, ...]
) -> None:
    output, last = tmp_path / "killed", tmp_path / "killed" / "checkpoints" / "last.ckpt"
    resume = {"ckpt_path": last, "workers": 1}
    for moment in moments:
        going_on = [f"ckpt_path={last}"] if last.exists() else []
        more = (f"output={output}", f"trainer.max_epochs={EPOCHS}", "workers=1", *going_on)
        assert_killed(moment, (*arguments_of(trained, kind), *more))
    resumed, unbroken = train(trained, kind, output, **resume), train(trained, kind, tmp_path / "unbroken", workers=1)
    assert resumed.status == unbroken.status == 0, resumed.err + unbroken.err

    files = [(tmp_path / name / "metrics.csv").read_text() for name in ("killed", "unbroken")]
    assert files[0] == files[1]
    assert len(files[0].splitlines()) == 1 + EPOCHS
    for name in ("last.ckpt", "best.ckpt"):
        states = [read_checkpoint(tmp_path / run / "checkpoints" / name) for run in ("killed", "unbroken")]
        for part in states[1].keys() - {"callbacks", "loops"}:
            assert_same_state(states[0][part], states[1][part], within=1e-6)
    cards = [read_json(tmp_path / run / "bundle" / "card.json") for run in ("killed", "unbroken")]
    assert cards[0]["training"] == cards[1]["training"]
    assert not list(output.rglob("*.part"))


def test_full_disk_is_one_line_and_the_training_resumes_from_the_last_epoch(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = []

    def fill_up(_: int) -> None:
        saves.append(1)
        if len(saves) > 2:  # after best.ckpt and last.ckpt of the first epoch
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    last = tmp_path / "out" / "checkpoints" / "last.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        ended = train(trained, "seg", tmp_path / "out")
    assert ended.status == 1
    assert ended.error == (
        f"a file could not be read or written: [Errno {errno.ENOSPC}] No space left on device; resume with ckpt_path={last}"
    )
    assert read_checkpoint(last)["epoch"] == 0
    assert sorted(path.name for path in last.parent.iterdir()) == ["best.ckpt", "last.ckpt"]
    resumed = train(trained, "seg", tmp_path / "out", ckpt_path=last)
    assert resumed.status == 0, resumed.err
    assert len((tmp_path / "out" / "metrics.csv").read_text().splitlines()) == 1 + EPOCHS


def test_last_checkpoint_is_updated_when_the_score_falls(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr(MaskMetrics, "compute", lambda _: {"val_dice": torch.tensor(next(scores))})
    ended = train(trained, "seg", tmp_path / "out", **{"trainer.max_epochs": 9, "trainer.patience": 2})
    assert ended.status == 0, ended.err
    checkpoints = tmp_path / "out" / "checkpoints"
    assert [read_checkpoint(checkpoints / name)["epoch"] for name in ("best.ckpt", "last.ckpt")] == [0, 2]
    # A training that stopped early has ended: resuming adds no epoch, more patience does.
    for patience, epochs in ((2, 3), (3, 4)):
        values = {"trainer.max_epochs": 9, "trainer.patience": patience, "ckpt_path": checkpoints / "last.ckpt"}
        resumed = train(trained, "seg", tmp_path / "out", **values)
        assert resumed.status == 0, resumed.err
        training = load_segmenter(tmp_path / "out" / "bundle").card.training
        assert (training.epochs, training.best_epoch) == (epochs, 0)
        assert len((tmp_path / "out" / "metrics.csv").read_text().splitlines()) == 1 + epochs


@pytest.mark.slow
def test_two_processes_give_the_training_of_one(trained: Trained, tmp_path: Path) -> None:
    tables, weights = [], []
    for devices in (1, 2):
        output = tmp_path / f"{devices} devices"
        ended = train(trained, "cls", output, *STEADY, **{"trainer.devices": devices, "trainer.strategy": "ddp"})
        assert ended.status == 0, ended.err
        assert ended.out.splitlines()[-2] == f"bundle in {output / 'bundle'}"
        tables.append(pd.read_csv(output / "metrics.csv", index_col="epoch"))
        weights.append(read_checkpoint(output / "checkpoints" / "last.ckpt")["state_dict"])
    assert len(tables[0]) == EPOCHS
    pd.testing.assert_frame_equal(tables[0], tables[1], atol=1e-5)
    assert_same_state(weights[0], weights[1], within=1e-5)


@pytest.mark.slow
def test_metrics_of_two_processes_count_every_image_once(trained: Trained, tmp_path: Path) -> None:
    output = tmp_path / "out"
    ended = train(trained, "seg", output, seed=2, **{"trainer.devices": 2, "trainer.strategy": "ddp", "trainer.max_epochs": 1})
    assert ended.status == 0, ended.err

    config = typed(compose_config("train_seg", [*trained.data, *SEGMENTER, "seed=2"]))
    model = build_untrained(config)
    state = read_checkpoint(output / "checkpoints" / "last.ckpt")["state_dict"]
    model.load_state_dict({name.removeprefix("model."): values for name, values in state.items()})
    table = prepare_data(config, tmp_path, need_masks=True).parts["val"]
    examples = MaskDataset(table, size=64)
    assert len(examples) == 9  # two batches in one process, one in the other
    metrics = MaskMetrics()
    with torch.inference_mode():
        for index in range(len(examples)):
            pixels, mask = examples[Draw(index, 0)]
            metrics.update(model.eval()(normalize(pixels[None], load_segmenter(output / "bundle").card.input)), mask[None])
    row = pd.read_csv(output / "metrics.csv").iloc[-1]
    for name, value in metrics.compute().items():
        assert row[name] == pytest.approx(value.item(), abs=1e-6)


def test_failure_of_a_process_is_one_line(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        """Raise the error of torch for a failed process."""
        raise ProcessRaisedException("\n\n-- Process 1 terminated:\nTraceback ...\nOSError: [Errno 28] No space left\n", 1, 2)

    monkeypatch.setattr(Trainer, "fit", fail)
    ended = train(trained, "seg", tmp_path / "out", **{"trainer.devices": 2})
    assert ended.status == 1
    assert ended.error == "a process of the training failed: OSError: [Errno 28] No space left; no epoch was finished"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("trainer.strategy=fsdp",), "trainer.strategy must be one of auto, ddp, got 'fsdp'"),
        (("trainer.devices=0",), "trainer.devices must be auto, a number of devices, or a list of their numbers, got 0"),
    ],
)
def test_wrong_devices_are_one_line(trained: Trained, tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    refused = train(trained, "seg", tmp_path / "out", *arguments)
    assert refused.status == 2
    assert refused.error.startswith(reason)
