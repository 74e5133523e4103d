"""Arguments of calls: quoting for shells and Hydra, and error messages."""

import csv
import difflib
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import BooleanNode, DictConfig, FloatNode, IntegerNode, ListConfig, OmegaConf, StringNode
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from segpipe.config.fields import is_plain_text
from segpipe.errors import ConfigError, SegpipeError

_EXPECTED_TYPES: dict[type, str] = {
    IntegerNode: "an integer",
    FloatNode: "a number",
    BooleanNode: "true or false",
    StringNode: "a text",
    ListConfig: "a list such as [a,b]",
}


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
    if is_plain_text(text):
        return text
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ('\\"' if match[2] else ""), text)
    interpolation = re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)
    return f'"{interpolation}"'


def quote_text(text: str) -> str:
    """Quote a text for Hydra's grammar, whatever its characters."""
    uninterpolated = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return str(QuotedString(uninterpolated, Quote.single).with_quotes())


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """Explain an error of Hydra or OmegaConf in one line.

    Args:
        error: Error of a call, or of a job that read its configuration.
        arguments: `key=value` arguments of the call.
    """
    if isinstance(error, OverrideParseException):
        return _explain_syntax(error.override)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        if error.options:
            options = (name for name in error.options if not name.endswith("_schema"))
            return f"{group} must be one of {', '.join(options)}, got {option}"
        if group:  # an element of a list such as [a,b], for which Hydra lists no options
            return f"{group} has no option {option}; --help lists them"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        file = re.match(r"In '(.+?)': ", str(error))
        return _explain_key(cause, cause.full_key, arguments) + (f" (in {file[1]}.yaml)" if file else "")
    return _explain_text(str(error), arguments)


def explain_unknown_key(key: str, known: Iterable[str], arguments: Sequence[str]) -> str:
    """Explain that a key does not exist, and suggest a similar one.

    Args:
        key: Dotted key.
        known: Keys that exist.
        arguments: `key=value` arguments of the call.
    """
    given = next((argument for argument in arguments if argument.lstrip("+").partition("=")[0] == key), key)
    near = " or ".join(difflib.get_close_matches(key, known, n=2, cutoff=0.7))
    return f"unknown key {given}; " + (f"did you mean {near}? " if near else "") + "--help lists the keys"


def unwrap(error: InstantiationException, group: str = "") -> Exception:
    """Return the error inside a function that Hydra called by its `_target_`.

    Args:
        error: Error of Hydra.
        group: Dotted key of the node that Hydra instantiated, where the node does not know it.

    Returns:
        segpipe's own error, or a ConfigError with the key in place of a ValueError; anything else is a bug and is returned as is.
    """
    cause = error.__cause__
    if isinstance(cause, SegpipeError):
        return cause
    inner = re.search(r"full_key: (.+)", str(error))
    key = ".".join(filter(None, (group, inner[1] if inner else ""))).replace(".[", "[")
    return ConfigError(f"{key}: {cause}") if key and isinstance(cause, ValueError) else error


def _explain_syntax(override: str) -> str:
    key, equal, value = override.partition("=")
    if equal:
        return f"{key} must be a value that Hydra can read, got {value}; quote it twice: {as_argument(key, _meant(value))}"
    image, folder = (as_argument(key, Path(override or name)) for key, name in (("image", "FILE"), ("folder", "DIR")))
    given = override or "an empty one"
    return f"an argument must be key=value, got {given}; write {image} or {folder}, for example; --help lists the keys"


def _meant(value: str) -> str | list[str]:
    """Guess the meaning of a value that Hydra cannot read."""
    if not (value.startswith("[") and value.endswith("]")):
        return value
    items = next(csv.reader([value[1:-1]], skipinitialspace=True, quotechar="'"), [])
    return [item.strip().strip('"') for item in items]


def _explain_key(error: OmegaConfBaseException, key: str, arguments: Sequence[str]) -> str:
    match error:
        case ConfigKeyError() | ConfigAttributeError():
            config = OmegaConf.to_container(error.parent_node._get_root(), resolve=False)
            return explain_unknown_key(key, _dotted_keys(config), arguments)
        case MissingMandatoryValue():
            return f"{key} must be given, got nothing; write {key}=..."
        case InterpolationResolutionError():
            return f"{key} must refer to a value that exists: {_first_line(error)}"
        case ValidationError() if expected := _expected(error.child_node, key):
            return f"{key} must be {expected}, got {json.dumps(error.value, default=str, ensure_ascii=False)}"
    return f"{key}: {_first_line(error)}"


def _dotted_keys(config: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield f"{prefix}{key}"
            yield from _dotted_keys(value, f"{prefix}{key}.")


def _expected(node: Any, key: str) -> str | None:
    if isinstance(node, DictConfig):
        return f"set key by key ({', '.join(f'{key}.{name}' for name in map(str, node))})"
    return _EXPECTED_TYPES.get(type(node))


def _explain_text(text: str, arguments: Sequence[str]) -> str:
    """Explain an error of Hydra that only its text identifies."""
    if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '([^=]+)=(.*?)'(?:\n1| req)", text, re.DOTALL):
        return f"{match[1]} must be a single value, got {match[2]}; --multirun tries each of them, [a,b] is a list"
    if match := re.match(r"Could not override '(.+?)'\.\s+No match in the defaults list", text):
        return f"unknown key {match[1]}, a config group that this script does not use; --help lists the keys"
    if match := re.match(r"Config group override must be a string or a list. Got (\w+)", text):
        overrides = OverridesParser.create().parse_overrides([argument for argument in arguments if "=" in argument])
        suspects = [str(override.input_line) for override in overrides if type(override.value()).__name__ == match[1]]
        return f"a config group must be given one of its options by name, got {' or '.join(suspects)}; --help lists them"
    return " ".join(text.partition("\nConfig search path:")[0].split())


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
