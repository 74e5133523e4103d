"""The journal of a run: results.jsonl, a line for each image, from which a broken run goes on."""

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe.errors import OutputError, RunStoppedError
from segpipe.inference.finding import Finding
from segpipe.io.images import display_path, write_file
from segpipe.io.strict_json import encode_json, parse_json
from segpipe.runs.image_jobs import Double, Failure, Outcome, Result
from segpipe.runs.results import Row

JOURNAL = "results.jsonl"


def run_key(identity: Mapping[str, Any]) -> str:
    """A short hash of all that the results of a run depend on, beside the image itself: its settings and its bundles."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


class Journal:
    """Lines that are appended whole, and stay whatever happens to the process or the machine.

    Each line is a row of the results with the key of its run beside it.

    Args:
        folder: of the run.
        key: see `run_key`.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / JOURNAL
        self.key = key

    def read(self) -> dict[str, dict[str, Any]]:
        """The rows by their path, the last one where a path has several.

        A line that is torn, as a crash of the machine leaves it, is taken out of the file; its image is then done again.

        Raises:
            OutputError: the journal cannot be read.
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
        """Write rows down, all of them or none, and wait until the disk has them.

        Raises:
            OutputError: they cannot be written; the journal is as it was.
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
    """On a disk that is nearly full a write may take a part only, and the next one tells why."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"path", "sha256", "run"} <= set(row) else None


# Of the disk, not of one file: going on would only lose time.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO}


class Recorder:
    """Writes outcomes as they come.

    Args:
        folder: of the run.
        journal: of the run.
        failures: reasons by path, of what is known not to be usable before the run.

    Attributes:
        written: number of images whose results came to the journal.
        failures: reasons by path.
        model_failed: there is a sound file for which a model gave a number that is not finite.
        shown: findings that were asked for, by path.
    """

    def __init__(self, folder: Path, journal: Journal, failures: Mapping[str, str]) -> None:
        self.written = 0
        self.failures = dict(failures)
        self.model_failed = False
        self.shown: dict[str, Finding] = {}
        self._folder = folder
        self._journal = journal
        self._doubles: list[Double] = []

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Write the outcomes of one batch.

        Raises:
            RunStoppedError: the disk is full or broken; what was written before is whole.
        """
        rows = [outcome.row for outcome in outcomes if isinstance(outcome, Result) and self._write_pictures(outcome)]
        self._append(rows)
        failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        self.failures |= {failure.path: failure.reason for failure in failures}
        self.model_failed |= any(failure.by_model for failure in failures)
        self._doubles += [outcome for outcome in outcomes if isinstance(outcome, Double)]

    def record_doubles(self, names: Mapping[str, Path], endings: Mapping[str, str]) -> None:
        """Report what was done once for each other path with the same content, when all else is written.

        Args:
            names: of the pictures of each image, by its path.
            endings: of the files in each folder of pictures, see `PictureOptions.endings`.

        Raises:
            RunStoppedError: the disk is full or broken.
        """
        rows = self._journal.read() if self._doubles else {}
        copies = []
        for double in self._doubles:
            row = rows.get(double.first)
            if double.first in self.failures:
                self.failures[double.path] = f"{self.failures[double.first]} (the same content as {double.first})"
            elif row is None or row["sha256"] != double.sha256:
                self.failures[double.path] = f"had the content of {double.first}, which has changed since; resume=true does it"
            else:
                self._copy_pictures(names[double.first], names[double.path], endings)
                copies.append({**row, "path": double.path})
        self._append(copies)
        self._doubles.clear()

    def _write_pictures(self, result: Result) -> bool:
        """Write the pictures of an image; false where the file system refuses one, which is then its failure."""
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
