"""JSON as its standard defines it: no NaN, no infinity, no key twice, no half characters; read and written."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 1024**2  # the card of a model that was trained on 10,000 images has 0.2 MB

MOST_LEVELS = 100


def encode_json(content: Any, *, indent: int | None = 2) -> bytes:
    """Encode plain values as strict JSON.

    Args:
        content: mappings, sequences, texts, paths, numbers and None; a float that is not finite becomes null.
        indent: blanks of each level; None for a single line.

    Returns:
        UTF-8 with a line break at the end; a byte of a path that is no text stands as its escape.
    """
    text = json.dumps(_finite(content), indent=indent, ensure_ascii=False, allow_nan=False, default=os.fspath)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def read_json(path: Path) -> Any:
    """Read a file of strict JSON, see `parse_json`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not strict JSON.
    """
    with path.open("rb") as file:
        return parse_json(file.read(MOST_BYTES + 1))


def parse_json(content: bytes) -> Any:
    """Parse strict JSON.

    Args:
        content: at most `MOST_BYTES` of UTF-8.

    Raises:
        ValueError: it is too long, not UTF-8, not JSON, nested too deeply, or holds a key twice or a number that is not finite.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"must have at most {MOST_BYTES:,} bytes, got more")
    try:
        parsed = json.loads(
            content.decode(), object_pairs_hook=_distinct, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except RecursionError as error:
        raise ValueError(f"must have at most {MOST_LEVELS} levels, got more") from error
    _refuse_depth(parsed)
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
        raise ValueError("names a key twice")
    return content


def _refuse_depth(content: Any) -> None:
    level = [content]
    for _ in range(MOST_LEVELS):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [value for values in inner for value in values]
        if not level:
            return
    raise ValueError(f"must have at most {MOST_LEVELS} levels, got more")


def _refuse_constant(word: str) -> None:
    raise ValueError(f"holds {word}, which is no number of JSON")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"holds {digits[:30]}, which is beyond the largest number")
    return number
