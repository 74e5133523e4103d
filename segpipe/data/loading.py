"""Data sets that a configuration names."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from segpipe.config.building import build
from segpipe.config.fields import drop_empty, to_dict
from segpipe.config.groups import DataConfig, ExtraDataConfig
from segpipe.data.check import CheckedDataset
from segpipe.data.splits import read_split
from segpipe.errors import DatasetError

_EXTRA_LOADER_ARGUMENTS = ("_target_", "root", "table", "without_lesion_ids")
_NO_LOADER_ARGUMENTS = ("limit", "cache", "fold", "folds", "extra")


def load_dataset(settings: DataConfig) -> CheckedDataset:
    """Find and check a data set, once per process.

    Args:
        settings: Settings of the data set.

    Raises:
        DatasetError: The data set cannot be used.
    """
    arguments = {name: value for name, value in to_dict(settings).items() if name not in _NO_LOADER_ARGUMENTS}
    return _load(json.dumps(arguments))


@lru_cache(maxsize=1)
def _load(settings: str) -> CheckedDataset:
    dataset: CheckedDataset = build(json.loads(settings), "data")
    return dataset


@dataclass(frozen=True)
class ExtraImages:
    """Training images of further data sets.

    Attributes:
        table: Columns of `CheckedDataset.table`, and `weight`.
        lines: Report of the check of each data set, with the number of images taken from it.
    """

    table: pd.DataFrame
    lines: tuple[str, ...]


def load_extra(settings: Sequence[ExtraDataConfig], *, classes: Sequence[str], taken: pd.DataFrame) -> ExtraImages:
    """Find and check further data sets.

    Args:
        settings: Entries of `data.extra`.
        classes: Classes of the training; images of other classes are left out and counted.
        taken: Rows of the main data set, with `image_id`.

    Returns:
        Training images of all entries, in their order.

    Raises:
        DatasetError: A data set cannot be used, has no image of these classes, or shares an image id with another one.
    """
    tables, lines = [taken[["image_id"]]], []
    for number, entry in enumerate(settings):
        key = f"data.extra[{number}]"
        dataset = _load_entry(entry, key)
        table = _training_part(dataset.table, entry, key=key)
        chosen = table[table["dx"].isin(set(classes) & set(entry.classes or classes))]
        if chosen.empty:
            raise DatasetError(
                f"{key} must hold training images of {', '.join(classes)}, got none among its {len(table)}; "
                "check its table, its split and its classes"
            )
        tables.append(chosen.assign(weight=entry.weight))
        lines.append(f"{dataset.report()}\nadditional training images: {len(chosen)} with weight {entry.weight:g}")
    every = pd.concat(tables)["image_id"]
    if every.duplicated().any():
        repeated = every[every.duplicated()].iloc[0]
        raise DatasetError(f"data.extra must share no image id with another data set, got {repeated!r} twice")
    return ExtraImages(pd.concat(tables[1:]) if lines else taken.iloc[:0].assign(weight=1.0), tuple(lines))


def _load_entry(entry: ExtraDataConfig, key: str) -> CheckedDataset:
    arguments = {name: value for name, value in drop_empty(entry).items() if name in _EXTRA_LOADER_ARGUMENTS}
    dataset: CheckedDataset = build(arguments, "data", key)
    return dataset


def _training_part(table: pd.DataFrame, entry: ExtraDataConfig, *, key: str) -> pd.DataFrame:
    if entry.split is None:
        return table
    split = read_split(Path(entry.split))
    joined = table.merge(split[["image_id", "part"]], on="image_id")
    if not (joined["part"] == "train").any():
        raise DatasetError(f"{key}.split must name training images of {entry.root!r}, got none; name the split of this data set")
    return joined[joined["part"] == "train"].drop(columns="part")
