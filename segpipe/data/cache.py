"""Decoded examples, kept on disk as plain arrays, so that an epoch reads pixels instead of decoding photographs."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from segpipe.data.fingerprints import hash_files
from segpipe.errors import OutputError
from segpipe.io.images import display_path

FORMAT_VERSION = 1
_SILENT_SECONDS = 3.0
_DECODED_AHEAD = 256

Arrays = tuple[NDArray[np.uint8], ...]


class Decoding(Protocol):
    """How an example is made of its files.

    Its `repr` is a part of the cache's key: it must tell everything on which the arrays depend, beside the files.
    """

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of each array of an example, in order."""

    def __call__(self, image_path: str, mask_path: str | None) -> Arrays:
        """The arrays of one example, uint8."""


class ExampleSource(Protocol):
    """Examples by their index, as arrays that belong to the caller; it can be sent to a worker process."""

    def __len__(self) -> int:
        """Number of examples."""

    def __getitem__(self, index: int) -> Arrays:
        """The arrays of one example, uint8."""


class DecodedExamples:
    """Decodes an example whenever it is asked for.

    Args:
        files: image and mask of each example; None where there is no mask.
        decoding: what is made of them.
    """

    def __init__(self, files: Sequence[tuple[str, str | None]], decoding: Decoding) -> None:
        self._files = files
        self._decoding = decoding

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Arrays:
        return self._decoding(*self._files[index])


class StoredExamples:
    """Reads an example from the arrays of a cache entry, which are mapped into memory, read-only.

    Args:
        folder: of the entry.
        names: of its arrays, in order.

    Raises:
        OutputError: the entry is damaged.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._arguments = (folder, tuple(names))
        try:
            # Not np.load, which takes other files than arrays.
            self._arrays = [np.lib.format.open_memmap(folder / f"{name}.npy", mode="r") for name in names]
        except (OSError, ValueError) as error:
            raise OutputError(
                f"data.cache holds a damaged entry, {display_path(folder)} ({error}); delete that folder and start again"
            ) from error

    def __reduce__(self) -> tuple[Callable[..., "StoredExamples"], tuple[Any, ...]]:
        """A worker maps the files itself, instead of being sent a copy of them."""
        return StoredExamples, self._arguments

    def __len__(self) -> int:
        return len(self._arrays[0])

    def __getitem__(self, index: int) -> Arrays:
        return tuple(np.array(array[index]) for array in self._arrays)


def open_examples(table: pd.DataFrame, decoding: Decoding, *, cache: str | None) -> ExampleSource:
    """The examples of a table, from the cache; what is not in it yet is decoded and stored first.

    Several processes may ask for the same examples at once: one stores them, the others wait.

    Args:
        table: rows with `image_id`, `image_path` and `mask_path`, which is None where there is no mask.
        decoding: what is made of each row.
        cache: folder of the entries, made where it does not exist; None decodes each time.

    Raises:
        OutputError: the cache cannot be written, or its entry is damaged.
        ImageError: a file cannot be decoded.
    """
    files = list(zip(table["image_path"], table["mask_path"], strict=True))
    examples = DecodedExamples(files, decoding)
    if cache is None:
        return examples
    entry = Path(cache).resolve() / entry_name(list(table["image_id"]), files, decoding)
    if not entry.is_dir():
        _store(entry, examples, decoding.shapes)
    return StoredExamples(entry, list(decoding.shapes))


def entry_name(image_ids: Sequence[str], files: Sequence[tuple[str, str | None]], decoding: object) -> str:
    """The name of a cache entry: SHA-256 over the format, the `repr` of the decoding, and each row's id and contents of files."""
    contents = hash_files(path for pair in files for path in pair)
    rows = list(zip(image_ids, contents[::2], contents[1::2], strict=True))
    return hashlib.sha256(repr((FORMAT_VERSION, decoding, rows)).encode()).hexdigest()


def _store(entry: Path, examples: DecodedExamples, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Make an entry under another name and rename it when it is whole, so that nobody ever takes a part for the whole."""
    part = entry.with_suffix(".part")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_suffix(".lock")):
            if entry.is_dir():  # another process was quicker
                return
            shutil.rmtree(part, ignore_errors=True)  # of one that was killed
            try:
                part.mkdir()
                _write(part, examples, shapes)
                part.rename(entry)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        needed = len(examples) * sum(map(np.prod, shapes.values())) / 1e6
        raise OutputError(
            f"data.cache must be a folder to write {needed:,.0f} MB into, got {display_path(entry.parent)}: "
            f"{error.strerror or error}; name another one, or decode in each epoch with data.cache=null"
        ) from error


def _write(folder: Path, examples: DecodedExamples, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write the arrays from front to back, because on a full disk a write fails, where a mapping would end the process."""
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{name}.npy").open("wb")) for name in shapes]
        for file, shape in zip(files, shapes.values(), strict=True):
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(examples), *shape)}
            np.lib.format.write_array_header_1_0(file, header)
        progress = tqdm(_in_threads(examples), "caching", len(examples), unit="image", delay=_SILENT_SECONDS, leave=False)
        for arrays in progress:
            for file, array in zip(files, arrays, strict=True):
                file.write(array.tobytes())


def _in_threads(examples: DecodedExamples) -> Iterator[Arrays]:
    """All examples in order; a few at a time, so that a slow disk does not fill the memory, nor a fault wait for the rest."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(examples), _DECODED_AHEAD):
            yield from pool.map(examples.__getitem__, range(start, min(start + _DECODED_AHEAD, len(examples))))
