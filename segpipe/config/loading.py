"""Hydra's loading of configurations, with the doors shut by which a stranger's file could run code or read secrets.

What a configuration may build for segpipe is in `segpipe.config.building`. Here is what it may have Hydra itself do, before a job
starts: callbacks, launchers, sweepers, logging, environment variables, interpolations that read or decode.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from segpipe.config.building import check_names, find_targets
from segpipe.errors import ConfigError

# They read the environment, with the secrets in it, or make a configuration of a text.
REFUSED_RESOLVERS = ("oc.env", "oc.decode", "oc.create", "env")
_TARGETS = {
    "callbacks": re.compile(r"segpipe\.cli\.callbacks\.(JobErrors|CappedJobs)"),
    "launcher": re.compile(r"(hydra_plugins|hydra\._internal\.core_plugins)\.[\w.]+"),
    "sweeper": re.compile(r"(hydra_plugins|hydra\._internal\.core_plugins)\.[\w.]+"),
}
# Of Slurm: lines of a shell script, and options of sbatch.
_COMMANDS = ("hydra.launcher.setup", "hydra.launcher.additional_parameters")
_LOG_CLASSES = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter")
_LOG_FACTORIES = ("colorlog.ColoredFormatter",)
_LOG_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")


class CheckedConfigLoader(ConfigLoaderImpl):
    """Hydra's loader of configurations; each one is checked before anything of it is built, in each process of a sweep."""

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Called by Hydra.

        Raises:
            ConfigError: the configuration asks for something that it may not.
        """
        refuse_resolvers()
        config: DictConfig = super().load_configuration(*args, **kwargs)
        check_hydra(config.hydra)
        check_names(config)
        return config

    def _process_config_searchpath(self, config_name: str | None, parsed_overrides: list[Override], repo: Any) -> None:
        """Called by Hydra, which would import the packages of a search path."""
        primary = None if config_name is None else repo.load_config(config_path=config_name)
        paths = [override.value() for override in parsed_overrides if override.get_key_element() == "hydra.searchpath"]
        refuse_packages(*paths, None if primary is None else OmegaConf.select(primary.config, "hydra.searchpath"))
        super()._process_config_searchpath(config_name, parsed_overrides, repo)


def refuse_packages(*paths: Any) -> None:
    """Refuse folders of configurations that are named as Python packages, which would be imported.

    Args:
        paths: of a search path, or lists of them; None is passed over.

    Raises:
        ConfigError: one of them begins with `pkg:`.
    """
    packages = re.findall(r"pkg:[^\s'\",\]]*", " ".join(map(str, paths)))
    if packages:
        raise ConfigError(f"a folder of configurations must be a path, got {packages[0]}, whose code would be run")


def refuse_resolvers() -> None:
    """Make the interpolations of `REFUSED_RESOLVERS` errors for the rest of the process."""
    for name in REFUSED_RESOLVERS:

        def refuse(*_: Any, name: str = name) -> NoReturn:
            raise ConfigError(f"${{{name}:...}} is refused, its value would be kept with results; let the shell write the value")

        OmegaConf.register_new_resolver(name, refuse, replace=True)


def check_hydra(hydra: DictConfig) -> None:
    """Check what a configuration asks of Hydra itself.

    Args:
        hydra: node of that name.

    Raises:
        ConfigError: it names a class, a log handler, an environment variable or a shell command that it may not.
    """
    if hydra.job.env_set or hydra.job.env_copy:
        raise ConfigError("hydra.job.env_set and env_copy must be empty; set environment variables in the shell")
    for part, allowed in _TARGETS.items():
        for key, target in find_targets(hydra, "hydra", strict=True, but={str(name) for name in hydra} - {part}):
            if key.count(".") > (2 if part == "callbacks" else 1) or not allowed.fullmatch(str(target)):
                raise ConfigError(f"{key}._target_ must be one that Hydra or segpipe brings, got {target!r}")
    _check_commands(hydra)
    for part in ("job_logging", "hydra_logging"):
        if hydra.get(part) is not None:
            _check_logging(OmegaConf.to_container(hydra[part], resolve=False), f"hydra.{part}")


def _check_commands(hydra: DictConfig) -> None:
    """Shell commands of a launcher come from the call alone, never from a file."""
    given = [str(override).lstrip("+").partition("=")[0] for override in hydra.overrides.hydra]
    for key in _COMMANDS:
        if OmegaConf.select(OmegaConf.create({"hydra": hydra}), key) and not any(name.startswith(key) for name in given):
            raise ConfigError(f"{key} must be an argument of the call, got it from a file; it is run as shell commands")
    for name, value in hydra.launcher.items() if hydra.launcher else ():
        if isinstance(value, str) and re.search(r"[\r\n]", value):  # a line of its own in Slurm's script
            raise ConfigError(f"hydra.launcher.{name} must be one line, got {value!r}")


def _check_logging(node: Any, key: str) -> None:
    for name, value in _items(node):
        inner = f"{key}.{name}"
        if name == "." or (name == "()" and value not in _LOG_FACTORIES) or (name == "class" and value not in _LOG_CLASSES):
            raise ConfigError(f"{inner} must be one of {', '.join(_LOG_CLASSES + _LOG_FACTORIES)}, got {value!r}")
        if name == "filename" and not str(value).endswith(".log"):
            raise ConfigError(f"{inner} must end in .log, got {value!r}")
        if isinstance(value, str) and name != "filename" and _refers(value):
            raise ConfigError(f"{inner} must be a plain value or one of {', '.join(_LOG_STREAMS)}, got {value!r}")
        _check_logging(value, inner)


def _refers(value: str) -> bool:
    return "${" in value or (bool(re.match(r"\w+://", value)) and value not in _LOG_STREAMS)


def _items(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, Sequence) and not isinstance(node, str):
        yield from enumerate(node)
