"""What both trainings share around the fit: the data checked and split, the trainer, what the card says of it."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.utils import instantiate
from lightning import Callback
from omegaconf import DictConfig, OmegaConf

from segpipe.card import Training
from segpipe.data.augmentation import Augmentation
from segpipe.data.check import CheckedDataset, Problem
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.fingerprints import find_seen, fingerprint_parts, join_fingerprints
from segpipe.data.leaks import refuse_leaks
from segpipe.data.loading import load_dataset
from segpipe.data.splits import (
    PARTS,
    assign_parts,
    fold_split,
    left_out,
    limit_lesions,
    name_split,
    own_split,
    read_split,
    split_hash,
    write_split,
)
from segpipe.errors import BundleError, DatasetError
from segpipe.training.fit import Fitted, auto_precision, fit
from segpipe.training.processes import MovingAverage
from segpipe.training.start import start_card
from segpipe.training.tasks import Task
from segpipe.training.tracking import TrackedSettings, build_loggers


@dataclass(frozen=True)
class TrainingData:
    """A checked and split data set.

    Attributes:
        dataset: all that is usable, and the report.
        split: of the whole data set, also where only a part of it is used.
        parts: the rows of `dataset` that are used, by part.
    """

    dataset: CheckedDataset
    split: pd.DataFrame
    parts: dict[str, pd.DataFrame]

    @property
    def dataset_hash(self) -> str:
        """SHA-256 of the ids of all usable images."""
        return hashlib.sha256("\n".join(sorted(self.dataset.table["image_id"])).encode()).hexdigest()

    @property
    def split_hash(self) -> str:
        """SHA-256 of the split of the whole data set."""
        return split_hash(self.split)

    def describe(self, fitted: Fitted, config: DictConfig) -> Training:
        """What the card says of this training."""
        start, seen = start_card(config), fingerprint_parts(self.parts)
        return Training(
            dataset=self.dataset.name,
            dataset_hash=self.dataset_hash,
            split_hash=self.split_hash,
            images=len(self.parts["train"]),
            epochs=fitted.epochs,
            best_epoch=fitted.best_epoch,
            settings=portable_settings(config),
            leaks_allowed=config.allow_leak,
            counts={part: dict(Counter(rows["dx"])) for part, rows in self.parts.items()},
            seen=seen if start is None else join_fingerprints(start.training.seen, seen),
        )

    def refuse_seen(self, model: Training, *, key: str, allowed: bool) -> None:
        """Stop before a model has a part in this training that has seen the lesions by which it will be judged.

        Args:
            model: how that model was made.
            key: what names it in the configuration.
            allowed: take it all the same; the card says so.

        Raises:
            BundleError: it has seen validation or test lesions of this training.
        """
        seen = find_seen(self.parts, model.seen)
        if seen:
            reason = f"lesions of this run's val or test part ({len(seen)} images, {seen[0]} for one)"
        elif not model.seen and model.dataset_hash == self.dataset_hash and model.split_hash != self.split_hash:
            reason = "another split of this data set, so it has seen test lesions"
        else:
            return
        if not allowed:
            raise BundleError(
                f"{key} was trained on {reason}; use the split that it was trained on (split=FILE), or images that it has not "
                f"seen, or train another one, or set allow_leak=true, which the model's card will say"
            )


def prepare_data(config: DictConfig, output: Path, *, need_masks: bool) -> TrainingData:
    """Find, check and split the data of a training, and write `split.csv` and `config.yaml`.

    Args:
        config: of the training.
        output: folder of the training; it exists.
        need_masks: leave out images without a mask.

    Raises:
        DatasetError: the data set or the split cannot be used, or two parts share what `allow_leak` does not allow.
    """
    OmegaConf.save(config, output / "config.yaml", resolve=True)
    dataset = load_dataset(config.data)
    split = choose_split(config, dataset)
    write_split(output / "split.csv", split)
    unnamed = left_out(dataset.table, split)
    if unnamed:
        problem = Problem("image that the split does not name", "left out", unnamed)
        dataset = replace(dataset, problems=(*dataset.problems, problem))
    usable = dataset.table[dataset.table["mask_path"].notna()] if need_masks else dataset.table
    if usable.empty:
        reasons = "; ".join(str(problem) for problem in dataset.problems if "mask" in problem.what)
        raise DatasetError(
            f"data.root must hold masks to learn from, got none for its {len(dataset.table)} images that can be used: {reasons}; "
            "see data/README.md"
        )
    table = assign_parts(usable, split, allow_leak=config.allow_leak)
    parts = {part: table[table["part"] == part].reset_index(drop=True) for part in PARTS}
    share = 1.0 if config.data.limit is None else config.data.limit / len(table)
    limited = {
        part: limit_lesions(rows, max(1, round(share * len(rows))) if share < 1 else None, seed=config.seed)
        for part, rows in parts.items()
    }
    refuse_leaks(limited, allowed=config.allow_leak)
    return TrainingData(dataset, split, limited)


def choose_split(config: DictConfig, dataset: CheckedDataset) -> pd.DataFrame:
    """The split of a training: the one that it is given or one by its seed, with the fold that is held out where there is one.

    Raises:
        DatasetError: the split that is given cannot be used.
    """
    table, given, fold = dataset.table, config.split, config.data.fold
    if given is not None and dataset.parts:
        raise DatasetError("give one split, by split=CSV or by data.split_folders=true, got both; leave one of them out")
    if given is None:
        split = own_split(dataset, seed=config.seed)
    else:
        split = name_split(read_split(Path(given), allow_leak=config.allow_leak), table)
    return split if fold is None else fold_split(split, table, fold=fold, folds=config.data.folds, seed=config.seed)


def build_augmentation(config: DictConfig) -> Augmentation:
    """The augmentation of a training."""
    return Augmentation([instantiate(transform, _convert_="all") for transform in config.augment.transforms])


def fit_as_configured(
    config: DictConfig,
    task: Task,
    data: SeededDataModule,
    output: Path,
    *,
    monitor: str,
    cpu_bf16: bool,
    callbacks: Sequence[Callback] = (),
) -> Fitted:
    """Train a task with the trainer, the loggers and the checkpoint of a configuration.

    With `trainer.ema_decay` it is the moving average of the weights that is validated and kept.

    Args:
        config: of the training.
        task: the model, its loss, metrics and optimizer.
        data: training and validation examples.
        output: takes `metrics.csv`, `checkpoints/` and the files of the trackers.
        monitor: name of the metric that chooses the best epoch; the larger the better.
        cpu_bf16: this network gains from bf16 on a CPU, see `auto_precision`.
        callbacks: of Lightning.
    """
    decay = config.trainer.ema_decay
    averaging = [] if decay is None else [MovingAverage(decay)]
    return fit(
        task,
        data,
        output=output,
        monitor=monitor,
        trainer=trainer_arguments(config, cpu_bf16=cpu_bf16),
        patience=config.trainer.patience,
        loggers=build_loggers(config, output),
        callbacks=[*callbacks, *averaging, TrackedSettings(config)],
        ckpt_path=None if config.ckpt_path is None else Path(config.ckpt_path),
    )


def trainer_arguments(config: DictConfig, *, cpu_bf16: bool) -> dict[str, Any]:
    """Arguments for Lightning's Trainer, the precision chosen where it is `auto`."""
    arguments: dict[str, Any] = {str(key): value for key, value in config.trainer.items() if key not in ("patience", "ema_decay")}
    if arguments["precision"] == "auto":
        arguments["precision"] = auto_precision(arguments["accelerator"], cpu_bf16=cpu_bf16)
    return arguments


def portable_settings(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration without what belongs to one machine or user: paths, devices, workers, trackers."""
    settings: dict[str, Any] = dict(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    for key in ("output", "ckpt_path", "split", "workers", "overwrite", "bundle", "logger"):
        settings.pop(key, None)
    for key in ("accelerator", "devices", "strategy"):
        settings["trainer"].pop(key)
    for key in ("root", "cache"):
        settings["data"].pop(key)
    settings["data"].pop("table", None)
    for network in ("segmenter", "classifier"):
        if network in settings and settings[network]["init"] not in ("random", "imagenet", "shipped"):
            settings[network]["init"] = Path(settings[network]["init"]).name
    return settings
