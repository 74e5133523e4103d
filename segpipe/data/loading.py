"""The data set that a configuration names."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from segpipe.config.building import build
from segpipe.data.check import CheckedDataset
from segpipe.data.splits import read_split
from segpipe.errors import DatasetError

_NOT_OF_THE_LOADER = ("limit", "cache", "fold", "folds", "extra")


def load_dataset(data: DictConfig) -> CheckedDataset:
    """Find and check a data set; the jobs of a sweep check it once.

    Args:
        data: see `segpipe.config.groups.DataConfig`.

    Raises:
        DatasetError: it cannot be used.
    """
    arguments = {str(key): value for key, value in data.items() if key not in _NOT_OF_THE_LOADER}
    return _load(OmegaConf.to_yaml(OmegaConf.create(arguments)))


@lru_cache(maxsize=1)
def _load(settings: str) -> CheckedDataset:
    dataset: CheckedDataset = build(OmegaConf.create(settings), "data")
    return dataset


@dataclass(frozen=True)
class ExtraImages:
    """Training images from further data sets.

    Attributes:
        table: the columns of `CheckedDataset.table`, and `weight`.
        lines: the check of each data set, and the number of images taken from it.
    """

    table: pd.DataFrame
    lines: tuple[str, ...]


def load_extra(settings: Sequence[DictConfig], *, classes: Sequence[str], taken: pd.DataFrame) -> ExtraImages:
    """Find and check further data sets.

    Args:
        settings: entries of `data.extra`, see `segpipe.config.groups.ExtraDataConfig`.
        classes: classes of the training; images of other classes are left out and counted.
        taken: rows of the main data set, with `image_id`.

    Returns:
        The training images of all entries, in their order.

    Raises:
        DatasetError: a data set cannot be used, has no image of these classes, or shares an image id with another one.
    """
    tables, lines = [taken[["image_id"]]], []
    for number, entry in enumerate(settings):
        dataset = _load_entry(entry)
        table = _part_to_train_on(dataset.table, entry, key=f"data.extra[{number}]")
        chosen = table[table["dx"].isin(set(classes) & set(entry.classes or classes))]
        if chosen.empty:
            raise DatasetError(
                f"data.extra[{number}] must hold training images of {', '.join(classes)}, got none among its {len(table)}; "
                "see its table, its split and its classes"
            )
        tables.append(chosen.assign(weight=entry.weight))
        lines.append(f"{dataset.report()}\ntrained on beside the others: {len(chosen)} images with weight {entry.weight:g}")
    every = pd.concat(tables)["image_id"]
    if every.duplicated().any():
        twice = every[every.duplicated()].iloc[0]
        raise DatasetError(f"data.extra must share no image id with another data set, got {twice!r} twice")
    return ExtraImages(pd.concat(tables[1:]) if lines else taken.iloc[:0].assign(weight=1.0), tuple(lines))


def _load_entry(entry: DictConfig) -> CheckedDataset:
    arguments = {name: entry[name] for name in ("_target_", "root", "table", "without_lesion_ids") if entry[name] is not None}
    dataset: CheckedDataset = build(OmegaConf.create(arguments), "data")
    return dataset


def _part_to_train_on(table: pd.DataFrame, entry: DictConfig, *, key: str) -> pd.DataFrame:
    if entry.split is None:
        return table
    split = read_split(Path(entry.split))
    joined = table.merge(split[["image_id", "part"]], on="image_id")
    if not (joined["part"] == "train").any():
        raise DatasetError(f"{key}.split must name training images of {entry.root!r}, got none; name the split of this data set")
    return joined[joined["part"] == "train"].drop(columns="part")
