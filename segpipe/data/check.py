"""Data sets of a configuration, checked for all defects at once.

`segpipe check data.root=DIR` runs the check without a training.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pandas as pd

from segpipe.config.building import build
from segpipe.config.fields import drop_empty, to_dict
from segpipe.config.groups import DataConfig, ExtraDataConfig
from segpipe.data.masks import MASK_DEFECTS, inspect_mask
from segpipe.data.splits import read_split
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.errors import DatasetError, ImageError, MissingExtraError
from segpipe.io.files import counted
from segpipe.io.images import read_image
from segpipe.io.passes import pass_over
from segpipe.types import MIN_SIDE

EXAMPLES_SHOWN = 3
_NEEDS_HEIF = 'HEIC image, which is read after pip install "segpipe[heif]"'
IMAGE_DEFECTS = ("missing image file", "image that does not decode", _NEEDS_HEIF, "image of too few pixels")
_EXTRA_LOADER_ARGUMENTS = ("_target_", "root", "table", "without_lesion_ids")
_NO_LOADER_ARGUMENTS = ("limit", "cache", "fold", "folds", "extra")


@dataclass(frozen=True)
class Problem:
    """Kind of defect in a data set.

    Attributes:
        defect: Defect in plain words.
        consequence: Treatment of the affected images.
        image_ids: Ids of the affected images.
    """

    defect: str
    consequence: str
    image_ids: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.image_ids[:EXAMPLES_SHOWN]) + (", ..." if len(self.image_ids) > EXAMPLES_SHOWN else "")
        return f"{len(self.image_ids)} x {self.defect} ({shown}): {self.consequence}"


@dataclass(frozen=True)
class CheckedDataset:
    """Data set that can be used for training.

    Attributes:
        name: Name of its folder.
        table: One row per usable image: `image_id`, `lesion_id`, `dx`, `age`, `sex`, `localization`, `image_path`, and
            `mask_path`, which is None without a usable mask.
        problems: Defects found, with their consequences.
        classes: Codes that `dx` may have, in the order of a classifier's outputs.
        malignant: Malignant classes among them; empty if unknown.
        parts: Part of the data set's own split by image id; empty without one.
    """

    name: str
    table: pd.DataFrame
    problems: tuple[Problem, ...]
    classes: tuple[str, ...] = CODES
    malignant: tuple[str, ...] = MALIGNANT_CODES
    parts: Mapping[str, str] = field(default_factory=dict)

    def report(self) -> str:
        """Summarize the check in a few lines."""
        classes = self.table["dx"].value_counts().reindex(self.classes, fill_value=0)
        lines = [
            f"{self.name}: {counted(len(self.table), 'usable image')} of {counted(self.table['lesion_id'].nunique(), 'lesion')}, "
            f"{self.table['mask_path'].notna().sum()} with a mask",
            "images per diagnosis: " + ", ".join(f"{code} {number}" for code, number in classes.items()),
        ]
        return "\n".join(lines + [str(problem) for problem in self.problems] + ([] if self.problems else ["nothing is wrong"]))


def check_table(
    table: pd.DataFrame,
    *,
    name: str,
    left_out: Mapping[str, Sequence[str]] = {},
    remarks: Mapping[str, Sequence[str]] = {},
    classes: tuple[str, ...] = CODES,
    malignant: tuple[str, ...] = MALIGNANT_CODES,
) -> CheckedDataset:
    """Check all rows, images and masks, and drop unusable ones.

    Args:
        table: Columns of `CheckedDataset.table`, unchecked; paths are None for missing files.
        name: Name of the data set in the report.
        left_out: Ids of the images without a row in `table`, by reason.
        remarks: Other skipped paths, by reason.
        classes: Codes that a diagnosis may have.
        malignant: Malignant classes among them.

    Raises:
        DatasetError: No usable image is left.
    """
    files = list(zip(table["image_path"], table["mask_path"], strict=True))
    inspected = pass_over("checks", files, _inspect, what="checking images")
    found = pd.Series([_NEEDS_HEIF if defect is None else defect for defect in inspected], index=table.index, dtype=object)
    unusable = {
        "second row of one image": table["image_id"].duplicated(),
        "unknown diagnosis": table["dx"].isna(),
        **{f"unknown diagnosis {code!r}": table["dx"] == code for code in _unknown(table["dx"], classes)},
        "missing lesion id": table["lesion_id"].isna(),
        **{defect: found == defect for defect in IMAGE_DEFECTS},
    }
    usable = table[~pd.DataFrame(unusable).any(axis=1)]
    without_mask = {defect: found[usable.index] == defect for defect in MASK_DEFECTS}
    problems = (
        *_warn_of_spellings(classes),
        *_problems(table, unusable, "left out"),
        *(Problem(defect, "left out", tuple(image_ids)) for defect, image_ids in left_out.items() if image_ids),
        *_problems(usable, without_mask, "used without a mask"),
        *(Problem(defect, "skipped", tuple(paths)) for defect, paths in remarks.items() if paths),
        *_problems(usable, {"missing age": usable["age"].isna()}, "kept"),
    )
    if usable.empty:
        raise DatasetError(f"{name}: no usable image is left: " + "; ".join(map(str, problems)))
    masks = usable["mask_path"].mask(pd.DataFrame(without_mask).any(axis=1), None)
    return CheckedDataset(name, usable.assign(mask_path=masks).reset_index(drop=True), problems, classes, malignant)


def _problems(table: pd.DataFrame, defects: Mapping[str, "pd.Series[bool]"], consequence: str) -> list[Problem]:
    return [Problem(defect, consequence, tuple(table.loc[wrong, "image_id"])) for defect, wrong in defects.items() if wrong.any()]


def _unknown(codes: "pd.Series[str]", classes: Sequence[str]) -> list[str]:
    return sorted(set(codes.dropna()) - set(classes))


def _warn_of_spellings(classes: Sequence[str]) -> Iterator[Problem]:
    """Report classes that differ only in case."""
    spellings: dict[str, list[str]] = {}
    for code in classes:
        spellings.setdefault(code.casefold(), []).append(code)
    for codes in spellings.values():
        if len(codes) > 1:
            yield Problem("class that differs from another only in case", "kept apart", tuple(codes))


def _inspect(image_path: str | None, mask_path: str | None) -> str | None:
    """Return the defect of a row's image or mask, or "".

    A missing extra gives None, which is not stored: the file stays the same when the extra is installed.
    """
    if image_path is None:
        return "missing image file"
    try:
        image = read_image(Path(image_path))
    except ImageError as error:
        return None if isinstance(error.__cause__, MissingExtraError) else "image that does not decode"
    if min(image.shape[:2]) < MIN_SIDE:
        return "image of too few pixels"
    return "missing mask" if mask_path is None else inspect_mask(Path(mask_path), image.shape[:2])


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
