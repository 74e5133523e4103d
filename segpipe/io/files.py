"""Files: atomic writing, reading of bytes, names as text, and strict JSON."""

import json
import math
import os
import stat
import unicodedata
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path, PurePath
from typing import Any

from segpipe.errors import ImageError, WriteError

# Pattern of the temporary names of `write_file`, for removal after a run that was killed.
PARTIAL_FILES = f".{'[0-9a-f]' * 32}.part"
MAX_BYTES = 64 * 1024**2  # the card of a model trained on 10,000 images has 0.2 MB
MAX_LEVELS = 100


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Format a number with its noun: `1 image`, `1,982 images`.

    Args:
        number: Number of items.
        noun: Singular.
        plural: Plural; None adds an s to `noun`.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def display_path(path: PurePath) -> str:
    r"""Format a path as one printable POSIX line.

    Control characters and undecodable bytes become `\xNN`.
    """
    return "".join(_escape(char) for char in path.as_posix())


def _escape(char: str) -> str:
    # Spaces beyond ASCII are kept: macOS puts one into the name of each screenshot.
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    code = ord(char)
    is_raw_byte = 0xDC80 <= code <= 0xDCFF
    raw = bytes([code - 0xDC00]) if is_raw_byte else char.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in raw)


def one_line(text: str, longest: int = 300) -> str:
    """Shorten foreign text to one line of at most `longest` escaped characters."""
    return escape_unprintable(" ".join(text.split())[:longest])


def escape_unprintable(text: str) -> str:
    """Escape unprintable characters of foreign text, but keep its line breaks."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


@contextmanager
def open_image(path: Path) -> Iterator[BufferedReader]:
    """Open an image file and name it in all errors.

    Errors inside the `with` block become an ImageError, too.

    Raises:
        ImageError: The file is missing, empty, or cannot be read or decoded; the message starts with its path.
    """
    try:
        reason = why_no_file(path)
        if reason:
            raise ImageError(reason)
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ImageError(f"{display_path(path)}: cannot be read ({error.strerror})") from error
    except MemoryError as error:
        raise ImageError(f"{display_path(path)}: needs more memory than there is; lower max_pixels to refuse it") from error
    except ImageError as error:
        raise ImageError(f"{display_path(path)}: {error}") from error.__cause__


def why_no_file(path: Path) -> str | None:
    """Explain why a path is not a readable, non-empty file; else None."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "a broken link, its target does not exist" if path.is_symlink() else "no such file"
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(status.st_mode):
        return "a folder, not an image file"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return None if status.st_size else "an empty file (0 bytes)"


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically, so that it never exists half-written.

    Args:
        path: Destination; missing parent folders are created, an existing file is replaced.
        content: Bytes of the file.

    Raises:
        WriteError: The file cannot be written; its cause is the OSError.
    """
    # A name of fixed length: the final name may already be as long as the file system allows.
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error}); make room or name another folder"
        raise WriteError(f"{display_path(path)}: {reason}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def encode_json(content: Any, *, indent: int | None = 2) -> bytes:
    """Encode plain values as strict JSON.

    Args:
        content: Mappings, sequences, texts, paths, numbers and None; floats that are not finite become null.
        indent: Spaces per level; None for a single line.

    Returns:
        UTF-8 with a final line break; undecodable bytes of a path are escaped.
    """
    text = json.dumps(_finite(content), indent=indent, ensure_ascii=False, allow_nan=False, default=os.fspath)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def read_json(path: Path) -> Any:
    """Read a file of strict JSON, see `parse_json`.

    Raises:
        OSError: The file cannot be read.
        ValueError: The content is not strict JSON.
    """
    with path.open("rb") as file:
        return parse_json(file.read(MAX_BYTES + 1))


def parse_json(content: bytes) -> Any:
    """Parse strict JSON.

    Args:
        content: UTF-8, at most `MAX_BYTES` bytes.

    Raises:
        ValueError: The content is too long, not UTF-8, not JSON, nested too deeply, or holds a duplicate key, a number that is
            not finite, or half of a surrogate pair.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"must have at most {MAX_BYTES:,} bytes, got more")
    try:
        parsed = json.loads(
            content.decode(), object_pairs_hook=_distinct, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except RecursionError as error:
        raise ValueError(f"must have at most {MAX_LEVELS} levels, got more") from error
    _refuse_depth(parsed)
    if b"\\u" in content:
        _refuse_surrogates(parsed)
    return parsed


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("holds a key twice")
    return content


def _refuse_depth(content: Any) -> None:
    level = [content]
    for _ in range(MAX_LEVELS):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [value for values in inner for value in values]
        if not level:
            return
    raise ValueError(f"must have at most {MAX_LEVELS} levels, got more")


def _refuse_surrogates(content: Any) -> None:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair, which is not text") from error


def _refuse_constant(word: str) -> None:
    raise ValueError(f"holds {word}, which is not a JSON number")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"holds {digits[:30]}, which is too large")
    return number
