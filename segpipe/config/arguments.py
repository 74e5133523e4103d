"""Arguments of a call as a shell and Hydra read them, for messages whose advice must be a call that works."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Settings that a training may change on resuming where allow_change lists them.
CHANGES_ALLOWED = ("optimizer.lr", "optimizer.weight_decay", "batch_size")

_PLAIN = re.compile(r"[A-Za-z_][\w./:-]*", re.ASCII)
_WORDS = ("null", "true", "false", "nan", "inf")  # which Hydra takes for values that are no text


def as_argument(key: str, value: Any) -> str:
    """Write `key=value` for a shell.

    Args:
        key: Key of the configuration, with dots; a `+` may stand before it.
        value: None, bool, number, str, a Path, or a list or dict of these. A Path is for keys that segpipe takes literally.

    Returns:
        Text that a shell hands over as one argument, which Hydra reads as `value`.
    """
    return shlex.quote(f"{key}={value}" if isinstance(value, Path) else as_override(key, value))


def as_override(key: str, value: Any) -> str:
    """Write `key=value` for Hydra, which reads it as `value`, whatever its characters.

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
    """Plain where Hydra reads it so, else in double quotes; a backslash counts only before a quote or at the end."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ('\\"' if match[2] else ""), text)
    interpolation = re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)
    return f'"{interpolation}"'
