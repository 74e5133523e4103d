"""Bounds of the numbers in a configuration: metadata of the fields of its schemas, checked in the first second."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from segpipe.errors import ConfigError

LARGEST_SEED = 2**32 - 1  # numpy takes no larger one
LARGEST_SIDE = 2048  # of a network's input, pixels; that of a card


@dataclass(frozen=True)
class Bounds:
    """Range of a number; None leaves an end open.

    Attributes:
        least: Smallest value.
        above: Value that must be exceeded.
        most: Largest value.
        below: Value that must not be reached.
        or_zero: Whether 0 is allowed beside the range.
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


def bounded(default: Any = MISSING, **bounds: Any) -> Any:
    """Define a field of a schema that holds a number, or a list of numbers, within bounds.

    Args:
        default: Default value.
        **bounds: Attributes of `Bounds`.
    """
    return field(default=default, metadata={"bounds": Bounds(**bounds)})


def check_numbers(config: DictConfig) -> None:
    """Refuse numbers that are not finite, or outside the bounds of their field.

    Args:
        config: Configuration with the schemas of `segpipe.config.schemas`.

    Raises:
        ConfigError: A number is outside its bounds.
    """
    for key, number, bounds in _numbers(config):
        if not math.isfinite(number):
            raise ConfigError(f"{key} must be a finite number, got {number}")
        if bounds is not None and number not in bounds:
            raise ConfigError(f"{key} must be {bounds}, got {number}")


def _numbers(config: Any, key: str = "", bounds: Bounds | None = None) -> Iterator[tuple[str, float, Bounds | None]]:
    """Key, value and bounds of every number, those in lists too."""
    if isinstance(config, DictConfig):
        known = bounds_of(OmegaConf.get_type(config))
        for name in map(str, config):
            if not OmegaConf.is_missing(config, name):
                yield from _numbers(config[name], f"{key}.{name}" if key else name, known.get(name))
    elif isinstance(config, ListConfig):
        for value in config:
            yield from _numbers(value, key, bounds)
    elif isinstance(config, int | float) and not isinstance(config, bool):
        yield key, config, bounds


def bounds_of(schema: Any) -> dict[str, Bounds]:
    """Bounds of the fields of a schema, by name."""
    if not is_dataclass(schema):
        return {}
    return {entry.name: entry.metadata["bounds"] for entry in fields(schema) if "bounds" in entry.metadata}
