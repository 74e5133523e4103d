"""Arguments of calls, written for a shell or Hydra."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

_PLAIN = re.compile(r"[A-Za-z_][\w./:-]*", re.ASCII)
_WORDS = ("null", "true", "false", "nan", "inf")  # read by Hydra as other values than text


def as_argument(key: str, value: Any) -> str:
    """Write `key=value` for a shell.

    Args:
        key: Key of the configuration, with dots; a `+` may stand before it.
        value: None, bool, number, str, a Path, or a list or dict of these; a Path for keys whose paths are taken literally.

    Returns:
        Text that a shell passes as one argument and Hydra reads as `value`.
    """
    return shlex.quote(f"{key}={value}" if isinstance(value, Path) else as_override(key, value))


def as_override(key: str, value: Any) -> str:
    """Write `key=value` for Hydra, whatever the characters of the value.

    Args:
        key: Key of the configuration, with dots; a `+` may stand before it.
        value: None, bool, number, str, a path, or a list or dict of these.
    """
    return f"{key}={_as_value(value)}"


def _as_value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_as_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_as_value, value))}]"
    return _as_text(os.fspath(value)) if isinstance(value, str | Path) else str(value)


def _as_text(text: str) -> str:
    """Write a text plainly, or in double quotes where Hydra needs them."""
    # Within them a backslash counts only before a quote or at the end.
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ('\\"' if match[2] else ""), text)
    interpolation = re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)
    return f'"{interpolation}"'


def quote_text(text: str) -> str:
    """Quote a text for Hydra's grammar, whatever its characters."""
    uninterpolated = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return str(QuotedString(uninterpolated, Quote.single).with_quotes())
