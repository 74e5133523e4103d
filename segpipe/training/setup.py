"""What both trainings share around the fit: the data checked and split, the trainer, what the card says of it."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import Callback
from omegaconf import DictConfig, OmegaConf

from segpipe.bundle.card import Training
from segpipe.config.building import build
from segpipe.data.augmentation import Augmentation
from segpipe.data.check import CheckedDataset, Problem
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.fingerprints import find_seen, fingerprint_parts, join_fingerprints
from segpipe.data.leaks import refuse_leaks
from segpipe.data.loading import ExtraImages, load_dataset, load_extra
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
from segpipe.io.images import write_file
from segpipe.io.numerals import counted
from segpipe.io.output import check_output, prepare_output
from segpipe.training.fit import Fitted, auto_precision, fit
from segpipe.training.identity import (
    Identity,
    RecordedIdentity,
    identify_data,
    identify_settings,
    portable_settings,
    read_resumed,
    resume_identity,
)
from segpipe.training.processes import MovingAverage
from segpipe.training.resuming import take_over
from segpipe.training.starting_weights import origin_cards
from segpipe.training.tasks import Task
from segpipe.training.tracking import TrackedSettings, build_loggers


@dataclass(frozen=True)
class TrainingData:
    """A checked and split data set.

    Attributes:
        dataset: all that is usable, and the report.
        split: of the whole data set, also where only a part of it is used.
        parts: the rows of `dataset` that are used, by part; those to train on have a `weight`, and further data sets among them.
        extra: lines about the further data sets.
        identity: Settings and data that the checkpoints belong to.
    """

    dataset: CheckedDataset
    split: pd.DataFrame
    parts: dict[str, pd.DataFrame]
    extra: tuple[str, ...] = ()
    identity: Identity = field(default_factory=lambda: Identity({}, {}))

    def report(self) -> str:
        """The check of the data sets in a few lines."""
        return "\n".join([self.dataset.report(), *self.extra])

    @property
    def dataset_hash(self) -> str:
        """SHA-256 of the ids of all usable images."""
        return hashlib.sha256("\n".join(sorted(self.dataset.table["image_id"])).encode()).hexdigest()

    @property
    def split_hash(self) -> str:
        """SHA-256 of the split of the whole data set."""
        return split_hash(self.split)

    @property
    def missing_classes(self) -> str | None:
        """A line on the classes that a part has no image of, and on what follows from it; None where there are none."""
        counts = {part: Counter(rows["dx"]) for part, rows in self.parts.items()}
        missing = {part: [code for code in self.dataset.classes if not counts[part][code]] for part in PARTS}
        if not any(missing.values()):
            return None
        named = "; ".join(f"{part} has no image of {', '.join(codes)}" for part, codes in missing.items() if codes)
        chosen = "the AUROC over the others" if self.monitor == "val_auroc" else "the loss, for the AUROC needs two classes"
        return (
            f"classes are missing: {named}; a class without training images is not learned, and the best epoch goes by {chosen}"
        )

    @property
    def monitor(self) -> str:
        """The metric that chooses the best epoch of a classifier: `val_auroc`, or `val_loss` where val has one class only."""
        return "val_auroc" if self.parts["val"]["dx"].nunique() > 1 else "val_loss"

    def describe(self, fitted: Fitted, config: DictConfig) -> Training:
        """What the card says of this training."""
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
            seen=reduce(join_fingerprints, [card.training.seen for card in origin_cards(config)], fingerprint_parts(self.parts)),
            changes=tuple(change for change in self.identity.changes if change["epoch"] < fitted.epochs),
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
            reason = f"lesions of this run's val or test part ({counted(len(seen), 'image')}, {seen[0]} for one)"
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
    """Find, check and split the data of a training, then write `split.csv` and `config.yaml`.

    Args:
        config: of the training.
        output: folder of the training; nothing in it is touched before all is well.
        need_masks: leave out images without a mask.

    Raises:
        ConfigError: the checkpoint belongs to another training.
        DatasetError: the data set or the split cannot be used, or two parts share what `allow_leak` does not allow.
        OutputError: as for `prepare_output`.
    """
    ckpt_path = None if config.ckpt_path is None else Path(config.ckpt_path)
    check_output(output, overwrite=config.overwrite, ckpt_path=ckpt_path)
    checkpoint = None if ckpt_path is None else read_resumed(ckpt_path)
    identity = identify_settings(config)
    resume_identity(identity, checkpoint, allowed=config.allow_change)
    dataset = load_dataset(config.data)
    split = choose_split(config, dataset)
    if unnamed := left_out(dataset.table, split):
        problem = Problem("image that the split does not name", "left out", unnamed)
        dataset = replace(dataset, problems=(*dataset.problems, problem))
    extra = load_extra(config.data.extra, classes=dataset.classes, taken=dataset.table)
    identity = replace(identity, settings={**identity.settings, **identify_data(dataset, extra.table, split)})
    identity = resume_identity(identity, checkpoint, allowed=config.allow_change)
    parts = _choose_images(config, dataset, extra, split, need_masks=need_masks)
    prepare_output(output, overwrite=config.overwrite, ckpt_path=ckpt_path)
    write_config(output / "config.yaml", config)
    write_split(output / "split.csv", split)
    return TrainingData(dataset, split, parts, extra.lines, identity)


def write_config(path: Path, config: DictConfig) -> None:
    """Write the resolved configuration of a training as YAML."""
    write_file(path, OmegaConf.to_yaml(config, resolve=True).encode())


def _choose_images(
    config: DictConfig, dataset: CheckedDataset, extra: ExtraImages, split: pd.DataFrame, *, need_masks: bool
) -> dict[str, pd.DataFrame]:
    """The images of each part that are used."""
    usable = dataset.table[dataset.table["mask_path"].notna()] if need_masks else dataset.table
    if usable.empty:
        reasons = "; ".join(str(problem) for problem in dataset.problems if "mask" in problem.what)
        raise DatasetError(
            f"data.root must hold masks to learn from, got none for its {counted(len(dataset.table), 'image')} that can be used: "
            f"{reasons}; see data/README.md"
        )
    table = assign_parts(usable, split, allow_leak=config.allow_leak)
    parts = {part: table[table["part"] == part].reset_index(drop=True) for part in PARTS}
    share = 1.0 if config.data.limit is None else config.data.limit / len(table)
    limited = {
        part: limit_lesions(rows, max(1, round(share * len(rows))) if share < 1 else None, seed=config.seed)
        for part, rows in parts.items()
    }
    further = extra.table[extra.table["mask_path"].notna()] if need_masks else extra.table
    limited["train"] = pd.concat([limited["train"].assign(weight=1.0), further.assign(part="train")], ignore_index=True)
    refuse_leaks(limited, allowed=config.allow_leak)
    return limited


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
    return Augmentation([build(transform, "augment") for transform in config.augment.transforms])


def fit_as_configured(
    config: DictConfig,
    task: Task,
    data: SeededDataModule,
    output: Path,
    *,
    identity: Identity,
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
        identity: Identity of the training, for its checkpoints.
        monitor: name of the metric that chooses the best epoch, the larger the better; or of a loss.
        cpu_bf16: this network gains from bf16 on a CPU, see `auto_precision`.
        callbacks: of Lightning.
    """
    ckpt_path = None if config.ckpt_path is None else Path(config.ckpt_path)
    if ckpt_path is not None:
        take_over(ckpt_path, output)
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
        callbacks=[*callbacks, *averaging, TrackedSettings(config), RecordedIdentity(identity)],
        ckpt_path=ckpt_path,
    )


def trainer_arguments(config: DictConfig, *, cpu_bf16: bool) -> dict[str, Any]:
    """Arguments for Lightning's Trainer, the precision chosen where it is `auto`."""
    arguments: dict[str, Any] = {str(key): value for key, value in config.trainer.items() if key not in ("patience", "ema_decay")}
    if arguments["precision"] == "auto":
        arguments["precision"] = auto_precision(arguments["accelerator"], cpu_bf16=cpu_bf16)
    return arguments
