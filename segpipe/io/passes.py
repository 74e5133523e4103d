"""Passes over many files, with stored results; progress of any work.

A result belongs to a version of a file, identified by path, size, and times of modification and change.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from filelock import FileLock

from segpipe.errors import WriteError
from segpipe.io.files import encode_json, read_json, write_file

if TYPE_CHECKING:
    from tqdm import tqdm

FORMAT_VERSION = 1  # of the files, and of what the passes compute
_AHEAD = 256

Files = tuple[str | None, ...]
_FOLDER: ContextVar[Path | None] = ContextVar("folder of kept results", default=None)

SECONDS_BETWEEN_LINES = 30.0
_SILENT_SECONDS = 3.0

Item = TypeVar("Item")


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


def results_folder() -> Path | None:
    """Return the folder of `keeping_results`; None outside of such a block."""
    return _FOLDER.get()


def pass_over(name: str, items: Sequence[Files], compute: Callable[..., Any], *, what: str) -> list[Any]:
    """Compute or look up a result for each item of files.

    Args:
        name: Name of the pass, and of the file of its results.
        items: Paths of the files of each item.
        compute: Function of the paths of an item; its result must be a JSON value, or None, which is not stored.
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
    _add(name, {key: [missing[key][1], value] for key, value in computed.items() if value is not None})
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


class Progress:
    """Counter of images; use it in a `with` block.

    A terminal gets a bar, a log file a line now and then.

    Args:
        total: Number of images; nothing is shown for fewer than two.
        what: Name of the work, shown before the numbers.
        silent: Seconds before the bar appears.
        lines: Seconds before the first line of a log file, and between two; None for a few seconds and `SECONDS_BETWEEN_LINES`.
    """

    def __init__(self, total: int, what: str = "", *, silent: float = 0.0, lines: tuple[float, float] | None = None) -> None:
        self._total = total
        self._what = f"{what}: " if what else ""
        first, self._pause = lines or (_SILENT_SECONDS, SECONDS_BETWEEN_LINES)
        self._done = 0
        self._started = time.monotonic()
        self._next_line = self._started + first
        self._bar = _start_bar(total, what, silent) if total > 1 else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def update(self, images: int, *, failed: int = 0, note: str = "") -> None:
        """Count more images.

        Args:
            images: Number of images that were finished since the last call, failed ones included.
            failed: Number of all images that have failed so far.
            note: Text behind the numbers.
        """
        if self._bar is None:
            return
        self._done += images
        notes = [text for text in (f"{failed} failed" if failed else "", note) if text]
        self._bar.set_postfix_str(", ".join(notes), refresh=False)
        self._bar.update(images)
        now = time.monotonic()
        # tqdm itself is silent without a terminal: its bar would fill a log file with carriage returns.
        if self._bar.disable and 0 < self._done < self._total and now >= self._next_line:
            self._next_line = now + self._pause
            rate = self._done / (now - self._started)
            left = self._bar.format_interval((self._total - self._done) / rate)
            numbers = [f"{self._done} of {self._total} images", f"{rate:.1f} images/s", *notes, f"{left} left"]
            _write_line(self._what + ", ".join(numbers))


def _start_bar(total: int, what: str, silent: float) -> "tqdm[NoReturn]":
    from tqdm import tqdm  # imported late: a single image needs no bar

    return tqdm(total=total, desc=what or None, unit=" images", disable=None, leave=False, delay=silent)


def _write_line(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def follow(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield items and show the progress of their consumer.

    Args:
        items: Items, one for each image.
        total: Number of items.
        what: Name of the work.
    """
    with Progress(total, what, silent=_SILENT_SECONDS) as progress:
        for item in items:
            yield item
            progress.update(1)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show the elapsed time of work of unknown length.

    Use it in a `with` block, within which nothing else is shown. Work of less than a few seconds shows nothing.

    Args:
        what: Name of the work.
    """
    ended = threading.Event()
    clock = threading.Thread(target=_show_time, args=(what, ended), daemon=True)
    clock.start()
    try:
        yield
    finally:
        ended.set()
        clock.join()


def _show_time(what: str, ended: threading.Event) -> None:
    started = time.monotonic()
    if ended.wait(_SILENT_SECONDS):
        return
    from tqdm import tqdm

    with tqdm(desc=what, bar_format="{desc}: {elapsed}", disable=None, leave=False) as bar:
        if bar.disable:
            _write_line(f"{what} ...")
            while not ended.wait(SECONDS_BETWEEN_LINES):
                _write_line(f"{what}: {bar.format_interval(time.monotonic() - started)}")
            return
        bar.start_t -= _SILENT_SECONDS
        bar.refresh()
        while not ended.wait(1.0):
            bar.refresh()
