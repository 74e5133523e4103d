"""Composition of plain calls without Hydra, for a fast start.

Import and composition with Hydra take longer than all else of a short call. Only a part of Hydra's grammar is read here:
`key=value` with a single value. All other calls are left to Hydra, wrong ones too, so that there is one grammar and one set of
messages; a test compares both for many calls.
"""

import re
from collections.abc import Sequence
from dataclasses import Field, fields, is_dataclass
from typing import Any, TypeVar, get_args

from segpipe.config import CONF
from segpipe.config.fields import MISSING, is_plain_text
from segpipe.config.values import check_values
from segpipe.errors import ConfigError

Config = TypeVar("Config")

_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")
_PATH = re.compile(r"[\w./:@%+~-]([\w./:@%+~, -]*[\w./:@%+~-])?")  # the same within Hydra's quotes
_OF_HYDRA = {"run": {"dir": "."}, "output_subdir": None}  # settings of a run that writes no files of Hydra


class _NeedsHydraError(Exception):
    """A call or a yaml file that only Hydra reads."""


def compose_plain(name: str, schema: type[Config], arguments: Sequence[str]) -> Config | None:
    """Compose and check a configuration without Hydra.

    Args:
        name: Name of the primary configuration.
        schema: Its schema.
        arguments: Arguments of the call, as a shell passes them.

    Returns:
        The configuration, equal to `typed(compose_config(name, arguments))`; None where Hydra is needed, also for the message of
        a wrong call.
    """
    given = {key: value for key, _, value in (argument.partition("=") for argument in arguments)}
    if len(given) < len(arguments):  # a key is repeated
        return None
    try:
        config = schema()
        for group, option in _read_defaults(name).items():
            setattr(config, group, _read_option(schema, group, given.pop(group, option)))
        for key, value in given.items():
            _set(config, key, value)
        check_values(config)
    except (_NeedsHydraError, ConfigError):
        return None
    return config


def _read_defaults(name: str) -> dict[str, Any]:
    """Return the chosen option of each config group."""
    primary = _read_yaml(name)
    groups: dict[str, Any] = {}
    for entry in primary.pop("defaults", ()):
        if isinstance(entry, dict):
            groups |= {group: option for group, option in entry.items() if not group.startswith("override hydra/")}
        elif entry not in (f"{name}_schema", "_self_"):
            raise _NeedsHydraError
    if primary != {"hydra": _OF_HYDRA}:
        raise _NeedsHydraError
    return groups


def _read_option(schema: Any, group: str, option: str) -> Any:
    """Build the settings of a config group from a yaml file."""
    kind: Any = _field(schema, group).type
    values = _read_yaml(f"{group}/{option}") if isinstance(option, str) and is_plain_text(option) else {}
    if values.pop("defaults", None) != [f"{group}_schema"]:
        raise _NeedsHydraError
    settings = kind()
    for key, value in values.items():
        _set(settings, key, value)
    if MISSING in vars(settings).values():
        raise _NeedsHydraError
    return settings


def _read_yaml(name: str) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.load((CONF / f"{name}.yaml").read_bytes(), yaml.CSafeLoader)
    except (OSError, yaml.YAMLError) as error:
        raise _NeedsHydraError from error
    return content if isinstance(content, dict) else {}


def _field(schema: Any, name: str) -> Field[Any]:
    for field in fields(schema):
        if field.name == name:
            return field
    raise _NeedsHydraError


def _set(config: Any, key: str, text: Any) -> None:
    """Set a value by its dotted key."""
    parent, _, name = key.rpartition(".")
    for part in filter(None, parent.split(".")):
        config = getattr(config, part, None)
    if not is_dataclass(config):
        raise _NeedsHydraError
    setattr(config, name, _read_value(text, _field(config, name)))


def _read_value(text: Any, field: Field[Any]) -> Any:
    """Read a value of a field as Hydra does."""
    if not isinstance(text, str):
        raise _NeedsHydraError
    kinds = get_args(field.type) or (field.type,)
    optional = Any in kinds or type(None) in kinds
    if text == "null" and optional:
        return None
    if field.metadata["setting"].path is not None:
        readable = _PATH.fullmatch(text) and text != "null"
        value: Any = text if readable else None
    elif text in ("true", "false"):
        value = text == "true" if bool in kinds else text.capitalize() if str in kinds else None
    elif int in kinds:
        value = int(text) if _INTEGER.fullmatch(text) else None
    else:
        value = text if str in kinds and is_plain_text(text) else None
    if value is None:
        raise _NeedsHydraError
    return value
