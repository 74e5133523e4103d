"""SHA-256 of files: an identity that survives copying, moving and rewriting."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path


def hash_file(path: str | Path | None) -> str | None:
    """Compute the SHA-256 of a file; None where there is none, or it cannot be read."""
    try:
        status = os.stat(path or "")
        return _hash_version(str(path), status.st_size, status.st_mtime_ns)
    except OSError:
        return None


def hash_files(paths: Iterable[str | None]) -> list[str | None]:
    """Compute the SHA-256 of many files, several at a time; see `hash_file`."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(hash_file, paths))


@cache
def _hash_version(path: str, size: int, changed: int) -> str:
    """One version of a file is read once in a process."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
