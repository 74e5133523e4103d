"""Objects that a configuration may build, named by `_target_`.

Their names are checked before anything is imported, and they are built only here.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from inspect import Parameter, isclass, isfunction, signature
from pkgutil import resolve_name
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segpipe.config.arguments import unwrap
from segpipe.config.fields import drop_empty, to_dict
from segpipe.errors import ConfigError


@dataclass(frozen=True)
class Buildable:
    """Targets of one kind.

    Attributes:
        package: Package that contains the name and the definition of the target.
        base: Base class of the target, or of the object that it returns if it is a function.
    """

    package: str
    base: str


# By config group; a `_target_` anywhere else is refused.
BUILDABLE: dict[str, tuple[Buildable, ...]] = {
    "data": (Buildable("segpipe.data", "segpipe.data.check.CheckedDataset"),),
    "augment": (
        Buildable("albumentations", "albumentations.BasicTransform"),
        Buildable("albumentations", "albumentations.BaseCompose"),
        Buildable("segpipe.data.augmentation", "albumentations.BasicTransform"),
    ),
    "loss": (
        Buildable("segpipe.losses", "torch.nn.Module"),
        Buildable("torch.nn", "torch.nn.modules.loss._Loss"),
        Buildable("segmentation_models_pytorch.losses", "torch.nn.Module"),
    ),
    "optimizer": (Buildable("torch.optim", "torch.optim.Optimizer"), Buildable("timm.optim", "torch.optim.Optimizer")),
    "scheduler": (
        Buildable("segpipe.training.schedule", "segpipe.training.schedule.Schedule"),
        Buildable("torch.optim.lr_scheduler", "torch.optim.lr_scheduler.LRScheduler"),
    ),
    "logger": (Buildable("segpipe.training.tracking", "lightning.pytorch.loggers.Logger"),),
}
_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
# Groups whose target is completed later, with the parameters of the network or the optimizer.
_PARTIAL = ("optimizer", "scheduler")


def build(settings: Any, group: str, key: str | None = None, /, **arguments: Any) -> Any:
    """Build the objects that a config group names.

    Args:
        settings: Group or a part of it, with `_target_`; a dataclass of its schema, a mapping, or a list of these.
        group: Key of `BUILDABLE`.
        key: Dotted key of `settings` for messages; None for `group`.
        **arguments: Further arguments of the target.

    Returns:
        The object, or the list of objects of a list.

    Raises:
        ConfigError: A target in `settings` may not be built in this group, lacks an argument, or refuses a value.
        InstantiationException: A target failed for another reason.
    """
    key = key or group
    for inner, target in find_targets(_as_node(settings), key):
        _check_target(inner, target, group)
    node = OmegaConf.create(to_dict(settings))
    _check_arguments(node, key, arguments)
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        raise unwrap(error, key) from error


def build_accepted(settings: Any, group: str, *, partial_within: str | None = None, **offered: Any) -> Any:
    """Build an object with those arguments that its target takes.

    Left out are those of `offered` that the target does not take, and fields of the schema of `settings` that it does not take:
    these belong to the option that was chosen before `_target_` was changed. Keys that were added are always passed.

    Args:
        settings: Group with `_target_`, a dataclass of its schema.
        group: Key of `BUILDABLE`.
        partial_within: Package of targets that are completed later; they are returned as `functools.partial`.
        **offered: Further arguments of the target.

    Returns:
        The object, or the partial.

    Raises:
        ConfigError: The target may not be built in this group, lacks an argument, or refuses a value.
        InstantiationException: The target failed for another reason.
    """
    values, target = to_dict(settings), settings._target_
    _check_target(group, target, group)
    parameters = signature(resolve_name(target)).parameters
    takes_all = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    schema = {field.name for field in fields(settings) if field.name[0] != "_"}
    kept = {name: value for name, value in values.items() if takes_all or name in parameters or name not in schema}
    arguments = {name: value for name, value in offered.items() if takes_all or name in parameters}
    if partial_within is not None and target.startswith(f"{partial_within}."):
        arguments["_partial_"] = True
    return build(kept, group, **arguments)


def check_targets(config: Any) -> None:
    """Check all targets of a configuration, before a training writes anything.

    Args:
        config: Configuration of a training, composed or typed.

    Raises:
        ConfigError: A target may not be built, or a further data set lacks an argument of its loader.
    """
    for key, target in find_targets(_as_node(config)):
        _check_target(key, target, _group_of(key))
    for number, entry in enumerate(to_dict(config.data.extra)):
        _check_arguments(OmegaConf.create(drop_empty(entry)), f"data.extra[{number}]", {})


def check_names(config: DictConfig) -> None:
    """Check the names of all targets without importing any of them.

    Hydra's own node is left out.

    Raises:
        ConfigError: A target is outside the packages of its group, or an interpolation is refused.
    """
    for key, target in find_targets(config, but=("hydra",)):
        _named_in(key, target, _group_of(key))


def find_targets(node: Any, key: str = "", *, strict: bool = False, but: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """Find all `_target_` of a configuration, behind interpolations too.

    Args:
        node: Part of the configuration.
        key: Dotted key of the part.
        strict: True to refuse interpolations that cannot be resolved yet; otherwise they are skipped, because `build` finds them.
        but: Names of this level that are skipped.

    Yields:
        Dotted key of the mapping, and its target.

    Raises:
        ConfigError: An interpolation is refused or cannot be resolved.
    """
    if not isinstance(node, DictConfig | ListConfig):
        return
    for name in list(node) if isinstance(node, DictConfig) else range(len(node)):
        inner = f"{key}[{name}]" if isinstance(node, ListConfig) else f"{key}.{name}".lstrip(".")
        if name in but or OmegaConf.is_missing(node, name):
            continue
        try:
            value = node[name]
        except OmegaConfBaseException as error:
            refusal = _refusal_in(error)
            if refusal is not None:
                raise ConfigError(f"{inner}: {refusal}") from error
            if strict or name == "_target_":
                raise ConfigError(f"{inner} must refer to a value that exists: {str(error).partition(chr(10))[0]}") from error
            continue
        if name == "_target_":
            yield key, value
            if isinstance(node, DictConfig) and node.get("_partial_") and key not in _PARTIAL:
                raise ConfigError(f"{key}._partial_ must be false, got true; only {' and '.join(_PARTIAL)} are completed later")
        else:
            yield from find_targets(value, inner, strict=strict)


def _refusal_in(error: BaseException | None) -> ConfigError | None:
    """Find an error of segpipe among the causes of another one."""
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__ or error.__context__
    return error


def _as_node(settings: Any) -> DictConfig | ListConfig:
    return settings if isinstance(settings, DictConfig | ListConfig) else OmegaConf.create(to_dict(settings))


def _check_arguments(node: DictConfig | ListConfig, key: str, arguments: Mapping[str, Any]) -> None:
    """Check that each target is given its required arguments.

    Raises:
        ConfigError: A required argument is missing.
    """
    for inner, target in find_targets(node, key):
        settings: Any = OmegaConf.select(node, inner.removeprefix(key).lstrip(".")) if inner != key else node
        given = {*map(str, settings), *(arguments if settings is node else ())}
        if settings.get("_partial_") or arguments.get("_partial_") or "_args_" in given:
            continue
        for parameter in signature(resolve_name(target)).parameters.values():
            if parameter.kind in _NAMED and parameter.default is Parameter.empty and parameter.name not in given:
                name = f"{inner}.{parameter.name}"
                raise ConfigError(f"{name} must be given for {target}, got nothing; add it, or choose another target")


def _group_of(key: str) -> str:
    return key.partition(".")[0].partition("[")[0]


def _check_target(key: str, target: Any, group: str) -> None:
    """Import a target and check its kind."""
    named = _named_in(key, target, group)
    try:
        found = resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}._target_ must exist, got {target!r}; check its spelling") from error
    if not any(_is_of_kind(found, kind) for kind in named):
        bases = " or ".join(dict.fromkeys(kind.base for kind in named))
        raise ConfigError(f"{key}._target_ must be or return a {bases}, got {target!r}")


def _named_in(key: str, target: Any, group: str) -> list[Buildable]:
    """List the kinds of a group that fit a target's name.

    Raises:
        ConfigError: There are none.
    """
    kinds = BUILDABLE.get(group, ())
    named = [kind for kind in kinds if isinstance(target, str) and target.startswith(f"{kind.package}.")]
    if not named:
        packages = " or ".join(dict.fromkeys(kind.package for kind in kinds))
        rule = f"must name an object of {packages}" if packages else "must not be given, this key builds no object"
        raise ConfigError(f"{key}._target_".lstrip(".") + f" {rule}, got {target!r}")
    return named


def _is_of_kind(found: Any, kind: Buildable) -> bool:
    """Return True for an object or a builder of a kind."""
    # Its definition counts: a package also names objects that it imports.
    if not f"{getattr(found, '__module__', '')}.".startswith(f"{kind.package}."):
        return False
    made = signature(found).return_annotation if isfunction(found) else found
    return isclass(made) and issubclass(made, resolve_name(kind.base))
