"""Checks of values, derived from the metadata of the schemas."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from segpipe.config.fields import Setting, require_choice, settings_of, to_dict
from segpipe.errors import ConfigError, require_extra
from segpipe.io.run_files import CHECKPOINTS, CONFIG, EPOCH_TABLE, SPLIT

TRAINING_FILES = (CONFIG, SPLIT, EPOCH_TABLE)
AUTO = "auto"
AUTO_TARGETS = ["mel", "malignant"]  # of threshold.diagnosis=auto where they occur
# Libraries of a tracker that segpipe does not need; MLflow keeps its local store with the last two.
LIBRARIES = {"tensorboard": ("tensorboard",), "wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}


def check_values(config: Any) -> None:
    """Refuse the first value that is missing or not allowed.

    A key that is null, or absent from the configuration, passes.

    Args:
        config: Configuration of a command, composed or typed; a typed one must have no missing value.

    Raises:
        MissingExtraError: A value needs an extra that is not installed.
        ConfigError: A required key has no value, a path does not exist, a word is not one of the choices, a number is outside its
            bounds, values do not fit together, or a tracker has no login.
    """
    missing = [] if is_dataclass(config) else sorted(_omegaconf().missing_keys(config))
    if missing:
        raise ConfigError(f"{missing[0]} must be given, got nothing; write {missing[0]}=...")
    for key, value, setting in list_settings(config):
        if setting is not None and value is not None:
            _check_path(key, value, setting)
            _check_choice(key, value, setting)
            if setting.extra:
                require_extra(setting.extra, key)
        _check_numbers(key, value, setting)
    _check_resuming(config)
    if _value(config, "resume") and _value(config, "overwrite"):
        raise ConfigError("give one of resume=true, which resumes earlier results, and overwrite=true, which removes them")
    _check_fits(config)
    _check_sizes(config)
    _check_trackers(config)


def list_settings(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Setting | None]]:
    """List the values of a configuration with their metadata.

    Args:
        config: Configuration or a part of it, whose schemas are known.
        prefix: Text before each key.

    Yields:
        Dotted key, value and metadata; None for a key without any, such as those of transforms.
    """
    settings, items = _read_node(config)
    for name, value in items:
        yield f"{prefix}{name}", value, settings.get(name)
        yield from _list_inner(value, f"{prefix}{name}")


def _omegaconf() -> Any:
    """Import OmegaConf, which a plain call does not need."""
    from omegaconf import OmegaConf

    return OmegaConf


def _read_node(node: Any) -> tuple[Mapping[str, Setting], Iterable[tuple[str, Any]]]:
    """Return the metadata and the values of a node, typed or composed."""
    if isinstance(node, dict):
        return {}, node.items()
    if is_dataclass(node):
        return settings_of(node), vars(node).items()
    given = ((str(name), node[name]) for name in node if not _omegaconf().is_missing(node, name))
    return settings_of(_omegaconf().get_type(node)), given


def _list_inner(value: Any, key: str) -> Iterator[tuple[str, Any, Setting | None]]:
    if isinstance(value, Mapping) or is_dataclass(value):
        yield from list_settings(value, f"{key}.")
    elif isinstance(value, MutableSequence):
        for number, item in enumerate(value):
            yield from _list_inner(item, f"{key}[{number}]")


def _check_path(key: str, value: Any, setting: Setting) -> None:
    if setting.path is None:
        return
    if value == []:
        raise ConfigError(f"{key}=[...] must hold at least one path, got an empty list; leave it out for the default")
    for path in map(str, as_list(value)):
        if path in setting.choices:
            continue
        if setting.path == "existing" and not os.path.exists(path):
            words = "".join(f"{word}, " for word in setting.choices)
            raise ConfigError(f"{key} must be {words and words + 'or '}an existing path, got {path!r}; {setting.advice}")
        if setting.path == "folder" and not os.path.isdir(path):
            rule = "a list of folders" if isinstance(value, MutableSequence) else "a folder"
            raise ConfigError(f"{key} must be {rule}, got {path!r}; {setting.advice}")
        if setting.path == "new_folder" and (not path or (os.path.exists(path) and not os.path.isdir(path))):
            raise ConfigError(f"{key} must be a folder, which may not exist yet, or null, got {path!r}")


def _check_choice(key: str, value: Any, setting: Setting) -> None:
    if setting.choices and setting.path is None:
        for word in as_list(value):
            yes_or_no = str(word).lower() in ("true", "false")  # which Hydra reads as True
            require_choice(key, str(word).lower() if yes_or_no else word, setting.choices, advice="--help lists their meanings")


def _check_numbers(key: str, value: Any, setting: Setting | None) -> None:
    """Check a number, or all numbers in a list, nested or not."""
    if isinstance(value, MutableSequence):
        for item in value:
            _check_numbers(key, item, setting)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{key} must be a finite number, got {value}")
        if setting is not None and setting.bounds is not None and value not in setting.bounds:
            raise ConfigError(f"{key} must be {setting.bounds}, got {value}")


def _check_resuming(config: Any) -> None:
    """Check that a training resumes in a known folder."""
    ckpt_path = _value(config, "ckpt_path")
    if ckpt_path is None:
        return
    if not os.path.isfile(ckpt_path):
        raise ConfigError(f"ckpt_path must be a file, got the folder {ckpt_path!r}; give checkpoints/last.ckpt of a training")
    checkpoints = Path(ckpt_path).resolve().parent
    of_training = checkpoints.name == CHECKPOINTS and all((checkpoints.parent / name).is_file() for name in TRAINING_FILES)
    if config.output is None and not of_training:
        raise ConfigError(
            f"ckpt_path must be TRAINING/checkpoints/last.ckpt unless output is given, got {ckpt_path!r}, which is not in the "
            "folder of a training; add output=DIR"
        )


def _check_trackers(config: Any) -> None:
    for name in _value(config, "logger") or ():
        if name in LIBRARIES:
            require_extra("tracking", f"logger={name}", *LIBRARIES[name])
    if _value(config, "logger.wandb.offline") is False:
        import wandb

        if not wandb.login(prompt=False, verify=False):
            raise ConfigError("logger.wandb.offline=false needs a login; run wandb login, or set WANDB_API_KEY")


def _check_fits(config: Any) -> None:
    """Check numbers that depend on another one or on the network."""
    fold, folds = _value(config, "data.fold"), _value(config, "data.folds")
    if fold is not None and (folds < 2 or fold >= folds):
        raise ConfigError(f"data.fold must be below data.folds, which must be 2 or more, got {fold} of {folds}")
    if _value(config, "threshold") is not None:
        threshold_targets(config)
    size = _value(config, "segmenter.input_size")
    if size is not None and size % 32:
        raise ConfigError(f"segmenter.input_size must be a multiple of 32, because the U-Net halves it five times, got {size}")
    if _value(config, "loss.bce_weight") == _value(config, "loss.dice_weight") == 0:
        raise ConfigError("one of loss.bce_weight and loss.dice_weight must be above 0, got 0 and 0")
    devices = _value(config, "trainer.devices")
    numbers = list(devices) if isinstance(devices, MutableSequence) else []
    if not (devices in (None, "auto") or _is_count(devices, 1) or (numbers and all(_is_count(number, 0) for number in numbers))):
        raise ConfigError(f"trainer.devices must be auto, a number of devices, or a list of their numbers, got {devices!r}")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def threshold_targets(config: Any) -> dict[str, float]:
    """Return the sensitivity to reach by target of an operating point.

    Args:
        config: Configuration of a training, composed or typed, with `threshold.diagnosis` and `threshold.target_sensitivity`.

    Raises:
        ConfigError: A name is repeated or no text, or a fraction is out of range, or their numbers differ.
    """
    names, fractions = _target_names(config.threshold.diagnosis), as_list(config.threshold.target_sensitivity)
    for fraction in fractions:
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
            raise ConfigError(f"threshold.target_sensitivity must be above 0 and at most 1, got {fraction}")
    if len(fractions) == 1:
        return dict.fromkeys(names, fractions[0])
    if config.threshold.diagnosis == AUTO or len(fractions) != len(names):
        raise ConfigError(
            "threshold.target_sensitivity must be one number, or one for each name in threshold.diagnosis, got "
            f"{len(fractions)} numbers for {config.threshold.diagnosis}"
        )
    return dict(zip(names, fractions, strict=True))


def _target_names(diagnosis: Any) -> list[str]:
    """List the names in `threshold.diagnosis`, which may be numbers."""
    values = AUTO_TARGETS if diagnosis == AUTO else as_list(diagnosis)
    names = {str(name): None for name in values if isinstance(name, str | int) and not isinstance(name, bool) and name != ""}
    if len(names) < len(values):
        raise ConfigError(
            f"threshold.diagnosis must be {AUTO}, null, or codes of classes and malignant, each at most once, got {diagnosis}"
        )
    return list(names)


def as_list(value: Any) -> list[Any]:
    """Convert a single value, a list or null to a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, MutableSequence | tuple) else [value]


def _check_sizes(config: Any) -> None:
    """Check the image sizes over the epochs, and mixup against consistency."""
    pairs = _value(config, "augment.sizes") or []
    largest = _value(config, "classifier.input_size") or _value(config, "segmenter.input_size")
    step = 32 if _value(config, "segmenter") is not None else 1
    epochs = [pair[0] for pair in pairs if len(pair) == 2]
    paired = len(epochs) == len(pairs)
    fitting = paired and all(epoch >= 0 and 32 <= size <= largest and size % step == 0 for epoch, size in pairs)
    if not fitting or epochs != sorted(set(epochs)):
        multiples = " and a multiple of 32" if step > 1 else ""
        raise ConfigError(
            "augment.sizes must hold pairs of an increasing epoch and a size from 32 to the input size, "
            f"{largest}{multiples}, such as [[0,{max(32, largest // 64 * 32)}]], got {to_dict(pairs)}"
        )
    if _value(config, "augment.turn_consistency") and _value(config, "augment.mixup_alpha"):
        raise ConfigError("augment.turn_consistency and augment.mixup_alpha must not both be above 0; set one of them to 0")


@contextmanager
def refuse_values() -> Iterator[None]:
    """Turn a ValueError in a block into a ConfigError.

    Raises:
        ConfigError: A part refused a value.
    """
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _value(config: Any, key: str) -> Any:
    if not is_dataclass(config):
        return _omegaconf().select(config, key)
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
    return value
