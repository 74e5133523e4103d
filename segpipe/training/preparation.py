"""Data of a training, checked and split."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from segpipe.bundle.card import Card
from segpipe.bundle.records import Training
from segpipe.config.fields import to_dict
from segpipe.config.schemas import TrainConfig
from segpipe.data.check import CheckedDataset, ExtraImages, Problem, load_dataset, load_extra
from segpipe.data.duplicates import find_seen, fingerprint_parts, join_fingerprints
from segpipe.data.leaks import refuse_leaks
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
from segpipe.errors import BundleError, ConfigError, DatasetError
from segpipe.io.files import counted, write_file
from segpipe.io.output import check_output, prepare_output
from segpipe.io.passes import keeping_results
from segpipe.io.run_files import CONFIG, SPLIT
from segpipe.training.fit import Fitted
from segpipe.training.identity import (
    Identity,
    Settings,
    identify_data,
    identify_settings,
    portable_settings,
    read_resumed,
    resume_identity,
)
from segpipe.training.starting_weights import read_teachers, start_card


@dataclass(frozen=True)
class TrainingData:
    """A checked and split data set.

    Attributes:
        dataset: All usable images, and the report of the check.
        split: Split of the whole data set, even if only a part of it is used.
        parts: Rows of `dataset` that are used, by part; those of `train` have a `weight` and include the further data sets.
        extra: Lines about the further data sets.
        identity: Settings and data that the checkpoints belong to.
    """

    dataset: CheckedDataset
    split: pd.DataFrame
    parts: dict[str, pd.DataFrame]
    extra: tuple[str, ...] = ()
    identity: Identity = field(default_factory=lambda: Identity({}, {}))

    def report(self) -> str:
        """Report the check of the data sets in a few lines."""
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
        """Warning about classes without images in a part, or None."""
        counts = {part: Counter(rows["dx"]) for part, rows in self.parts.items()}
        missing = {part: [code for code in self.dataset.classes if not counts[part][code]] for part in PARTS}
        if not any(missing.values()):
            return None
        named = "; ".join(f"{part} has no image of {', '.join(codes)}" for part, codes in missing.items() if codes)
        chosen = "the AUROC of the others" if self._has_auroc else "the loss, because the AUROC needs two classes"
        return f"classes are missing: {named}; a class without training images is not learned, and val is judged by {chosen}"

    @property
    def _has_auroc(self) -> bool:
        return self.parts["val"]["dx"].nunique() > 1

    def choose_monitor(self, given: str | None) -> str:
        """Choose the metric that selects the best epoch of a classifier.

        Args:
            given: Value of `trainer.monitor`; None takes `val_auroc`, or `val_loss` where val has one class only.

        Raises:
            ConfigError: `given` is the AUROC and val has one class only.
        """
        if given == "val_auroc" and not self._has_auroc:
            raise ConfigError("trainer.monitor=val_auroc needs two classes among the validation images, got one; use val_loss")
        return given or ("val_auroc" if self._has_auroc else "val_loss")

    def describe(self, fitted: Fitted, config: TrainConfig) -> Training:
        """Describe this training for the card of its model."""
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
            start=fitted.start,
        )

    def seen_by(self, model: Training) -> str | None:
        """Describe validation and test lesions that a model has seen, if any.

        Args:
            model: Training of that model, from its card.
        """
        seen = find_seen(self.parts, model.seen)
        if seen:
            return f"lesions of this run's val or test part ({counted(len(seen), 'image')}, {seen[0]} for one)"
        if not model.seen and model.dataset_hash == self.dataset_hash and model.split_hash != self.split_hash:
            return "another split of this data set, so it has seen test lesions"
        return None

    def refuse_seen(self, model: Training, *, key: str, allowed: bool) -> None:
        """Refuse a model that has seen lesions of val or test.

        Args:
            model: Training of that model, from its card.
            key: Key of the configuration that names the model.
            allowed: True to accept it all the same; the card records that.

        Raises:
            BundleError: The model has seen such lesions.
        """
        reason = None if allowed else self.seen_by(model)
        if reason is not None:
            raise BundleError(
                f"{key} was trained on {reason}; use the split that it was trained on (split=FILE), or images that it has not "
                f"seen, or train another one, or set allow_leak=true, which the model's card will record"
            )


def origin_cards(config: TrainConfig) -> list[Card]:
    """Read the cards of the starting bundle and of all teachers.

    Raises:
        BundleError: A folder holds no bundle of the right stage.
    """
    start = start_card(config)
    return [*([] if start is None else [start]), *read_teachers(config).values()]


def prepare_data(config: TrainConfig, output: Path, *, need_masks: bool) -> TrainingData:
    """Find, check and split the data of a training.

    Afterwards `output` holds `split.csv` and `config.yaml`. The results of the passes over all files are kept beside the cache.

    Args:
        config: Configuration of the training.
        output: Folder of the training; nothing in it is touched before all checks have passed.
        need_masks: True for a segmenter, which uses images with a mask alone; False for a classifier, which needs two classes.

    Raises:
        ConfigError: The checkpoint belongs to another training.
        DatasetError: The data set or the split cannot be used, or two parts share what `allow_leak` does not allow.
        OutputError: The output folder cannot be used, see `prepare_output`.
    """
    ckpt_path = None if config.ckpt_path is None else Path(config.ckpt_path)
    check_output(output, overwrite=config.overwrite, ckpt_path=ckpt_path)
    checkpoint = None if ckpt_path is None else read_resumed(ckpt_path)
    identity = identify_settings(config)
    resume_identity(identity, checkpoint, allowed=config.allow_change)
    with keeping_results(config.data.cache):
        dataset = load_dataset(config.data)
        if not need_masks and len(dataset.classes) < 2:
            raise DatasetError(f"a classifier must have at least two classes, got {dataset.classes[0]} alone; label the images")
        split = choose_split(config, dataset)
        if unnamed := left_out(dataset.table, split):
            problem = Problem("image that the split does not name", "left out", unnamed)
            dataset = replace(dataset, problems=(*dataset.problems, problem))
        extra = load_extra(config.data.extra, classes=dataset.classes, taken=dataset.table)
        identity = replace(identity, settings={**identity.settings, **identify_data(dataset, extra.table, split)})
        identity = resume_identity(identity, checkpoint, allowed=config.allow_change)
        parts = _choose_images(config, dataset, extra, split, need_masks=need_masks)
    prepare_output(output, overwrite=config.overwrite, ckpt_path=ckpt_path)
    write_config(output / CONFIG, config)
    write_split(output / SPLIT, split)
    return TrainingData(dataset, split, parts, extra.lines, identity)


def read_data_identity(config: TrainConfig) -> Settings:
    """Identify the data of a training without preparing it.

    Raises:
        DatasetError: The data set or the split cannot be used.
    """
    with keeping_results(config.data.cache):
        dataset = load_dataset(config.data)
        extra = load_extra(config.data.extra, classes=dataset.classes, taken=dataset.table)
        return identify_data(dataset, extra.table, choose_split(config, dataset))


def write_config(path: Path, config: TrainConfig) -> None:
    """Write the resolved configuration of a training as YAML."""
    write_file(path, OmegaConf.to_yaml(OmegaConf.create(to_dict(config))).encode())


def _choose_images(
    config: TrainConfig, dataset: CheckedDataset, extra: ExtraImages, split: pd.DataFrame, *, need_masks: bool
) -> dict[str, pd.DataFrame]:
    """Choose the images of each part that are used."""
    usable = dataset.table[dataset.table["mask_path"].notna()] if need_masks else dataset.table
    if usable.empty:
        reasons = "; ".join(str(problem) for problem in dataset.problems if "mask" in problem.defect)
        raise DatasetError(
            f"data.root must hold masks to learn from, got none for its {counted(len(dataset.table), 'image')} that can be used: "
            f"{reasons}; see data/README.md"
        )
    table = assign_parts(usable, split, allow_leak=config.allow_leak)
    parts = {part: table[table["part"] == part].reset_index(drop=True) for part in PARTS}
    fraction = 1.0 if config.data.limit is None else config.data.limit / len(table)
    limited = {
        part: limit_lesions(rows, max(1, round(fraction * len(rows))) if fraction < 1 else None, seed=config.seed)
        for part, rows in parts.items()
    }
    further = extra.table[extra.table["mask_path"].notna()] if need_masks else extra.table
    limited["train"] = pd.concat([limited["train"].assign(weight=1.0), further.assign(part="train")], ignore_index=True)
    refuse_leaks(limited, allowed=config.allow_leak)
    return limited


def choose_split(config: TrainConfig, dataset: CheckedDataset) -> pd.DataFrame:
    """Return the given or a seeded split; `data.fold` is its validation part.

    Raises:
        DatasetError: The given split cannot be used.
    """
    table, given, fold = dataset.table, config.split, config.data.fold
    if given is not None and dataset.parts:
        raise DatasetError("give one split, by split=CSV or by data.split_folders=true, got both; leave one of them out")
    if given is None:
        split = own_split(dataset.table, dataset.parts, seed=config.seed)
    else:
        split = name_split(read_split(Path(given), allow_leak=config.allow_leak), table)
    return split if fold is None else fold_split(split, table, fold=fold, folds=config.data.folds, seed=config.seed)
