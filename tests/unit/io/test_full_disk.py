"""Full disks cause one error of status 1, keep the old file, and leave no partial one."""

import errno
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from segpipe.bundle.card import ClassifierBundle
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.saving import save_bundle
from segpipe.cli.call import report
from segpipe.cli.main import run_subcommand
from segpipe.config.schemas import TrainConfig
from segpipe.data.splits import write_split
from segpipe.errors import SegpipeError, WriteError
from segpipe.evaluation.plots import save_figure
from segpipe.evaluation.score import write_metrics
from segpipe.io.files import write_file
from segpipe.io.images import write_png
from segpipe.report.plots import draw_masks
from segpipe.runs.results import write_failures
from segpipe.sweep.record import JobRecord, write_record
from segpipe.training import preparation
from segpipe.training.tracking import EpochTable

FREE_BYTES = 1000  # maximum size of a file
MANY = [f"image_{number:04d}" for number in range(200)]


@contextmanager
def full_disk(free: int = FREE_BYTES) -> Iterator[None]:
    """Let the kernel limit the size of files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_epochs(path: Path) -> None:
    table = EpochTable(output=path.parent, checkpoint=None)
    for epoch in range(200):
        table.log_metrics({"epoch": epoch, "val_dice": 0.5})


def write_config(path: Path) -> None:
    preparation.write_config(path, TrainConfig(allow_change=list(MANY)))


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.bin": lambda path: write_file(path, b"x" * 5000),
    "mask.png": lambda path: write_png(path, np.random.default_rng(0).random((200, 200)) > 0.5),
    "split.csv": lambda path: write_split(path, pd.DataFrame({"image_id": MANY, "lesion_id": MANY, "part": "train"})),
    "metrics.json": lambda path: write_metrics(path, {"values": MANY}),
    "plot.png": lambda path: save_figure(Figure(), path),
    "predictions.png": lambda path: draw_masks(path, *pictures()),
    "metrics.csv": write_epochs,
    "config.yaml": write_config,
    "job.json": lambda path: write_record(JobRecord(path.parent, "running", {"notes": MANY}, [])),
    "failures.csv": lambda path: write_failures(path, dict.fromkeys(MANY, "no image")),
}


def pictures() -> tuple[list[Any], list[Any], list[str]]:
    rng = np.random.default_rng(0)
    mask = rng.random((50, 50)) > 0.5
    return [rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)], [(mask, mask)], ["one"]


@pytest.mark.parametrize("old", [None, b"previous content"], ids=["new", "old"])
@pytest.mark.parametrize("name", WRITERS)
def test_file_is_complete_or_unchanged(name: str, old: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if old is not None and name != "metrics.csv":
        path.write_bytes(old)
    with full_disk(), pytest.raises(WriteError, match="cannot be written") as refused:
        WRITERS[name](path)
    assert refused.value.exit_status == 1
    assert "\n" not in str(refused.value)
    left = {found.name: found.read_bytes() for found in tmp_path.iterdir()}
    if name == "metrics.csv":
        assert pd.read_csv(path)["val_dice"].eq(0.5).all()
        assert set(left) == {name}
    else:
        assert left == ({} if old is None else {name: old})


@pytest.mark.parametrize("name", WRITERS)
def test_file_in_place_of_a_folder_is_a_write_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(WriteError, match="cannot be written"):
        WRITERS[name](tmp_path / "file" / name)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_folder_in_place_of_a_file_is_a_write_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(WriteError, match="cannot be written"):
        write_metrics(tmp_path / "metrics.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_old_bundle_is_kept_if_the_new_one_does_not_fit(classifier: ClassifierBundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, classifier.model, classifier.card)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for size in (10_000, len(before["model.safetensors"]) - 1):
        with full_disk(size), pytest.raises(WriteError, match="bundle cannot be written"):
            save_bundle(folder, classifier.model, replace(classifier.card, licence="another"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    load_classifier(folder)


def test_card_that_does_not_fit_leaves_no_bundle(classifier: ClassifierBundle, tmp_path: Path) -> None:
    card = replace(classifier.card, metrics={"notes": "x" * 3_000_000})
    with full_disk(2_000_000), pytest.raises(WriteError, match="bundle cannot be written"):
        save_bundle(tmp_path / "bundle", classifier.model, card)
    assert list(tmp_path.iterdir()) == []


def test_bundle_is_restored_if_its_replacement_fails(
    classifier: ClassifierBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, classifier.model, classifier.card)
    move = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return move(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(WriteError, match="Input/output error"):
        save_bundle(folder, classifier.model, classifier.card)
    load_classifier(folder)


def test_other_files_in_a_bundle_folder_are_kept(classifier: ClassifierBundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for _ in range(2):
        save_bundle(folder, classifier.model, classifier.card)
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.safetensors", "notes.txt"]


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EROFS", "EIO", "EACCES", "EFBIG", "EMFILE"])
def test_any_disk_error_is_one_line_with_status_1(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(getattr(errno, code), os.strerror(getattr(errno, code)), "somewhere/file")
    assert report(error, [], ()) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: somewhere/file: ") and stderr.count("\n") == 1


@pytest.mark.parametrize("code", ["ENOSPC", "EROFS", "EACCES"])
def test_disk_error_of_a_job_is_one_line_with_status_1(
    code: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from segpipe.cli import data

    monkeypatch.chdir(tmp_path)
    number = getattr(errno, code)

    def fail(config: object, output: Path) -> None:
        raise OSError(number, os.strerror(number), "somewhere/file")

    monkeypatch.setattr(data, "process", fail)
    assert run_subcommand("predict", ["image=a.jpg"], ["segpipe", "predict"]) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: somewhere/file: ") and stderr.count("\n") == 1


def test_other_system_errors_stay_bugs(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ConnectionResetError(errno.ECONNRESET, "reset"), [], ()) == 1
    assert "ConnectionResetError" in capsys.readouterr().err


def test_closed_pipe_is_not_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(BrokenPipeError(errno.EPIPE, "Broken pipe"), [], (OSError,)) == 1
    assert capsys.readouterr().err == ""


def test_write_error_has_exit_status_1() -> None:
    assert issubclass(WriteError, SegpipeError)
    assert json.dumps(SimpleNamespace(status=WriteError.exit_status).status) == "1"
