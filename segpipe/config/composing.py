"""Composition of configurations for commands, web page and Python."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, is_dataclass
from functools import lru_cache
from threading import RLock
from typing import Any

import hydra._internal.hydra as hydra_internals
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from segpipe.config import CONF
from segpipe.config.arguments import as_override, explain, explain_unknown_key, quote_text
from segpipe.config.fields import list_keys
from segpipe.config.loading import CheckedConfigLoader
from segpipe.config.schemas import SCHEMAS, register_resolvers, register_schemas
from segpipe.config.values import check_values
from segpipe.errors import ConfigError

# Errors that only a wrong call can cause before a job starts.
CALL_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError)
_STATES = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)  # of a Hydra application
_COMPOSING = RLock()  # Hydra's state belongs to the process


def compose_config(name: str, arguments: Sequence[str] = (), *, values: Mapping[str, Any] | None = None) -> DictConfig:
    """Compose and check a configuration outside `hydra.main`.

    The state of Hydra and its resolvers are restored, so a Hydra application may call this function.

    Args:
        name: Name of the primary configuration.
        arguments: `key=value` arguments, as a shell passes them.
        values: Values by key, taken literally.

    Raises:
        ConfigError: The call is wrong; the message names the key, the value and the way out.
    """
    overrides = [*quote_paths(arguments), *(as_override(key, value) for key, value in (values or {}).items())]
    try:
        config = _compose(name, overrides)
        refusal = refuse_unknown_key(config, arguments)
        if refusal:
            raise ConfigError(refusal)
        check_values(config)
    except CALL_ERRORS as error:
        # Advice that only a command can follow: --help, image= and folder=.
        reason = str(error) if isinstance(error, ConfigError) else explain(error, [*arguments, *overrides])
        raise ConfigError(re.sub(r";? (--help (lists|says|shows)|write image=).*", "", reason)) from error
    return config


def _compose(name: str, overrides: list[str]) -> DictConfig:
    register_schemas()
    register_resolvers()
    with _COMPOSING, _own_state(), checked_loading(), initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=overrides)


def quote_paths(overrides: Sequence[str]) -> list[str]:
    """Quote the values of path keys, so that Hydra takes them literally.

    Args:
        overrides: `key=value` arguments as the shell passes them; a `[list]`, `null` and an empty value are left alone.
    """
    return [_quote_path(override) for override in overrides]


def _quote_path(override: str) -> str:
    key, equal, value = override.partition("=")
    if not equal or not re.fullmatch(r"\+{0,2}[^+].*", key) or key.lstrip("+") not in path_keys():
        return override
    if value in ("", "null") or (value[0], value[-1]) == ("[", "]"):
        return override
    return f"{key}={quote_text(value)}"


def path_keys() -> frozenset[str]:
    """List the keys of all commands whose values are paths."""
    return _path_keys(tuple((group, schema) for group, schemas in SCHEMAS.items() for schema in schemas.values()))


@lru_cache(maxsize=1)
def _path_keys(schemas: tuple[tuple[str | None, type], ...]) -> frozenset[str]:
    keys = ((key, setting) for group, schema in schemas for key, setting in list_keys(schema, f"{group}." if group else ""))
    return frozenset(key for key, setting in keys if setting.path is not None)


def typed(config: DictConfig) -> Any:
    """Turn a composed configuration into the dataclasses of its schema.

    Keys that were added to a group (`+trainer.NAME=`) become attributes of its object, see `segpipe.config.fields.to_dict`.

    Args:
        config: Configuration that `check_values` accepts.

    Returns:
        Instance of the schema, for example `TrainClsConfig`, with all interpolations resolved.

    Raises:
        MissingMandatoryValue: A key has no value.
        InterpolationResolutionError: A key refers to a value that does not exist.
    """
    return OmegaConf.to_object(config)


def refuse_unknown_key(config: DictConfig, arguments: Sequence[str]) -> str | None:
    """Explain an unknown top-level key; return None without one.

    Args:
        config: Configuration of a call.
        arguments: `key=value` arguments of the call.
    """
    schema: Any = OmegaConf.get_type(config)
    if not is_dataclass(schema):
        return (
            "a primary configuration must list a schema of segpipe, such as train_cls_schema, first in its defaults; else give "
            "its values as an experiment, +experiment=NAME"
        )
    known = {field.name for field in fields(schema)}
    unknown = sorted(set(map(str, config)) - known - {"hydra"})
    return explain_unknown_key(unknown[0], known, arguments) if unknown else None


def checked_loading() -> AbstractContextManager[None]:
    """Have Hydra load configurations with `CheckedConfigLoader` within a block."""
    return replaced(hydra_internals, "ConfigLoaderImpl", CheckedConfigLoader)


@contextmanager
def replaced(owner: object, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute within a block."""
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


@contextmanager
def _own_state() -> Iterator[None]:
    """Isolate the state of Hydra in a block."""
    # Plugins, schemas and resolvers are kept.
    kept, resolvers = {kind: dict(vars(kind.instance())) for kind in _STATES}, dict(BaseContainer._resolvers)
    try:
        for kind in _STATES:
            vars(kind.instance()).update(vars(type.__call__(kind)))  # a new object beside the singleton
        yield
    finally:
        for kind, state in kept.items():
            vars(kind.instance()).update(state)
        BaseContainer._resolvers.clear()
        BaseContainer._resolvers.update(resolvers)
