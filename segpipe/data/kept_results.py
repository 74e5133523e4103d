"""Stored results of passes over the files of a data set.

They are kept next to the cache of decoded images. A result belongs to a version of a file, identified by path, size, and
times of modification and change.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from filelock import FileLock

from segpipe.errors import WriteError
from segpipe.io.files import encode_json, read_json, write_file
from segpipe.io.progress import follow

FORMAT_VERSION = 1  # of the files, and of what the passes compute
_AHEAD = 256

Files = tuple[str | None, ...]
_FOLDER: ContextVar[Path | None] = ContextVar("folder of kept results", default=None)


@contextmanager
def keeping_results(cache: str | None) -> Iterator[None]:
    """Store the results of passes in a folder, within a `with` block.

    Args:
        cache: Folder; None stores nothing.
    """
    token = _FOLDER.set(None if cache is None else Path(cache).resolve())
    try:
        yield
    finally:
        _FOLDER.reset(token)


def pass_over(name: str, items: Sequence[Files], compute: Callable[..., Any], *, what: str) -> list[Any]:
    """Compute or look up a result for each item of files.

    Args:
        name: Name of the pass, and of the file of its results.
        items: Paths of the files of each item.
        compute: Function of the paths of an item; its result must be a JSON value.
        what: Name of the work, shown with its progress.

    Returns:
        Results in the order of the items.
    """
    known = _read(name)
    keys = ["\n".join(os.path.abspath(path) if path else "" for path in files) for files in items]
    versions = [[_version(path) for path in files] for files in items]
    found = {key: known[key][1] for key, version in zip(keys, versions, strict=True) if known.get(key, [None])[0] == version}
    missing = {key: (files, version) for key, files, version in zip(keys, items, versions, strict=True) if key not in found}
    computed = dict(zip(missing, _compute([files for files, _ in missing.values()], compute, what), strict=True))
    _add(name, {key: [missing[key][1], value] for key, value in computed.items()})
    return [found[key] if key in found else computed[key] for key in keys]


def keep(name: str, key: Callable[[], str], compute: Callable[[], Any]) -> Any:
    """Compute a single result, or look it up.

    Args:
        name: Name of the pass, and of the file of its results.
        key: Function that returns a hash of everything the result depends on.
        compute: Function that returns a JSON value.
    """
    if _FOLDER.get() is None:
        return compute()
    known, text = _read(name), key()
    if text not in known:
        known[text] = compute()
        _add(name, {text: known[text]})
    return known[text]


def _version(path: str | None) -> list[int] | None:
    """Return size and times of a file; None for a missing file."""
    try:
        status = os.stat(path or "")
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _compute(items: Sequence[Files], compute: Callable[..., Any], what: str) -> list[Any]:
    """Compute results in threads, a few items ahead.

    The limit keeps an error from waiting for all other items.
    """
    with ThreadPoolExecutor() as pool:
        chunks = (items[start : start + _AHEAD] for start in range(0, len(items), _AHEAD))
        results = (result for chunk in chunks for result in pool.map(lambda files: compute(*files), chunk))
        return list(follow(results, len(items), what))


def _read(name: str) -> dict[str, Any]:
    """Read stored results; empty if missing, damaged or of another version."""
    folder = _FOLDER.get()
    if folder is None:
        return {}
    with suppress(OSError, ValueError, RecursionError, AttributeError):
        content = read_json(folder / f"{name}.json")
        if content.get("version") == FORMAT_VERSION and isinstance(content.get("results"), dict):
            results: dict[str, Any] = content["results"]
            return results
    return {}


def _add(name: str, results: Mapping[str, Any]) -> None:
    """Add results to the stored ones, which other processes may also do."""
    folder = _FOLDER.get()
    if folder is None or not results:
        return
    # An unwritable folder only costs time here; the cache itself reports it.
    with suppress(OSError, ValueError, WriteError):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            content = {"version": FORMAT_VERSION, "results": {**_read(name), **results}}
            write_file(folder / f"{name}.json", encode_json(content, indent=None))
