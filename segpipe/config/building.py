"""Objects that a configuration may name by `_target_`: checked before any of them is imported, and built here alone."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from inspect import isclass, isfunction, signature
from pkgutil import resolve_name
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segpipe.errors import ConfigError


@dataclass(frozen=True)
class Buildable:
    """Targets of one kind.

    Attributes:
        package: package that the target is named in and defined in.
        base: class that the target derives from, or that it returns if it is a function.
    """

    package: str
    base: str


# By config group; whatever else of the configuration holds a `_target_` is refused.
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
    "scheduler": (Buildable("segpipe.training.schedule", "builtins.object"),),
    "logger": (Buildable("segpipe.training.tracking", "lightning.pytorch.loggers.Logger"),),
}
_PARTIAL = "optimizer"  # the only group whose target is completed later, with the parameters of the network


def build(settings: DictConfig | ListConfig, group: str, **arguments: Any) -> Any:
    """Build what a config group names.

    Args:
        settings: the group or a part of it, with `_target_`.
        group: key of `BUILDABLE`.
        arguments: further arguments of the target.

    Returns:
        The object, or the list of objects of a list.

    Raises:
        ConfigError: a target in `settings` may not be built in this group.
        InstantiationException: the target refuses its arguments.
    """
    for key, target in find_targets(settings, group):
        _check_target(key, target, group)
    return instantiate(settings, _convert_="all", **arguments)


def check_targets(config: DictConfig) -> None:
    """Check all targets of a configuration as `build` does, before a training writes or builds anything.

    Raises:
        ConfigError: one of them may not be built.
    """
    for key, target in find_targets(config):
        _check_target(key, target, _group_of(key))


def check_names(config: DictConfig) -> None:
    """Check the targets of a configuration by their names, without importing any of them; Hydra's own node is left out.

    Raises:
        ConfigError: one of them lies outside the packages of its group, or an interpolation is refused.
    """
    for key, target in find_targets(config, but=("hydra",)):
        _named_in(key, target, _group_of(key))


def find_targets(node: Any, key: str = "", *, strict: bool = False, but: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """Find all `_target_` of a configuration, behind interpolations too.

    Args:
        node: part of the configuration.
        key: its dotted key.
        strict: refuse interpolations that cannot be resolved yet; else they are passed over, for `build` finds them.
        but: names of this level that are left out.

    Yields:
        The dotted key of the mapping, and its target.

    Raises:
        ConfigError: an interpolation is refused, or cannot be resolved.
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
            if isinstance(node, DictConfig) and node.get("_partial_") and key != _PARTIAL:
                raise ConfigError(f"{key}._partial_ must be false, got true; only {_PARTIAL} is completed later")
        else:
            yield from find_targets(value, inner, strict=strict)


def _refusal_in(error: BaseException | None) -> ConfigError | None:
    """Find an error of segpipe among the causes of another one."""
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__ or error.__context__
    return error


def _group_of(key: str) -> str:
    return key.partition(".")[0].partition("[")[0]


def _check_target(key: str, target: Any, group: str) -> None:
    """Import a target, and see that it is of the kind that its group needs."""
    named = _named_in(key, target, group)
    try:
        found = resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}._target_ must exist, got {target!r}; check its spelling") from error
    if not any(_is_of_kind(found, kind) for kind in named):
        bases = " or ".join(dict.fromkeys(kind.base for kind in named))
        raise ConfigError(f"{key}._target_ must be or return a {bases}, got {target!r}")


def _named_in(key: str, target: Any, group: str) -> list[Buildable]:
    """The kinds of a group in whose packages a target is named.

    Raises:
        ConfigError: there are none.
    """
    kinds = BUILDABLE.get(group, ())
    named = [kind for kind in kinds if isinstance(target, str) and target.startswith(f"{kind.package}.")]
    if not named:
        packages = " or ".join(dict.fromkeys(kind.package for kind in kinds))
        rule = f"must name an object of {packages}" if packages else "must not be given, this key builds no object"
        raise ConfigError(f"{key}._target_".lstrip(".") + f" {rule}, got {target!r}")
    return named


def _is_of_kind(found: Any, kind: Buildable) -> bool:
    """Whether an object is defined in the package of a kind, and derives from its base or returns one."""
    # By where it is defined: a package also names what it imports.
    if not f"{getattr(found, '__module__', '')}.".startswith(f"{kind.package}."):
        return False
    made = signature(found).return_annotation if isfunction(found) else found
    return isclass(made) and issubclass(made, resolve_name(kind.base))
