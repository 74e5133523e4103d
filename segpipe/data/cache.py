"""Cache of decoded examples on disk, as plain arrays."""

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

from segpipe.data.duplicates import hash_files
from segpipe.errors import OutputError
from segpipe.io.files import display_path
from segpipe.io.passes import follow

FORMAT_VERSION = 1
_DECODED_AHEAD = 256

Arrays = tuple[NDArray[np.uint8], ...]


class Decoding(Protocol):
    """Function that decodes the files of an example.

    Its `repr` is part of the cache key, so it must contain everything but the files on which the arrays depend.
    """

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of each array of an example, in order."""

    def __call__(self, image_path: str, mask_path: str | None) -> Arrays:
        """Return the arrays of one example, uint8."""


class ExampleSource(Protocol):
    """Examples by index, as arrays owned by the caller; can be pickled."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, index: int) -> Arrays:
        """Return the arrays of one example, uint8."""


class DecodedExamples:
    """Examples that are decoded at each access.

    Args:
        files: Image and mask of each example; None without a mask.
        decoding: Function that decodes the files.
    """

    def __init__(self, files: Sequence[tuple[str, str | None]], decoding: Decoding) -> None:
        self._files = files
        self._decoding = decoding

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Arrays:
        return self._decoding(*self._files[index])


class StoredExamples:
    """Examples in a cache entry, memory-mapped read-only.

    Args:
        folder: Folder of the entry.
        names: Names of its arrays, in order.

    Raises:
        OutputError: The entry is damaged.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._arguments = (folder, tuple(names))
        try:
            # Not np.load, which accepts other files than arrays.
            self._arrays = [np.lib.format.open_memmap(folder / f"{name}.npy", mode="r") for name in names]
        except (OSError, ValueError) as error:
            raise OutputError(
                f"data.cache holds a damaged entry, {display_path(folder)} ({error}); delete that folder and start again"
            ) from error

    def __reduce__(self) -> tuple[Callable[..., "StoredExamples"], tuple[Any, ...]]:
        """Pickle the paths alone, so that workers map the files themselves."""
        return StoredExamples, self._arguments

    def __len__(self) -> int:
        return len(self._arrays[0])

    def __getitem__(self, index: int) -> Arrays:
        return tuple(np.array(array[index]) for array in self._arrays)


def open_examples(table: pd.DataFrame, decoding: Decoding, *, cache: str | None) -> ExampleSource:
    """Open the examples of a table, decoding and storing missing ones first.

    Several processes may open the same examples at once: one stores them, the others wait.

    Args:
        table: Rows with `image_id`, `image_path` and `mask_path`, which is None without a mask.
        decoding: Function that decodes each row.
        cache: Folder of the entries, created if missing; None decodes at each access.

    Raises:
        OutputError: The cache cannot be written, or its entry is damaged.
        ImageError: A file cannot be decoded.
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
    """Compute the name of a cache entry.

    It is the SHA-256 over the format, the `repr` of the decoding, and the id and file contents of each row.
    """
    contents = hash_files(path for pair in files for path in pair)
    rows = list(zip(image_ids, contents[::2], contents[1::2], strict=True))
    return hashlib.sha256(repr((FORMAT_VERSION, decoding, rows)).encode()).hexdigest()


def _store(entry: Path, examples: DecodedExamples, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write an entry under a temporary name, renamed when complete."""
    part = entry.with_suffix(".part")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_suffix(".lock")):
            if entry.is_dir():  # stored by another process meanwhile
                return
            shutil.rmtree(part, ignore_errors=True)  # left by a killed process
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
    """Write the arrays sequentially, without mapping them.

    On a full disk a write fails, whereas a memory map would end the process.
    """
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{name}.npy").open("wb")) for name in shapes]
        for file, shape in zip(files, shapes.values(), strict=True):
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(examples), *shape)}
            np.lib.format.write_array_header_1_0(file, header)
        for arrays in follow(_in_threads(examples), len(examples), "caching images"):
            for file, array in zip(files, arrays, strict=True):
                file.write(array.tobytes())


def _in_threads(examples: DecodedExamples) -> Iterator[Arrays]:
    """Decode all examples in order, in blocks.

    Blocks limit memory use with a slow disk, and the delay of an error.
    """
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(examples), _DECODED_AHEAD):
            yield from pool.map(examples.__getitem__, range(start, min(start + _DECODED_AHEAD, len(examples))))
