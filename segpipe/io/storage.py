"""Reading of local files and of object stores through fsspec."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

from segpipe.errors import ImageError
from segpipe.io.files import open_image


def is_url(folder: str) -> bool:
    """Return True for a folder given by its URL, such as `s3://bucket/photos`."""
    return "://" in folder


@contextmanager
def open_source(source: Path | str) -> Iterator[BufferedReader | BytesIO]:
    """Open an image file, or an object fetched from its URL.

    Raises:
        ImageError: The source cannot be read or decoded, as for `segpipe.io.files.open_image`.
    """
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
    """Compute the SHA-256 of a file or object; None if unreadable."""
    try:
        with open_source(source) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except ImageError:
        return None


def _fetch(url: str) -> bytes:
    import fsspec  # imported late: local files do not need it

    try:
        with fsspec.open(url, "rb") as remote:
            content: bytes = remote.read()
    except MemoryError:
        raise
    except Exception as error:  # each store has its own errors
        raise ImageError(f"cannot be read ({_reason(error)})") from error
    return content


def list_files(url: str) -> list[str]:
    """List the files below a URL as sorted relative paths.

    Raises:
        ImageError: The folder does not exist or cannot be listed.
    """
    import fsspec

    try:
        files: Any
        files, root = fsspec.core.url_to_fs(url)
        found = files.find(root)
        is_folder = bool(found) or files.isdir(root)
    except Exception as error:  # missing package, bucket or permission: each store has its own errors
        raise ImageError(f"{url}: cannot be listed ({_reason(error)})") from error
    if found == [root] or not is_folder:
        raise ImageError(f"{url}: {'a file, not a folder' if found else 'no such folder'}")
    prefix = root.rstrip("/") + "/"
    return sorted(path.removeprefix(prefix) for path in found)


def read_heads(url: str, names: Sequence[str], size: int) -> list[bytes]:
    """Read the first bytes of files below a URL.

    Stores that support it answer in one request.

    Returns:
        First `size` bytes of each file; empty for unreadable ones.

    Raises:
        ImageError: The store cannot be reached.
    """
    import fsspec

    if not names:
        return []
    try:
        files, root = fsspec.core.url_to_fs(url)
        found = files.cat_ranges([f"{root.rstrip('/')}/{name}" for name in names], 0, size, on_error="return")
    except Exception as error:  # each store has its own errors
        raise ImageError(f"{url}: cannot be read ({_reason(error)})") from error
    return [head if isinstance(head, bytes) else b"" for head in found]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
