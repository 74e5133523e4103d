"""Files of this machine, and those of an object store by their URL (`s3://...`), through fsspec."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

from segpipe.errors import ImageError
from segpipe.io.images import open_image


def is_url(folder: str) -> bool:
    """Whether a folder is named by a URL, `s3://bucket/photos` for one."""
    return "://" in folder


@contextmanager
def open_source(source: Path | str) -> Iterator[BufferedReader | BytesIO]:
    """Open an image file, or the object of a URL, which is fetched as a whole; see `image_io.open_image` for the errors."""
    if isinstance(source, Path):
        with open_image(source) as file:
            yield file
        return
    try:
        content = _fetch(source)
        if not content:
            raise ImageError("an empty file (0 bytes)")
        with BytesIO(content) as fetched:
            yield fetched
    except MemoryError as error:
        raise ImageError(f"{source}: needs more memory than there is; lower max_pixels to refuse it") from error
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from error.__cause__


def content_hash(source: Path | str) -> str | None:
    """The SHA-256 of a file or of the object of a URL; None where it cannot be read."""
    try:
        with open_source(source) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except ImageError:
        return None


def _fetch(url: str) -> bytes:
    import fsspec  # here, because local files do not need it

    try:
        with fsspec.open(url, "rb") as remote:
            content: bytes = remote.read()
    except MemoryError:
        raise
    except Exception as error:  # each store has errors of its own
        raise ImageError(f"cannot be read ({_line(error)})") from error
    return content


def list_files(url: str) -> list[str]:
    """The files below a URL, as paths relative to it, sorted.

    Raises:
        ImageError: there is no such folder, or it cannot be listed.
    """
    import fsspec

    try:
        files: Any
        files, root = fsspec.core.url_to_fs(url)
        found = files.find(root)
        is_folder = bool(found) or files.isdir(root)
    except Exception as error:  # a protocol without its package, no such bucket, no rights: each store has its own errors
        raise ImageError(f"{url}: cannot be listed ({_line(error)})") from error
    if found == [root] or not is_folder:
        raise ImageError(f"{url}: {'a file, not a folder' if found else 'no such folder'}")
    prefix = root.rstrip("/") + "/"
    return sorted(path.removeprefix(prefix) for path in found)


def read_heads(url: str, names: Sequence[str], size: int) -> list[bytes]:
    """The first bytes of files below a URL, in one request where the store can do so; nothing of those that cannot be read.

    Raises:
        ImageError: the store cannot be reached.
    """
    import fsspec

    if not names:
        return []
    try:
        files, root = fsspec.core.url_to_fs(url)
        found = files.cat_ranges([f"{root.rstrip('/')}/{name}" for name in names], 0, size, on_error="return")
    except Exception as error:  # each store has errors of its own
        raise ImageError(f"{url}: cannot be read ({_line(error)})") from error
    return [head if isinstance(head, bytes) else b"" for head in found]


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
