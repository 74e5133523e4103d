"""Sweeps: finished jobs are skipped, interrupted jobs resume, failed jobs are listed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from conftest import CLASSIFIER, ROOT, SEGMENTER, call, small

from segpipe.bundle.folder import load_classifier, load_segmenter

pytestmark = pytest.mark.slow


@pytest.fixture
def arguments(tmp_path: Path, trained_data: Path) -> tuple[str, ...]:
    """Arguments of a sweep over trainings of a few seconds."""
    return ("-m", *small(trained_data), *CLASSIFIER, "trainer.max_epochs=1", f"output={tmp_path / 'swept'}")


@pytest.fixture(scope="module")
def trained_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps") / "data"


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a sweep in a separate process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train_cls.py"), *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(arguments: Sequence[str]) -> str:
    """Run a sweep in a separate process and return its output."""
    process = start(arguments)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out.decode()
    return out.decode()


def kill_when(process: subprocess.Popen[bytes], folder: Path, pattern: str, count: int) -> None:
    """Kill a sweep as soon as `count` files match a pattern."""
    until = time.monotonic() + 300
    while len(list(folder.glob(pattern))) < count:
        assert process.poll() is None and time.monotonic() < until, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def records(folder: Path) -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/job.json")}


def test_second_start_skips_finished_jobs_and_the_leaderboard_is_sorted_by_validation(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    folder = tmp_path / "swept"
    first = call("train_cls", *arguments, "optimizer.lr=1e-3,1e-2")
    assert first.status == 0, first.err
    table = pd.read_csv(folder / "leaderboard.csv")
    assert len(table) == 2
    assert table["val_auroc"].is_monotonic_decreasing
    assert set(table["optimizer.lr"]) == {1e-3, 1e-2}
    assert (table["seconds"] > 0).all()
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*/bundle/*")}
    assert len(stamps) == 8

    second = call("train_cls", *arguments, "optimizer.lr=1e-3,1e-2,3e-3")
    assert second.out.count("was finished before") == 2
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(pd.read_csv(folder / "leaderboard.csv")) == 3

    assert call("train_cls", *arguments, "optimizer.lr=1e-3", "overwrite=true").status == 0
    assert {path: path.stat().st_mtime_ns for path in stamps} != stamps


def test_segmenters_are_swept_like_classifiers(tmp_path: Path, trained_data: Path) -> None:
    folder = tmp_path / "swept"
    sweep = ("-m", *small(trained_data), *SEGMENTER, "trainer.max_epochs=1", f"output={folder}", "optimizer.lr=1e-3,1e-2")
    first = call("train_seg", *sweep)
    assert first.status == 0, first.err
    table = pd.read_csv(folder / "leaderboard.csv")
    assert set(table["optimizer.lr"]) == {1e-3, 1e-2}
    assert table["val_dice"].is_monotonic_decreasing
    second = call("train_seg", *sweep)
    assert second.out.count("was finished before") == 2
    assert len(load_segmenter(next(folder.glob("*/bundle"))).sha256) == 64


def test_failed_job_is_listed_and_the_others_finish(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = call("train_cls", *arguments, "classifier.name=nonsense,test_efficientnet")
    assert ended.status == 2
    assert ended.error.startswith("job 0: classifier.name must be a network that timm knows, got 'nonsense'")
    failed = pd.read_csv(tmp_path / "swept" / "failed.csv")
    assert len(failed) == 1
    assert "classifier.name=nonsense" in failed["overrides"][0]
    assert "timm knows" in failed["reason"][0]
    assert len(pd.read_csv(tmp_path / "swept" / "leaderboard.csv")) == 1


def test_killed_sweep_resumes_in_its_job(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    folder, values = tmp_path / "swept", ("optimizer.lr=1e-3,1e-2", "trainer.max_epochs=6", "trainer.patience=6")
    kill_when(start([*arguments, *values]), folder, "*/checkpoints/last.ckpt", 2)
    cut = {name: record["status"] for name, record in records(folder).items()}
    assert sorted(cut.values()) == ["finished", "running"]
    done = next(name for name, status in cut.items() if status == "finished")
    broken = next(name for name, status in cut.items() if status == "running")
    stamp = (folder / done / "job.json").stat().st_mtime_ns
    epochs = pd.read_csv(folder / broken / "metrics.csv")

    out = finish([*arguments, *values])
    assert out.count("was finished before") == 1
    assert (folder / done / "job.json").stat().st_mtime_ns == stamp
    resumed = pd.read_csv(folder / broken / "metrics.csv")
    assert len(epochs) < 6 == len(resumed)
    pd.testing.assert_frame_equal(resumed.head(len(epochs) - 1), epochs.head(len(epochs) - 1))
    assert {record["status"] for record in records(folder).values()} == {"finished"}


def test_parallel_jobs_write_both_bundles(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    finish([*arguments, "optimizer.lr=1e-3,1e-2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=64"])
    bundles = sorted((tmp_path / "swept").glob("*/bundle"))
    assert len(bundles) == 2
    assert len({load_classifier(bundle).sha256 for bundle in bundles}) == 2
    assert len(pd.read_csv(tmp_path / "swept" / "leaderboard.csv")) == 2


@pytest.mark.parametrize("launcher", ["ray", "submitit_local"])
def test_other_launchers_run_all_jobs(tmp_path: Path, arguments: tuple[str, ...], launcher: str) -> None:
    pytest.importorskip({"ray": "ray", "submitit_local": "submitit"}[launcher])
    finish([*arguments, "optimizer.lr=1e-3,1e-2", f"hydra/launcher={launcher}"])
    assert len(pd.read_csv(tmp_path / "swept" / "leaderboard.csv")) == 2


def test_killed_search_runs_only_the_remaining_trials(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    optuna = pytest.importorskip("optuna")
    search = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "optimizer.lr=tag(log,interval(1e-4,1e-1))")
    folder = tmp_path / "swept"
    kill_when(start([*arguments, *search]), folder, "*/job.json", 2)
    done = {name for name, record in records(folder).items() if record["status"] == "finished"}
    assert len(done) == 1
    stamps = {path: path.stat().st_mtime_ns for name in done for path in (folder / name).glob("bundle/*")}

    out = finish([*arguments, *search])
    assert "was finished before" not in out  # finished trials are not launched
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "optuna.journal")))
    study = optuna.load_study(study_name=None, storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert len({trial.params["optimizer.lr"] for trial in study.trials}) == 4
    table = pd.read_csv(folder / "leaderboard.csv")
    assert len(table) == 4
    assert study.best_value == pytest.approx(table["val_auroc"][0])
    assert "best of 4 trials" in finish([*arguments, *search])
    assert len(records(folder)) == 4


def test_folds_hold_out_each_lesion_once_and_exclude_the_test_part(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = call("train_cls", *arguments, "data.folds=3", "data.fold=0,1,2")
    assert ended.status == 0, ended.err
    folder = tmp_path / "swept"
    table = pd.read_csv(folder / "out_of_fold.csv")
    assert set(table["fold"]) == {0, 1, 2}
    assert table["image_id"].is_unique
    assert (table.groupby("lesion_id")["fold"].nunique() == 1).all()
    splits = [pd.read_csv(path).set_index("image_id")["part"] for path in folder.glob("*/split.csv")]
    test_part = set.intersection(*(set(split.index[split == "test"]) for split in splits))
    assert all(set(split.index[split == "test"]) == test_part for split in splits)
    assert set(table["image_id"]) == set(splits[0].index) - test_part
    assert json.loads((folder / "out_of_fold.json").read_text())["accuracy"]["value"] == pytest.approx(
        (table["diagnosis"] == table["dx"]).mean()
    )
