"""Files of this machine, and those of an object store by their URL (`s3://...`), through fsspec."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from segpipe.errors import ImageError
from segpipe.image_io import open_image


def is_url(folder: str) -> bool:
    """Whether a folder is named by a URL, `s3://bucket/photos` for one."""
    return "://" in folder


@contextmanager
def open_source(source: Path | str) -> Iterator[BufferedReader]:
    """Open an image file, or the object of a URL; see `image_io.open_image` for the errors."""
    if isinstance(source, Path):
        with open_image(source) as file:
            yield file
        return
    import fsspec  # here, because local files do not need it

    try:
        with fsspec.open(source, "rb") as remote:
            yield remote
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from error.__cause__
    except Exception as error:  # each store has errors of its own
        raise ImageError(f"{source}: cannot be read ({_line(error)})") from error


def list_files(url: str) -> list[str]:
    """The files below a URL, as paths relative to it, sorted.

    Raises:
        ImageError: it cannot be listed.
    """
    import fsspec

    try:
        files: Any
        files, root = fsspec.core.url_to_fs(url)
        found = files.find(root)
    except Exception as error:  # a protocol without its package, no such bucket, no rights: each store has its own errors
        raise ImageError(f"{url}: cannot be listed ({_line(error)})") from error
    prefix = root.rstrip("/") + "/"
    return sorted(path.removeprefix(prefix) for path in found)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
