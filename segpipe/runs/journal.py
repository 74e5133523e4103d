"""The journal of a run: results.jsonl, a line for each image, from which a broken run goes on."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe.errors import OutputError
from segpipe.io.images import display_path, write_file
from segpipe.io.strict_json import encode_json, parse_json
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
