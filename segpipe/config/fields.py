"""Fields of the schemas: metadata, and conversion of their values."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from segpipe.errors import ConfigError

MISSING: Any = "???"  # that of OmegaConf, which a plain call does not import
LARGEST_SEED = 2**32 - 1  # numpy takes no larger one
LARGEST_SIDE = 2048  # largest side of a network's input in pixels, also in a card

_PLAIN = re.compile(r"[A-Za-z_][\w./:-]*", re.ASCII)
_WORDS = ("null", "true", "false", "nan", "inf")  # read by Hydra as other values than text

PathKind = Literal["any", "existing", "folder", "new_folder"]


@dataclass(frozen=True)
class Bounds:
    """Range of a number; None leaves an end open.

    Attributes:
        least: Smallest value.
        above: Value that must be exceeded.
        most: Largest value.
        below: Value that must not be reached.
        or_zero: True to allow 0 beside the range.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    or_zero: bool = False

    def __contains__(self, number: float) -> bool:
        return (self.or_zero and number == 0) or (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        low = f"at least {self.least}" if self.least is not None else f"above {self.above}" if self.above is not None else ""
        high = f"at most {self.most}" if self.most is not None else f"below {self.below}" if self.below is not None else ""
        text = " and ".join(end for end in (low, high) if end) if high or self.least is None else f"{self.least} or more"
        return f"0, or {text}" if self.or_zero else text


@dataclass(frozen=True)
class Setting:
    """Metadata of a field.

    Attributes:
        text: Help text, a noun phrase.
        choices: Allowed words, each with its explanation, which may be empty.
        path: Kind of path, which is taken literally whatever its characters; None for other values. `any` is not checked here,
            `existing` must exist, `folder` must be an existing folder and `new_folder` may become one.
        advice: Next step for a user whose path is refused.
        bounds: Range of the number, or of each number of a list.
        extra: Extra of segpipe that the setting needs; empty for none.
    """

    text: str
    choices: Mapping[str, str]
    path: PathKind | None
    advice: str
    bounds: Bounds | None
    extra: str

    def describe(self) -> str:
        """Write the help text with the choices, the bounds and the extra."""
        words = [f"{word} ({meaning})" if meaning else word for word, meaning in self.choices.items()]
        listed = f"{', '.join(words)}" + (", or a path" if self.path and words else "")
        needed = f"; needs segpipe[{self.extra}]" if self.extra else ""
        return ": ".join(filter(None, (self.text, listed))) + (f" ({self.bounds})" if self.bounds else "") + needed


def setting(
    default: Any = MISSING,
    text: str = "",
    *,
    choices: Mapping[str, str] | Collection[str] = (),
    path: PathKind | None = None,
    advice: str = "check its spelling",
    extra: str = "",
    **bounds: Any,
) -> Any:
    """Define a field of a schema with its metadata.

    Args:
        default: Default value, or a type whose call gives it.
        text: See `Setting`.
        choices: Allowed words, or a mapping from each word to its explanation.
        path: See `Setting`.
        advice: See `Setting`.
        extra: See `Setting`.
        **bounds: Attributes of `Bounds`.
    """
    words = choices if isinstance(choices, Mapping) else dict.fromkeys(choices, "")
    metadata = {"setting": Setting(text, words, path, advice, Bounds(**bounds) if bounds else None, extra)}
    return (
        field(default_factory=default, metadata=metadata)
        if isinstance(default, type)
        else field(default=default, metadata=metadata)
    )


def settings_of(schema: Any) -> dict[str, Setting]:
    """Return the metadata of the fields of a schema by name.

    It is empty for a type that is no dataclass.
    """
    if not is_dataclass(schema):
        return {}
    return {entry.name: entry.metadata["setting"] for entry in fields(schema) if "setting" in entry.metadata}


def require_choice(name: str, value: object, choices: Collection[str], *, advice: str) -> None:
    """Refuse a value that is not one of the allowed words.

    Args:
        name: Option as the user wrote it.
        value: Value of the option.
        choices: Allowed words.
        advice: Next step for the user.

    Raises:
        ConfigError: `value` is not one of `choices`.
    """
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}; {advice}")


def is_plain_text(text: str) -> bool:
    """Return True for a text that Hydra reads unchanged without quotes."""
    return bool(_PLAIN.fullmatch(text)) and text.lower() not in _WORDS


def to_dict(settings: Any) -> Any:
    """Convert dataclasses to plain containers, with attributes added to them.

    Args:
        settings: Dataclass, DictConfig or ListConfig, plain container or value.

    Returns:
        Dicts, lists and values; interpolations are resolved.
    """
    if is_dataclass(settings):
        return to_dict(vars(settings))
    if isinstance(settings, dict):
        return {name: to_dict(value) for name, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [to_dict(value) for value in settings]
    if settings is None or isinstance(settings, str | int | float):
        return settings
    from omegaconf import OmegaConf  # imported late: a plain call does not need it

    return OmegaConf.to_container(settings, resolve=True) if OmegaConf.is_config(settings) else settings


def drop_empty(settings: Any) -> dict[str, Any]:
    """Return the settings that are not null."""
    return {name: value for name, value in to_dict(settings).items() if value is not None}


def optional_path(value: str | None) -> Path | None:
    """Convert a path of the configuration; None stays None."""
    return None if value is None else Path(value)


def list_keys(schema: Any, prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """List the dotted keys of a schema with their metadata.

    Args:
        schema: Dataclass.
        prefix: Text before each key.
    """
    kinds, settings = get_type_hints(schema), settings_of(schema)
    for entry in fields(schema):
        if is_dataclass(kinds[entry.name]):
            yield from list_keys(kinds[entry.name], f"{prefix}{entry.name}.")
            continue
        if entry.name in settings:
            yield prefix + entry.name, settings[entry.name]
        for item in filter(is_dataclass, get_args(kinds[entry.name]) if get_origin(kinds[entry.name]) is list else ()):
            yield from list_keys(item, f"{prefix}{entry.name}[N].")
