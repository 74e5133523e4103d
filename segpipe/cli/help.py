"""Help pages, made from the schemas and the yaml files."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

from hydra.core.config_store import ConfigStore

from segpipe.cli.subcommands import Subcommand
from segpipe.config import CONF
from segpipe.config.fields import Setting, list_keys, settings_of
from segpipe.config.schemas import SCHEMAS, TrainConfig

PAGE = "segpipe"  # option of the config group hydra/help
DISCLAIMER = "Not a medical device."
_WIDTH, _INDENT = 120, 26
_ADDED = {"experiment": "Experiments, settings that belong together", "sweep": "Sweeps, for --multirun"}


@dataclass(frozen=True)
class Option:
    """A yaml file of a config group.

    Attributes:
        name: Name of the file without its ending.
        summary: First sentence of the comment at its head.
        package: Key of its values; None for that of the group.
        schema: Schema of its values; None without one.
    """

    name: str
    summary: str
    package: str | None
    schema: type | None


def register_page(subcommand: Subcommand) -> None:
    """Register the help page of a subcommand as `hydra/help=PAGE`."""
    ConfigStore.instance().store(group="hydra/help", name=PAGE, node={"template": help_page(subcommand)})


def help_page(subcommand: Subcommand) -> str:
    """Write the help page of a subcommand as a template of Hydra."""
    schema = SCHEMAS[None][subcommand.config]
    program, summary = "${hydra.help.app_name}", subcommand.summary
    lines = [f"{program}: {summary[0].upper()}{summary[1:]}.", "", "Examples"]
    lines += [f"  {program} {example}".rstrip() for example in subcommand.examples]
    lines += ["", "Keys, as key=value", *_describe_keys(schema, subcommand.keys)]
    names = [entry.name for entry in fields(schema) if not subcommand.keys or entry.name in subcommand.keys]
    for group in (name for name in names if name in SCHEMAS):
        lines += ["", *_describe_group(group, settings_of(schema)[group])]
    if issubclass(schema, TrainConfig) and not subcommand.keys:
        for group, title in _ADDED.items():
            lines += ["", title, *(_line(f"+{group}={option.name}", option.summary) for option in list_options(group))]
    notes = textwrap.wrap(subcommand.notes, _WIDTH)
    lines += [
        "",
        *([*notes, ""] if notes else []),
        "All keys with their values",
        "$CONFIG",
        "--hydra-help lists all flags.",
        DISCLAIMER,
    ]
    return "\n".join(lines)


def list_options(group: str) -> list[Option]:
    """List the options of a config group."""
    return [_read_option(group, path) for path in sorted((CONF / group).glob("*.yaml"))]


def _read_option(group: str, path: Path) -> Option:
    text = path.read_text(encoding="utf-8")
    comment = re.match(r"(?:#.*\n)*", text)
    head = [line.removeprefix("#").strip() for line in (comment[0] if comment else "").splitlines()]
    package = next((line.removeprefix("@package ") for line in head if line.startswith("@package ")), None)
    sentences = " ".join(line for line in head if not line.startswith("@"))
    schema = re.search(r"^  - (\w+)_schema$", text, re.MULTILINE)
    found = SCHEMAS.get(group, {}).get(schema[1]) if schema else None
    return Option(path.stem, re.split(r"(?<=[\w=)`][.])\s(?=[A-Z`])", sentences)[0].removesuffix("."), package, found)


def _describe_keys(schema: type, keys: tuple[str, ...]) -> list[str]:
    """Describe the keys of a schema that belong to no config group."""
    kinds, settings = get_type_hints(schema), settings_of(schema)
    lines = []
    for name, setting in settings.items():
        if name in SCHEMAS or (keys and name not in keys):
            continue
        inner = list_keys(kinds[name], f"{name}.") if is_dataclass(kinds[name]) else [(name, setting)]
        lines += [_line(key, found.describe()) for key, found in inner]
    return lines


def _describe_group(group: str, setting: Setting) -> Iterator[str]:
    """Describe a config group: its options, then the keys of their schemas."""
    options = list_options(group)
    yield f"{setting.text}: {group}=OPTION"
    yield from (_line(f"{group}={option.name}", option.summary) for option in options)
    described: dict[tuple[str, str], list[str]] = {}
    for option in options:
        for key, inner in list_keys(option.schema, f"{option.package or group}.") if option.schema else ():
            described.setdefault((key, inner.describe()), []).append(option.name)
    for (key, text), names in described.items():
        only = "" if len(names) == len(options) or key.startswith(f"{group}.{names[0]}.") else f"; only with {', '.join(names)}"
        yield _line(key, text + only)


def _line(key: str, text: str) -> str:
    """Write a key with its text wrapped beside it."""
    lead = f"  {key}".ljust(_INDENT - 2) + "  "
    wrapped = textwrap.fill(text, _WIDTH, initial_indent=lead, subsequent_indent=" " * _INDENT, break_on_hyphens=False)
    return wrapped.rstrip().replace("$", "$$")  # a dollar sign in a template
