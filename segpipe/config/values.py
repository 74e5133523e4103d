"""Values that no type can judge: paths that must exist, words from a short list, counts; checked in the first second."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from segpipe.config.arguments import CHANGES_ALLOWED
from segpipe.config.bounds import check_numbers
from segpipe.config.choices import PIPELINE_CHOICES, require_choice
from segpipe.config.groups import SyntheticConfig
from segpipe.errors import ConfigError

FOLDERS = ("bundles", "runs", "distill.teacher")  # of trained models, or of runs; one or a list
PATHS = ("bundle.segmenter", "bundle.classifier", "labels", "masks", "split", "ckpt_path", "data.table")
TRAINING_FILES = ("config.yaml", "split.csv", "metrics.csv")
STARTS = ("segmenter.init", "classifier.init")
CHOICES: dict[str, tuple[str, ...]] = {
    "localize": PIPELINE_CHOICES["localize"],
    "figures": ("auto", "true", "false"),
    "report": ("none", "html"),
    "engine": ("local", "ray"),
    "precision": PIPELINE_CHOICES["precision"],
    "part": ("train", "val", "test"),
    "sampler": ("none", "square_root", "balanced"),
    "loss.weighting": ("none", "inverse", "effective"),
    "classifier.attention": ("none", "channel", "spatial", "cbam"),
    "trainer.strategy": ("auto", "ddp"),
    "classifier.padding": ("zeros", "replicate"),
    "crop.border": ("squeeze", "reflect"),
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.precision": ("auto", "32-true", "16-mixed", "bf16-mixed"),
    "calibration": ("none", "temperature", "logit_adjustment"),
    "tta.views": PIPELINE_CHOICES["tta"],
    "distill.views": PIPELINE_CHOICES["tta"],
    "explain.method": PIPELINE_CHOICES["explain"],
}
AUTO = "auto"
AUTO_TARGETS = ["mel", "malignant"]  # of threshold.diagnosis=auto, as far as they occur
# What a tracker needs and segpipe does not; MLflow keeps its store, where there is no server, by the last two.
LIBRARIES = {"tensorboard": ("tensorboard",), "wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}


def check_values(config: DictConfig) -> None:
    """Stop at the first value that is missing or cannot be meant; keys that are null, or not in this configuration, pass.

    Args:
        config: the whole configuration of a script.

    Raises:
        ConfigError: a key that must be given is not, a path does not exist, a word is none of its list, a number is too small or
            does not fit the U-Net, or a tracker cannot be used.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{missing[0]} must be given, got nothing; write {missing[0]}=...")
    for key in PATHS:
        value = _value(config, key)
        if value == []:
            raise ConfigError(f"{key}=[...] must hold at least one path, got an empty list; null takes what is shipped")
        for path in list_paths(value):
            if not os.path.exists(path):
                raise ConfigError(f"{key} must be an existing path, got {path!r}; check its spelling")
    _check_folders(config)
    _check_resuming(config)
    for key in STARTS:
        start = _value(config, key)
        if start not in (None, "random", "imagenet", "shipped") and not os.path.exists(start):
            raise ConfigError(
                f"{key} must be random, imagenet, shipped, a safetensors file or the folder of a bundle, got {start!r}; "
                "check its spelling"
            )
    for key, choices in CHOICES.items():
        word = _value(config, key)
        if word is not None:
            word = word.lower() if key == "figures" else word  # true comes as True
            require_choice(key, word, choices, advice="--help says what they mean")
    if _value(config, "resume") and _value(config, "overwrite"):
        raise ConfigError("give one of resume=true, which goes on with earlier results, and overwrite=true, which removes them")
    check_numbers(config)
    _check_fits(config)
    _check_sizes(config)
    _check_extra(config)
    _check_trackers(config)


def _check_folders(config: DictConfig) -> None:
    for key in FOLDERS:
        value = _value(config, key)
        if value == []:
            raise ConfigError(f"{key}=[...] must hold at least one folder, got an empty list")
        for folder in list_paths(value):
            if not os.path.isdir(folder):
                what = "a list of folders" if isinstance(value, ListConfig) else "a folder"
                raise ConfigError(f"{key} must be {what}, got {folder!r}; check its spelling")
    root = _value(config, "data.root")
    if root is not None and OmegaConf.get_type(config, "data") is not SyntheticConfig and not os.path.isdir(root):
        raise ConfigError(f"data.root must be a folder, got {root!r}; see data/README.md, or use data=synthetic")
    cache = _value(config, "data.cache")
    if cache == "" or (cache is not None and os.path.exists(cache) and not os.path.isdir(cache)):
        raise ConfigError(f"data.cache must be a folder, which may not exist yet, or null, got {cache!r}")


def _check_resuming(config: DictConfig) -> None:
    """A training resumes in its own folder, which nothing else may be taken for, or where `output` says."""
    unknown = sorted(set(_value(config, "allow_change") or ()) - set(CHANGES_ALLOWED))
    if unknown:
        raise ConfigError(f"allow_change must list only {', '.join(CHANGES_ALLOWED)}, got {unknown[0]!r}")
    ckpt_path = _value(config, "ckpt_path")
    if ckpt_path is None:
        return
    if not os.path.isfile(ckpt_path):
        raise ConfigError(f"ckpt_path must be a file, got {ckpt_path!r}, a folder; name checkpoints/last.ckpt of a training")
    checkpoints = Path(ckpt_path).resolve().parent
    of_training = checkpoints.name == "checkpoints" and all((checkpoints.parent / name).is_file() for name in TRAINING_FILES)
    if config.output is None and not of_training:
        raise ConfigError(
            f"ckpt_path must be TRAINING/checkpoints/last.ckpt where output is not given, got {ckpt_path!r}, which lies in no "
            "folder of a training; say with output=DIR where to write"
        )


def _check_trackers(config: DictConfig) -> None:
    for name in _value(config, "logger") or ():
        # A folder of that name, such as wandb makes where it is called, has no origin.
        missing = [library for library in LIBRARIES.get(name, ()) if getattr(find_spec(library), "origin", None) is None]
        if missing:
            raise ConfigError(f'logger={name} needs {" and ".join(missing)}; pip install "segpipe[tracking]"')
    if _value(config, "logger.wandb.offline") is False:
        import wandb

        if not wandb.login(prompt=False, verify=False):
            raise ConfigError("logger.wandb.offline=false needs a login; run wandb login, or set WANDB_API_KEY")


def list_paths(value: Any) -> list[str]:
    """The paths that a key holds, which may be a single one, a list of them, or null."""
    return [str(path) for path in as_list(value)]


def _check_fits(config: DictConfig) -> None:
    """Numbers that depend on another one, or on a network."""
    fold, folds = _value(config, "data.fold"), _value(config, "data.folds")
    if fold is not None and (folds < 2 or fold >= folds):
        raise ConfigError(f"data.fold must be below data.folds, which must be 2 or more, got {fold} of {folds}")
    if "threshold" in config:
        threshold_targets(config)
    size = _value(config, "segmenter.input_size")
    if size is not None and size % 32:
        raise ConfigError(f"segmenter.input_size must be a multiple of 32, because the U-Net halves it five times, got {size}")
    if _value(config, "loss.bce_weight") == _value(config, "loss.dice_weight") == 0:
        raise ConfigError("one of loss.bce_weight and loss.dice_weight must be above 0, got 0 and 0")
    devices = _value(config, "trainer.devices")
    numbers = list(devices) if isinstance(devices, ListConfig) else []
    if not (devices in (None, "auto") or _is_count(devices, 1) or (numbers and all(_is_count(number, 0) for number in numbers))):
        raise ConfigError(f"trainer.devices must be auto, a number of devices, or a list of their numbers, got {devices!r}")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def threshold_targets(config: DictConfig) -> dict[str, float]:
    """Sensitivity to reach by target of an operating point, as `threshold.*` of a training asks for.

    Raises:
        ConfigError: `threshold.diagnosis` holds no names or one twice, or `threshold.target_sensitivity` no fractions, or not as
            many.
    """
    names, fractions = _target_names(config.threshold.diagnosis), as_list(config.threshold.target_sensitivity)
    for fraction in fractions:
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
            raise ConfigError(f"threshold.target_sensitivity must be above 0 and at most 1, got {fraction}")
    if len(fractions) == 1:
        return dict.fromkeys(names, fractions[0])
    if config.threshold.diagnosis == AUTO or len(fractions) != len(names):
        raise ConfigError(
            "threshold.target_sensitivity must be one number, or one for each name that threshold.diagnosis lists, got "
            f"{len(fractions)} numbers for {config.threshold.diagnosis}"
        )
    return dict(zip(names, fractions, strict=True))


def _target_names(asked: Any) -> list[str]:
    """The names in `threshold.diagnosis`; a class may be called by a number."""
    named = AUTO_TARGETS if asked == AUTO else as_list(asked)
    names = {str(name): None for name in named if isinstance(name, str | int) and not isinstance(name, bool) and name != ""}
    if len(names) < len(named):
        raise ConfigError(
            f"threshold.diagnosis must be {AUTO}, null, or one or more codes of classes and malignant, each once, got {asked}"
        )
    return list(names)


def as_list(value: Any) -> list[Any]:
    """The values that a key holds, which may be a single one, a list of them, or null."""
    if value is None:
        return []
    return list(value) if isinstance(value, ListConfig) else [value]


def _check_sizes(config: DictConfig) -> None:
    """Check the sizes of training images over the epochs, and that a training has one of mixup and consistency."""
    pairs = _value(config, "augment.sizes") or []
    largest = _value(config, "classifier.input_size") or _value(config, "segmenter.input_size")
    step = 32 if "segmenter" in config else 1
    epochs = [pair[0] for pair in pairs if len(pair) == 2]
    paired = len(epochs) == len(pairs)
    fitting = paired and all(epoch >= 0 and 32 <= size <= largest and size % step == 0 for epoch, size in pairs)
    if not fitting or epochs != sorted(set(epochs)):
        multiples = " and a multiple of 32" if step > 1 else ""
        raise ConfigError(
            "augment.sizes must hold pairs of an epoch, which rise, and a size from 32 to the input size, "
            f"{largest}{multiples}, such as [[0,{max(32, largest // 64 * 32)}]], got {OmegaConf.to_container(pairs)}"
        )
    if _value(config, "augment.turn_consistency") and _value(config, "augment.mixup_alpha"):
        raise ConfigError("augment.turn_consistency and augment.mixup_alpha must not both be above 0; set one of them to 0")


def _check_extra(config: DictConfig) -> None:
    for number, entry in enumerate(_value(config, "data.extra") or []):
        for name in ("root", "table", "split"):
            path = entry[name]
            if path is not None and not os.path.exists(path):
                raise ConfigError(f"data.extra[{number}].{name} must be an existing path, got {path!r}; check its spelling")


@contextmanager
def refuse_values() -> Iterator[None]:
    """For the building of a script's parts: what these refuse as a value is a wrong call, not a bug.

    Raises:
        ConfigError: in place of a ValueError.
    """
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _value(config: DictConfig, key: str) -> Any:
    return OmegaConf.select(config, key)
