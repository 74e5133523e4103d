"""Hydra's loading of configurations, safe for untrusted files.

An untrusted file can neither run code nor read secrets through Hydra itself before a job starts: callbacks, launchers, sweepers,
logging, environment variables, and interpolations that read or decode. The objects that a configuration may build are in
`segpipe.config.building`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from segpipe.config.building import check_names, find_targets
from segpipe.errors import ConfigError

# Resolvers that read the environment, which holds secrets, or make a configuration of a text.
REFUSED_RESOLVERS = ("oc.env", "oc.decode", "oc.create", "env")
_TARGETS = {
    "callbacks": re.compile(r"segpipe\.cli\.(running\.JobErrors|sweeps\.(CappedJobs|SweptFolder))"),
    "launcher": re.compile(r"(hydra_plugins|hydra\._internal\.core_plugins)\.[\w.]+"),
    "sweeper": re.compile(r"(hydra_plugins|hydra\._internal\.core_plugins)\.[\w.]+"),
}
# Lines of Slurm's shell script, and options of sbatch.
_COMMANDS = ("hydra.launcher.setup", "hydra.launcher.additional_parameters")
_LOG_CLASSES = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter")
_LOG_FACTORIES = ("colorlog.ColoredFormatter",)
_LOG_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")


class CheckedConfigLoader(ConfigLoaderImpl):
    """Loader that checks a configuration before anything of it is built.

    Each process of a sweep uses it.
    """

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Compose and check a configuration; called by Hydra.

        Raises:
            ConfigError: The configuration requests something that is not allowed.
        """
        refuse_resolvers()
        config: DictConfig = super().load_configuration(*args, **kwargs)
        check_hydra(config.hydra)
        check_names(config)
        return config

    def _process_config_searchpath(self, config_name: str | None, parsed_overrides: list[Override], repo: Any) -> None:
        """Refuse packages in a search path, which Hydra would import."""
        primary = None if config_name is None else repo.load_config(config_path=config_name)
        paths = [override.value() for override in parsed_overrides if override.get_key_element() == "hydra.searchpath"]
        refuse_packages(*paths, None if primary is None else OmegaConf.select(primary.config, "hydra.searchpath"))
        super()._process_config_searchpath(config_name, parsed_overrides, repo)


def refuse_packages(*paths: Any) -> None:
    """Refuse Python packages as folders of configurations, which would be imported.

    Args:
        *paths: Paths of a search path, or lists of them; None is skipped.

    Raises:
        ConfigError: A path begins with `pkg:`.
    """
    packages = re.findall(r"pkg:[^\s'\",\]]*", " ".join(map(str, paths)))
    if packages:
        raise ConfigError(f"a folder of configurations must be a path, got {packages[0]}, whose code would run; give a path")


def refuse_resolvers() -> None:
    """Make the interpolations of `REFUSED_RESOLVERS` fail for the rest of the process."""
    for name in REFUSED_RESOLVERS:

        def refuse(*_: Any, name: str = name) -> NoReturn:
            raise ConfigError(
                f"${{{name}:...}} is refused, because its value would be saved with the results; write the value itself"
            )

        OmegaConf.register_new_resolver(name, refuse, replace=True)


def check_hydra(hydra: DictConfig) -> None:
    """Check the part of a configuration that is for Hydra itself.

    Args:
        hydra: Node of that name.

    Raises:
        ConfigError: A class, log handler, environment variable or shell command is not allowed.
    """
    if hydra.job.env_set or hydra.job.env_copy:
        raise ConfigError("hydra.job.env_set and env_copy must be empty; set environment variables in the shell")
    for part, allowed in _TARGETS.items():
        for key, target in find_targets(hydra, "hydra", strict=True, but={str(name) for name in hydra} - {part}):
            if key.count(".") > (2 if part == "callbacks" else 1) or not allowed.fullmatch(str(target)):
                raise ConfigError(f"{key}._target_ must be a class of Hydra or segpipe, got {target!r}")
    _check_commands(hydra)
    for part in ("job_logging", "hydra_logging"):
        if hydra.get(part) is not None:
            _check_logging(OmegaConf.to_container(hydra[part], resolve=False), f"hydra.{part}")


def _check_commands(hydra: DictConfig) -> None:
    """Refuse shell commands of a launcher that come from a file."""
    given = [str(override).lstrip("+").partition("=")[0] for override in hydra.overrides.hydra]
    for key in _COMMANDS:
        if OmegaConf.select(OmegaConf.create({"hydra": hydra}), key) and not any(name.startswith(key) for name in given):
            raise ConfigError(f"{key} must be an argument of the call, got it from a file; it would run as shell commands")
    for name, value in hydra.launcher.items() if hydra.launcher else ():
        if isinstance(value, str) and re.search(r"[\r\n]", value):  # would be a line of its own in Slurm's script
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
