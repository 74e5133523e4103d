"""Preparation and locking of output folders."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from segpipe.errors import OutputError
from segpipe.io.files import PARTIAL_FILES
from segpipe.io.run_files import JOURNAL, LOCK, WRITTEN_FILES


@contextmanager
def hold_output(folder: Path, *, overwrite: bool, resume: bool) -> Iterator[None]:
    """Lock and prepare the output folder of a run over images.

    Args:
        folder: Output folder; created with its parents if missing.
        overwrite: Remove the results of an earlier run.
        resume: Keep the results of an earlier run to resume it.

    Raises:
        OutputError: Another run is writing into `folder`, or `prepare_output` refuses it.
    """
    _make(folder)
    with _locked(folder):
        if not resume:
            prepare_output(folder, overwrite=overwrite)
        for partial in folder.rglob(PARTIAL_FILES):  # left by a killed run
            partial.unlink(missing_ok=True)
        yield
        Path(folder, LOCK).unlink(missing_ok=True)


def check_output(
    folder: Path, *, overwrite: bool, resume: bool = False, ckpt_path: Path | None = None, resumable: str = JOURNAL
) -> None:
    """Check quickly that an output folder can be used, without changing it.

    Args:
        folder: Output folder; need not exist.
        overwrite: Allow the removal of earlier results.
        resume: Allow earlier results of a run over images to be resumed.
        ckpt_path: Checkpoint of a training to resume; if it lies in `folder`, all earlier results stay.
        resumable: File of results that `resume=true` of this command resumes.

    Raises:
        OutputError: `folder` is a file, cannot be created or written, or holds results that no other argument allows.
    """
    try:
        # A name that is too long or leads through a file is an error; a missing folder is not.
        with suppress(FileNotFoundError):
            folder.lstat()
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise _unusable(folder, str(error.strerror)) from error
    _refuse_read_only(folder, nearest)
    if not resume:
        _refuse_results(folder, overwrite=overwrite, ckpt_path=ckpt_path, resumable=resumable)


def check_free(folder: Path) -> None:
    """Raise an OutputError if another run holds the folder."""
    if (folder / LOCK).exists():
        with _locked(folder):
            pass


def prepare_output(folder: Path, *, overwrite: bool, ckpt_path: Path | None = None) -> None:
    """Create the output folder and remove earlier results, if allowed.

    Args:
        folder: Output folder; created with its parents if missing.
        overwrite: Remove the results of an earlier run; only files that segpipe writes.
        ckpt_path: Checkpoint of a training to resume; if it lies in `folder`, all earlier results stay.

    Raises:
        OutputError: `folder` cannot be used, as for `check_output`, or an old result cannot be removed.
    """
    check_output(folder, overwrite=overwrite, ckpt_path=ckpt_path)
    _make(folder)
    if holds_training(folder, ckpt_path):
        return
    try:
        for name in find_results(folder):
            _remove(folder, WRITTEN_FILES[name])
    except OSError as error:
        raise OutputError(f"{folder}: its old results cannot be removed ({error.strerror})") from error


def _refuse_results(folder: Path, *, overwrite: bool, ckpt_path: Path | None, resumable: str) -> None:
    """Raise an OutputError for results that may not be removed or resumed."""
    found = [] if overwrite or holds_training(folder, ckpt_path) else find_results(folder)
    if found:
        raise OutputError(
            f"output must be a folder without results, got {folder} with {', '.join(found)}; "
            f"{'resume=true resumes them, ' if resumable in found else ''}overwrite=true replaces them, "
            "or name another folder"
        )


def holds_training(folder: Path, ckpt_path: Path | None) -> bool:
    """Return True if a checkpoint belongs to the training in a folder."""
    return ckpt_path is not None and ckpt_path.resolve().parent == (folder / "checkpoints").resolve()


def find_results(folder: Path) -> list[str]:
    """List the files that mark a folder as holding results."""
    return [name for name in WRITTEN_FILES if (folder / name).exists()]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a system lock, which ends with the process."""
    try:
        held = FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout as error:
        raise OutputError(f"{folder} is being written by another run; wait until it ends, or name another output") from error
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
        # Links to other folders are not followed.
        if path.parent.resolve().is_relative_to(inside) and not path.is_dir():
            path.unlink(missing_ok=True)
