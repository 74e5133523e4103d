"""Output folders are created, refused if they hold results, and cleared of results only."""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from segpipe.config.prediction import RunPipelineConfig
from segpipe.config.schemas import TrainConfig
from segpipe.errors import OutputError
from segpipe.io.output import check_free, check_output, find_results, hold_output, prepare_output
from segpipe.workflows import prediction, training


def write_files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_output_is_created_with_its_parents_and_may_be_prepared_twice(tmp_path: Path) -> None:
    for overwrite in (False, True, False):
        prepare_output(tmp_path / "a" / "b", overwrite=overwrite)
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["results.jsonl", "results.csv", "checkpoints/last.ckpt", "bundle/card.json"])
def test_results_are_refused_and_kept(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, name)
    with pytest.raises(OutputError, match=rf"output must be a folder without results, got .* with {name}; .*overwrite=true"):
        prepare_output(tmp_path, overwrite=False)
    assert files_in(tmp_path) == {name}
    assert find_results(tmp_path) == [name]


def test_overwrite_removes_only_files_of_a_run(tmp_path: Path) -> None:
    tables = ("results.jsonl", "results.csv", "failures.csv", "submission.csv", "summary.json", "metrics.json")
    pages = ("report.html", "report/pages/a/b.html", "report/pages/c.htm", "report/thumbnails/a/b.jpg", "report/heatmaps/c.jpg")
    run = (*tables, *pages, "masks/a/b.png", "plots/d.png")
    foreign = {"notes.txt", "masks/mine.txt", "results.xlsx", "photos/a.png", "bundle/mine.json", "split.csv", "report/mine.html"}
    write_files(tmp_path, *run, *foreign)
    prepare_output(tmp_path, overwrite=True)
    assert files_in(tmp_path) == foreign
    prepare_output(tmp_path, overwrite=False)


def test_overwrite_removes_only_files_of_a_training(tmp_path: Path) -> None:
    training = ("config.yaml", "split.csv", "metrics.csv", "checkpoints/last.ckpt", "bundle/card.json", "test/metrics.json")
    more = ("bundle/model.safetensors", "test/predictions.png", "test/results.csv", "test/masks/a.png")
    run = "wandb/offline-run-20260102_030405-abc"
    trackers = (
        "tensorboard/events.out.tfevents.1.host.2.0",
        "mlflow/mlflow.db",
        "wandb/run_id",
        f"{run}/run-abc.wandb",
        f"{run}/logs/a.log",
    )
    foreign = {"masks/truth.png", "metrics.json", "tensorboard/notes.txt", "mlflow/other.db", "wandb/settings"}
    write_files(tmp_path, *training, *more, *trackers, *foreign)
    prepare_output(tmp_path, overwrite=True)
    assert files_in(tmp_path) == foreign
    prepare_output(tmp_path, overwrite=False)


def test_overwrite_does_not_follow_links_out_of_the_folder(tmp_path: Path) -> None:
    write_files(tmp_path / "elsewhere", "truth.png")
    write_files(tmp_path / "out", "results.csv")
    (tmp_path / "out" / "masks").symlink_to(tmp_path / "elsewhere")
    prepare_output(tmp_path / "out", overwrite=True)
    assert files_in(tmp_path / "elsewhere") == {"truth.png"} and not (tmp_path / "out" / "results.csv").exists()


@pytest.mark.parametrize(("name", "reason"), [("out", "Not a directory"), ("out/below", "Not a directory")])
def test_file_in_place_of_output_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    write_files(tmp_path, "out")
    with pytest.raises(OutputError, match=f"output must be a folder to write into, got .*{name}: {reason}; name another one"):
        prepare_output(tmp_path / name, overwrite=True)


def test_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # because root may write everywhere
    with pytest.raises(OutputError, match=r"output must be a folder to write into, got .*, which is read-only; name another one"):
        prepare_output(tmp_path, overwrite=False)


def test_locked_output_is_refused_until_released(tmp_path: Path) -> None:
    write_files(tmp_path, "results.jsonl")
    with hold_output(tmp_path, overwrite=False, resume=True):
        for given in ({"overwrite": True, "resume": False}, {"overwrite": False, "resume": True}):
            with (
                pytest.raises(OutputError, match="is being written by another run; wait until it ends"),
                hold_output(tmp_path, **given),
            ):
                pass
        assert (tmp_path / "results.jsonl").exists()
    with pytest.raises(RuntimeError, match="mine"), hold_output(tmp_path, overwrite=True, resume=False):
        assert not (tmp_path / "results.jsonl").exists()
        raise RuntimeError("mine")
    with hold_output(tmp_path, overwrite=False, resume=False):
        pass


def test_partial_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    ours = {f".{'a' * 32}.part", f"masks/sub/.{'0123456789abcdef' * 2}.part"}
    others = {"results.jsonl", "masks/.mine.part", f"{'a' * 32}.part", "masks/a.png"}
    write_files(tmp_path, *ours, *others)
    with hold_output(tmp_path, overwrite=False, resume=True):
        assert files_in(tmp_path) == others | {".lock"}


def test_lock_needs_resume_or_overwrite_for_existing_results(tmp_path: Path) -> None:
    write_files(tmp_path, "results.jsonl")
    with (
        pytest.raises(OutputError, match="resume=true resumes them, overwrite=true replaces them"),
        hold_output(tmp_path, overwrite=False, resume=False),
    ):
        pass
    with hold_output(tmp_path / "new" / "one", overwrite=False, resume=True):
        assert (tmp_path / "new" / "one").is_dir()


def states(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("name", ["results.jsonl", "results.csv", "checkpoints/last.ckpt", "bundle/card.json"])
def test_check_refuses_results_and_changes_nothing(tmp_path: Path, name: str) -> None:
    write_files(tmp_path / "out", name)
    before = states(tmp_path)
    with pytest.raises(OutputError, match=f"folder without results, got .*out with {name}"):
        check_output(tmp_path / "out", overwrite=False)
    check_output(tmp_path / "out", overwrite=True)
    check_output(tmp_path / "out", overwrite=False, resume=True)
    check_output(tmp_path / "out", overwrite=False, ckpt_path=tmp_path / "out" / "checkpoints" / "last.ckpt")
    check_output(tmp_path / "new" / "deep", overwrite=False)
    assert states(tmp_path) == before


def test_check_refuses_unusable_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/below", "broken", "broken/below", "a" * 300):
        with pytest.raises(OutputError, match="output must be a folder to write into"):
            check_output(tmp_path / name, overwrite=True)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="read-only"):
        check_output(tmp_path / "new", overwrite=False)


def test_check_refuses_a_folder_locked_by_another_run(tmp_path: Path) -> None:
    with (
        hold_output(tmp_path, overwrite=False, resume=False),
        pytest.raises(OutputError, match="is being written by another run"),
    ):
        check_output(tmp_path, overwrite=False)  # a sweep job locks its folder itself
        check_free(tmp_path)
    (tmp_path / ".lock").touch()  # left by a killed run
    check_free(tmp_path)


@pytest.mark.parametrize(
    ("module", "later", "run"),
    [
        (prediction, "choose_images", lambda output: prediction.run(RunPipelineConfig(), output)),
        (training, "keep_freed_memory", lambda output: training.run_segmenter_training(TrainConfig(), output, say=print)),
        (training, "keep_freed_memory", lambda output: training.run_classifier_training(TrainConfig(), output, say=print)),
    ],
    ids=["prediction", "segmenter_training", "classifier_training"],
)
def test_scripts_refuse_their_output_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, later: str, run: Callable[[Path], object]
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("output must be refused before this step")

    monkeypatch.setattr(module, later, fail)
    write_files(tmp_path, "results.csv")
    with pytest.raises(OutputError, match="folder without results"):
        run(tmp_path)
