"""Outcomes of image jobs, their recorder, and the journal results.jsonl."""

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.errors import OutputError, RunStoppedError
from segpipe.inference.finding import Finding
from segpipe.io.files import display_path, encode_json, parse_json, write_file
from segpipe.io.run_files import JOURNAL
from segpipe.runs.results import Row

# Errors of the disk, not of one file, after which a run stops.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO}


@dataclass(frozen=True)
class Result:
    """A processed image.

    Attributes:
        row: Row of the image, see `Finding.to_dict`.
        pictures: Content of each picture by its path below the output folder.
        finding: Finding of a job that is shown; None for the others.
    """

    row: dict[str, Any]
    pictures: Mapping[Path, bytes]
    finding: Finding | None


@dataclass(frozen=True)
class Failure:
    """A file without a result.

    Attributes:
        path: Path of the file.
        reason: Reason as text.
        by_model: True where the file is sound, but a model returned a number that is not finite.
    """

    path: str
    reason: str
    by_model: bool = False


@dataclass(frozen=True)
class Duplicate:
    """A file with the content of another one.

    Attributes:
        path: Path of the file.
        sha256: SHA-256 of the content.
        first: Path of the file that is processed.
    """

    path: str
    sha256: str
    first: str


@dataclass(frozen=True)
class AlreadyFinished:
    """A file that has its results already."""

    path: str


Outcome = Result | Failure | Duplicate | AlreadyFinished


def run_key(identity: Mapping[str, Any]) -> str:
    """Hash the settings and bundles of a run to a short key."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


class Journal:
    """File of result rows from which an interrupted run resumes.

    Rows are appended as whole lines, each with the key of its run, and survive a crash of the process or the machine.

    Args:
        folder: Output folder of the run.
        key: Key of the run, see `run_key`.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / JOURNAL
        self.key = key

    def read(self) -> dict[str, dict[str, Any]]:
        """Read the last row of each path.

        Incomplete lines, left by a crash of the machine, are removed from the file; their images are then processed again.

        Raises:
            OutputError: The journal cannot be read.
        """
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise OutputError(f"{display_path(self.path)}: cannot be read ({error.strerror})") from error
        lines = content.splitlines(keepends=True)
        rows = [_parse(line) for line in lines]
        if None in rows:
            write_file(self.path, b"".join(line for line, row in zip(lines, rows, strict=True) if row is not None))
        return {row["path"]: row for row in rows if row is not None}

    def append(self, rows: Sequence[Row]) -> None:
        """Append all rows or none, synchronized to the disk.

        Raises:
            OutputError: The rows cannot be written; the journal is unchanged.
        """
        lines = [encode_json({**row, "run": self.key}, indent=None) for row in rows]
        try:
            with self.path.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    _write_all(file.fileno(), b"".join(lines))
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise OutputError(f"{display_path(self.path)}: cannot be written ({error.strerror})") from error


def _write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes, of which one call may write a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"path", "sha256", "run"} <= set(row) else None


class Recorder:
    """Writer of outcomes to the journal and the picture folders.

    Args:
        folder: Output folder of the run.
        journal: Journal of the run.
        failures: Reasons by path, of files that are known to be unusable before the run.

    Attributes:
        written: Number of images whose rows were written.
        failures: Reasons by path.
        model_failed: True where a model returned a number that is not finite for a sound file.
        shown: Findings of jobs that are shown, by path.
    """

    def __init__(self, folder: Path, journal: Journal, failures: Mapping[str, str]) -> None:
        self.written = 0
        self.failures = dict(failures)
        self.model_failed = False
        self.shown: dict[str, Finding] = {}
        self._folder = folder
        self._journal = journal
        self._duplicates: list[Duplicate] = []

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Write the outcomes of one batch.

        Raises:
            RunStoppedError: The disk is full or broken; earlier results are complete.
        """
        rows = [outcome.row for outcome in outcomes if isinstance(outcome, Result) and self._write_pictures(outcome)]
        self._append(rows)
        failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        self.failures |= {failure.path: failure.reason for failure in failures}
        self.model_failed |= any(failure.by_model for failure in failures)
        self._duplicates += [outcome for outcome in outcomes if isinstance(outcome, Duplicate)]

    def record_duplicates(self, names: Mapping[str, Path], endings: Mapping[str, str]) -> None:
        """Copy results to all duplicate files, after all other outcomes are recorded.

        Args:
            names: Name of the pictures of each image, by its path.
            endings: Ending of the files in each folder of pictures, see `PictureOptions.endings`.

        Raises:
            RunStoppedError: The disk is full or broken.
        """
        rows = self._journal.read() if self._duplicates else {}
        copies = []
        for duplicate in self._duplicates:
            first, path = duplicate.first, duplicate.path
            row = rows.get(first)
            if first in self.failures:
                self.failures[path] = f"{self.failures[first]} (the same content as {first})"
            elif row is None or row["sha256"] != duplicate.sha256:
                self.failures[path] = f"had the content of {first}, which has changed since; use resume=true to process it"
            else:
                self._copy_pictures(names[first], names[path], endings)
                copies.append({**row, "path": path})
        self._append(copies)
        self._duplicates.clear()

    def _write_pictures(self, result: Result) -> bool:
        """Write the pictures of an image; False where one cannot be written."""
        path = result.row["path"]
        try:
            for name, content in result.pictures.items():
                write_file(self._folder / name, content)
        except OutputError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _DISK_ERRORS:
                raise RunStoppedError(str(error)) from error
            self.failures[path] = f"its pictures cannot be written: {error}"
            return False
        if result.finding is not None:
            self.shown[path] = result.finding
        return True

    def _copy_pictures(self, first: Path, name: Path, endings: Mapping[str, str]) -> None:
        for folder, ending in endings.items():
            picture = self._folder / folder / first.with_suffix(ending)
            if picture.is_file():
                write_file(self._folder / folder / name.with_suffix(ending), picture.read_bytes())

    def _append(self, rows: Sequence[Row]) -> None:
        try:
            if rows:
                self._journal.append(rows)
                self.written += len(rows)
        except OutputError as error:
            raise RunStoppedError(str(error)) from error
