"""Identity of a training: settings and data that its checkpoints record."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import Callback, LightningModule, Trainer

from segpipe.bundle.card_file import SHIPPED
from segpipe.config.arguments import as_argument
from segpipe.config.fields import to_dict
from segpipe.config.schemas import CHANGES_ALLOWED, TrainClsConfig, TrainConfig
from segpipe.data.check import CheckedDataset
from segpipe.data.duplicates import hash_file, hash_files
from segpipe.data.splits import PARTS, split_hash
from segpipe.errors import ConfigError
from segpipe.io.run_files import BEST_CHECKPOINT, CARD, WEIGHTS
from segpipe.training.resuming import read_checkpoint, require_whole
from segpipe.training.starting_weights import (
    KEY,
    describe_distillation,
    list_teachers,
    start_bundle,
    starting_point,
    trained_network,
)

RECORD = "segpipe"  # key in a checkpoint
# Settings that a resumed training may change without permission: duration, hardware, and the steps after the fit.
FREE = (
    *("trainer.max_epochs", "trainer.patience", "trainer.accelerator", "trainer.devices", "trainer.strategy"),
    *("trainer.precision", "workers", "logger", "tta", "heatmap_sample", "calibration", "threshold", "conformal", "allow_leak"),
    *("allow_change", "output", "overwrite", "resume", "data.root", "data.table", "data.cache"),
)
# Those of them that the weights depend on; the card lists their changes.
_LISTED = ("trainer.max_epochs", "trainer.precision")
_SHOWN_CHARACTERS = 60  # of a value in an error

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Identity:
    """Settings and data that identify a training.

    Attributes:
        settings: Values by dotted key that must not differ; files and data as hashes.
        listed: Values of settings that may differ, but that the weights depend on.
        changes: `epoch` (the first with the new value), `key`, `before` and `after` of each setting that changed on resuming.
    """

    settings: Settings
    listed: Settings
    changes: tuple[Settings, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert to the plain values that a checkpoint holds."""
        return {
            "settings": dict(self.settings),
            "listed": dict(self.listed),
            "changes": [dict(change) for change in self.changes],
        }


def identify_settings(config: TrainConfig) -> Identity:
    """Identify a training by its configuration alone, before its data is read.

    Args:
        config: Configuration of the training.
    """
    stage, network = trained_network(config)
    settings = flatten(portable_settings(config))
    listed = {key: settings[key] for key in _LISTED}
    kept = {key: value for key, value in settings.items() if not any(f"{key}.".startswith(f"{free}.") for free in FREE)}
    kept |= {"stage": stage, f"{stage}.init": hash_start(start_bundle(config) or network.init)}
    if isinstance(config, TrainClsConfig):
        kept["bundle.segmenter"] = hash_start(config.bundle.segmenter or SHIPPED / "segmenter")
    if teachers := list_teachers(config):
        kept[KEY] = [hash_start(folder) for folder in teachers]
    return Identity(kept, listed)


def identify_data(dataset: CheckedDataset, extra: pd.DataFrame, split: pd.DataFrame) -> Settings:
    """Identify the data of a training by the contents of its files.

    Args:
        dataset: Checked data set.
        extra: Images of further data sets, with the columns of `dataset.table`.
        split: Rows with `image_id`, `lesion_id` and `part`.

    Returns:
        `data` and `split`.
    """
    table = pd.concat([dataset.table, extra]).sort_values("image_id")
    columns = [table[name].astype(str) for name in ("image_id", "lesion_id", "dx")]
    files = [[path if isinstance(path, str) else None for path in table[name]] for name in ("image_path", "mask_path")]
    digest = hashlib.sha256(repr([*zip(*columns, *map(hash_files, files), strict=True)]).encode()).hexdigest()
    counts = split["part"].value_counts()
    sizes = ", ".join(f"{counts.get(part, 0)} {part}" for part in PARTS)
    return {"data": f"{len(table)} images, SHA-256 {digest}", "split": f"{sizes}, SHA-256 {split_hash(split)}"}


def read_resumed(path: Path) -> dict[str, Any]:
    """Read the checkpoint that a training resumes from.

    Raises:
        ConfigError: The checkpoint is damaged, holds no record of its training, or has no `best.ckpt` of that training beside it.
    """
    require_whole(path)
    checkpoint = read_checkpoint(path)
    if not _is_record(checkpoint.get(RECORD)):
        raise ConfigError(
            f"ckpt_path must be a checkpoint with a record of its training, got {path}, written by an older version of "
            "segpipe or by another program; start again without ckpt_path"
        )
    best = path.resolve().with_name(BEST_CHECKPOINT)
    if not best.is_file() or not _same_training(read_checkpoint(best).get(RECORD), checkpoint[RECORD]):
        raise ConfigError(
            f"ckpt_path must have {BEST_CHECKPOINT} of the same training beside it, got {path}; "
            "move or copy the whole folder of a training"
        )
    return checkpoint


def _is_record(record: Any) -> bool:
    kinds = {"settings": dict, "listed": dict, "changes": list}
    return isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in kinds.items())


def _same_training(one: Any, other: Settings) -> bool:
    fixed = other["settings"].keys() - set(CHANGES_ALLOWED)
    return _is_record(one) and all(one["settings"].get(key) == other["settings"][key] for key in fixed)


def resume_identity(identity: Identity, checkpoint: Mapping[str, Any] | None, *, allowed: Sequence[str]) -> Identity:
    """Refuse a checkpoint of another training, and list changed settings.

    Args:
        identity: Identity of this training, as far as it is known so far.
        checkpoint: Content of the checkpoint, see `read_resumed`; None at the start of a training.
        allowed: Keys that may change.

    Returns:
        `identity` with all changes, those of earlier runs first.

    Raises:
        ConfigError: A setting or the data differs that must not; the message names each key with both values.
    """
    if checkpoint is None:
        return identity
    record, now = checkpoint[RECORD], identity.settings
    known = {key: value for key, value in record["settings"].items() if key in now or key not in ("data", "split")}
    wrong = sorted(key for key in known.keys() | now.keys() if known.get(key) != now.get(key) and key not in allowed)
    if wrong:
        raise ConfigError(_refusal(known, now, ["stage"] if "stage" in wrong else wrong))
    before, after = {**known, **record["listed"]}, {**now, **identity.listed}
    changes = [
        {"epoch": checkpoint["epoch"] + 1, "key": key, "before": before.get(key), "after": after.get(key)}
        for key in (*allowed, *_LISTED)
        if before.get(key) != after.get(key)
    ]
    return replace(identity, changes=(*record["changes"], *changes))


def _refusal(before: Settings, now: Settings, wrong: list[str]) -> str:
    differing = "; ".join(f"{key} was {_show(before.get(key))}, is {_show(now.get(key))}" for key in wrong)
    allowable = [key for key in wrong if key in CHANGES_ALLOWED]
    advice = f"allow this change with {as_argument('allow_change', allowable)}" if allowable == wrong else "restore these values"
    free = ", ".join(key for key in FREE if key != "allow_change")
    return (
        f"ckpt_path must be a checkpoint of this training, but {differing}; {advice}; or start another training without "
        f"ckpt_path; only these may change: {free}; and, where allow_change lists them, {', '.join(CHANGES_ALLOWED)}"
    )


def _show(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


class RecordedIdentity(Callback):
    """Callback that writes the identity of a training into its checkpoints.

    Args:
        identity: Identity of the training.
    """

    def __init__(self, identity: Identity) -> None:
        self._record = identity.to_dict()

    def on_save_checkpoint(self, trainer: Trainer, task: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the record; called by Lightning."""
        checkpoint[RECORD] = self._record


def hash_start(path: str | Path) -> str:
    """Hash a weights file or a bundle; return other words unchanged."""
    files = [Path(path, name) for name in (WEIGHTS, CARD)] if Path(path).is_dir() else [Path(path)]
    hashes = [digest for digest in map(hash_file, files) if digest is not None]
    return f"SHA-256 {hashlib.sha256(''.join(hashes).encode()).hexdigest()}" if hashes else str(path)


def portable_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that depend on no machine or user.

    Paths, devices, workers and trackers are left out.
    """
    settings: dict[str, Any] = to_dict(config)
    for key in ("output", "ckpt_path", "split", "workers", "overwrite", "resume", "allow_change", "bundle", "logger", "distill"):
        settings.pop(key, None)
    for key in ("accelerator", "devices", "strategy"):
        settings["trainer"].pop(key)
    if settings["trainer"]["monitor"] is None:  # as in trainings of versions without this key
        del settings["trainer"]["monitor"]
    for key in ("root", "cache"):
        settings["data"].pop(key)
    for key in ("table", "masks"):
        settings["data"].pop(key, None)
    settings["data"]["extra"] = [
        {key: value for key, value in entry.items() if key not in ("root", "table", "split")} | {"name": Path(entry["root"]).name}
        for entry in settings["data"]["extra"]
    ]
    stage, network = trained_network(config)
    init, name = network.init, settings[stage]["name" if stage == "classifier" else "encoder"]
    is_word = init in ("random", "imagenet", "shipped")
    settings[stage]["init"] = starting_point(name, init) if is_word else Path(init).name
    return settings | describe_distillation(config)


def flatten(settings: Settings, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings into one dictionary of dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
