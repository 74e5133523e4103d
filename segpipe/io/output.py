"""The output folder of a run: the results of two runs never mix."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from segpipe.errors import OutputError

LOCK = ".lock"
_HALF_WRITTEN = f".{'[0-9a-f]' * 32}.part"  # see `segpipe.io.images.write_file`

_PIPELINE_FILES = (
    *("results.jsonl", "results.csv", "failures.csv", "submission.csv", "summary.json", "metrics.json", "report.html"),
    *(f"{folder}/**/*.png" for folder in ("masks", "figures", "crops", "heatmaps", "plots")),
    *(f"report/{folder}/**/*.jpg" for folder in ("thumbnails", "photographs", "crops", "heatmaps")),
    *(f"report/pages/**/*.{ending}" for ending in ("html", "htm")),
)
_TRAINING_FILES = (
    *("config.yaml", "split.csv", "metrics.csv", "checkpoints/*.ckpt", "checkpoints/*.part", "found_masks/*.png"),
    *("teachers/*.npy", "tensorboard/events.out.tfevents.*", "tensorboard/hparams.yaml", "mlflow/run_id", "mlflow/mlflow.db*"),
    *("wandb/run_id", "wandb/debug*.log", "wandb/*run-*/**/*"),
    *("bundle/model.safetensors", "bundle/card.json", "out_of_fold.csv"),
    *(f"{folder}/{pattern}" for folder in ("test", "out_of_fold") for pattern in ("predictions.png", *_PIPELINE_FILES)),
)
# What shows that a folder holds results, and which files it then holds; `masks` beside a training, say, are not ours.
_WRITTEN_FILES = {
    "results.jsonl": _PIPELINE_FILES,
    "results.csv": _PIPELINE_FILES,
    "checkpoints/last.ckpt": _TRAINING_FILES,
    "bundle/card.json": _TRAINING_FILES,
}


@contextmanager
def hold_output(folder: Path, *, overwrite: bool, resume: bool) -> Iterator[None]:
    """Have the output folder of a run over images to oneself, made ready as by `prepare_output`.

    Args:
        folder: made with its parents where it does not exist.
        overwrite: remove the results of an earlier run.
        resume: keep them, for the run to go on with.

    Raises:
        OutputError: another run writes into `folder` now, or as for `prepare_output`.
    """
    _make(folder)
    with _locked(folder):
        if not resume:
            prepare_output(folder, overwrite=overwrite)
        for half_written in folder.rglob(_HALF_WRITTEN):  # by a run that was killed
            half_written.unlink(missing_ok=True)
        yield
        Path(folder, LOCK).unlink(missing_ok=True)


def check_output(folder: Path, *, overwrite: bool, resume: bool = False, ckpt_path: Path | None = None) -> None:
    """Refuse an output folder that cannot be used, and change nothing: it takes no time, so it comes before all that does.

    Args:
        folder: need not exist.
        overwrite: the results of an earlier run may be removed.
        resume: they may be kept, for a run over images to go on with.
        ckpt_path: the checkpoint that a training goes on from; where it lies in `folder`, all that is there stays.

    Raises:
        OutputError: `folder` is a file, cannot be made or written, or holds results that none of the other arguments allows for.
    """
    try:
        # A name that is too long or leads through a file is an error of its own, a folder that is not there is none.
        with suppress(FileNotFoundError):
            folder.lstat()
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise _unusable(folder, str(error.strerror)) from error
    _refuse_read_only(folder, nearest)
    if not resume:
        _refuse_results(folder, overwrite=overwrite, ckpt_path=ckpt_path)


def check_free(folder: Path) -> None:
    """Raise an OutputError where a run over images writes into a folder now; see `hold_output`."""
    if (folder / LOCK).exists():
        with _locked(folder):
            pass


def prepare_output(folder: Path, *, overwrite: bool, ckpt_path: Path | None = None) -> None:
    """Make the output folder, and see that it holds no results, or those of the very training that goes on.

    Args:
        folder: made with its parents where it does not exist.
        overwrite: remove the results of an earlier run; only files that segpipe writes, never anything else.
        ckpt_path: the checkpoint that a training goes on from; where it lies in `folder`, all that is there stays.

    Raises:
        OutputError: as for `check_output`, or an old result cannot be removed.
    """
    check_output(folder, overwrite=overwrite, ckpt_path=ckpt_path)
    _make(folder)
    if holds_training(folder, ckpt_path):
        return
    try:
        for name in find_results(folder):
            _remove(folder, _WRITTEN_FILES[name])
    except OSError as error:
        raise OutputError(f"{folder}: its old results cannot be removed ({error.strerror})") from error


def _refuse_results(folder: Path, *, overwrite: bool, ckpt_path: Path | None) -> None:
    """Raise an OutputError where a folder holds results that may not be removed and that no training resumes."""
    found = [] if overwrite or holds_training(folder, ckpt_path) else find_results(folder)
    if found:
        raise OutputError(
            f"output must be a folder without results, got {folder} with {', '.join(found)}; "
            f"{'resume=true goes on with them, ' if 'results.jsonl' in found else ''}overwrite=true replaces them, "
            "or name another folder"
        )


def holds_training(folder: Path, ckpt_path: Path | None) -> bool:
    """Whether a checkpoint is that of the training in a folder, so that it resumes there."""
    return ckpt_path is not None and ckpt_path.resolve().parent == (folder / "checkpoints").resolve()


def find_results(folder: Path) -> list[str]:
    """The files by which a folder shows that it holds the results of a run or of a training."""
    return [name for name in _WRITTEN_FILES if (folder / name).exists()]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the system's lock, which ends with the process whatever ends it; the file that a killed run leaves locks nothing."""
    try:
        held = FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout as error:
        raise OutputError(f"{folder} is being written by another run; wait for its end, or name another output") from error
    with held:
        yield


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, str(error.strerror)) from error
    _refuse_read_only(folder, folder)


def _refuse_read_only(folder: Path, nearest: Path) -> None:
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"output must be a folder to write into, got {folder}, which is read-only; name another one")


def _unusable(folder: Path, reason: str) -> OutputError:
    return OutputError(f"output must be a folder to write into, got {folder}: {reason}; name another one")


def _remove(folder: Path, patterns: tuple[str, ...]) -> None:
    inside = folder.resolve()
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        # Behind a link to another folder nothing is ours.
        if path.parent.resolve().is_relative_to(inside) and not path.is_dir():
            path.unlink(missing_ok=True)
