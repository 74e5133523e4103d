"""Configurations of calls, composed by Hydra and checked: for the commands, the web page and Python alike."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, is_dataclass
from threading import RLock
from typing import Any

import hydra._internal.hydra as hydra_internals
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from segpipe.config.arguments import as_override
from segpipe.config.call_errors import explain, explain_unknown_key
from segpipe.config.literal_paths import quote_paths
from segpipe.config.loading import CheckedConfigLoader
from segpipe.config.resources import CONF
from segpipe.config.schemas import register_resolvers, register_schemas
from segpipe.config.values import check_values
from segpipe.errors import ConfigError

# What only a wrong call can cause, before a job starts.
CALL_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError)
_STATES = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)  # of a Hydra application
_COMPOSING = RLock()  # Hydra's state belongs to the process


def compose_config(name: str, arguments: Sequence[str] = (), *, values: Mapping[str, Any] | None = None) -> DictConfig:
    """Compose the configuration of a call that `hydra.main` does not run, and check it.

    The state of Hydra and its resolvers are afterwards as they were, so a Hydra application may call this.

    Args:
        name: Name of the primary configuration.
        arguments: `key=value` arguments, as a shell hands them over.
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
        # What only a command has: its --help, and image= and folder=.
        reason = str(error) if isinstance(error, ConfigError) else explain(error, [*arguments, *overrides])
        raise ConfigError(re.sub(r";? (--help (lists|says|shows)|write image=).*", "", reason)) from error
    return config


def _compose(name: str, overrides: list[str]) -> DictConfig:
    register_schemas()
    register_resolvers()
    with _COMPOSING, _own_state(), checked_loading(), initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=overrides)


def refuse_unknown_key(config: DictConfig, arguments: Sequence[str]) -> str | None:
    """Say what is wrong with a key at the top that the schema does not know; None where there is none.

    Args:
        config: Configuration of a call.
        arguments: `key=value` arguments of the call.
    """
    schema: Any = OmegaConf.get_type(config)
    if not is_dataclass(schema):
        return (
            "a primary configuration must have a schema of segpipe first in its defaults, train_cls_schema for one; or give its "
            "values as an experiment, +experiment=NAME"
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
    """Give a block a Hydra of its own, with the plugins, schemas and resolvers that are there."""
    instances, resolvers = Singleton._instances, dict(BaseContainer._resolvers)
    shared = {kind: single for kind, single in instances.items() if kind not in _STATES}
    try:
        with replaced(Singleton, "_instances", shared):
            yield
    finally:
        BaseContainer._resolvers.clear()
        BaseContainer._resolvers.update(resolvers)
