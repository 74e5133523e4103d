"""The check of a data set before anything is trained on it: everything that is wrong, said at once.

On its own, without a training: `segpipe check data.root=DIR`.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.errors import DatasetError, ImageError, MaskError
from segpipe.io.images import MIN_SIDE, read_image, read_mask
from segpipe.io.numerals import counted

EXAMPLES_SHOWN = 3
IMAGE_DEFECTS = ("missing image file", "image that does not decode", "image of too few pixels")
MASK_DEFECTS = (
    *("missing mask", "mask that does not decode", "mask that does not have two values"),
    *("mask of another size than its image", "empty mask"),
)


@dataclass(frozen=True)
class Problem:
    """One kind of defect in a data set.

    Attributes:
        what: the defect, in plain words.
        consequence: what was done about it.
        image_ids: where it was found.
    """

    what: str
    consequence: str
    image_ids: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.image_ids[:EXAMPLES_SHOWN]) + (", ..." if len(self.image_ids) > EXAMPLES_SHOWN else "")
        return f"{len(self.image_ids)} x {self.what} ({shown}): {self.consequence}"


@dataclass(frozen=True)
class CheckedDataset:
    """A data set that can be trained on.

    Attributes:
        name: of its folder.
        table: one row for each usable image: `image_id`, `lesion_id`, `dx`, `age`, `sex`, `localization`, `image_path`, and
            `mask_path`, which is None where there is no usable mask.
        problems: all that was found wrong, and what was done about it.
        classes: codes that `dx` may have, in the order of a classifier's outputs.
        malignant: the malignant ones among them; empty where it is not known.
    """

    name: str
    table: pd.DataFrame
    problems: tuple[Problem, ...]
    classes: tuple[str, ...] = CODES
    malignant: tuple[str, ...] = MALIGNANT_CODES
    parts: Mapping[str, str] = field(default_factory=dict)

    def report(self) -> str:
        """The check in a few lines."""
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
    """Check every row of a data set, its image and its mask included, and leave out what cannot be used.

    Args:
        table: the columns of `CheckedDataset.table`, unchecked; paths are None where no file was found.
        name: of the data set, for the report.
        left_out: ids of the images that have no row in `table`, by the reason.
        remarks: paths of what else was passed over, by the reason.
        classes: codes that a diagnosis may have.
        malignant: the malignant ones among them.

    Raises:
        DatasetError: nothing usable is left.
    """
    with ThreadPoolExecutor() as pool:
        verdicts = list(pool.map(_inspect, table["image_path"], table["mask_path"]))
    verdict = pd.Series(verdicts, index=table.index, dtype=object)
    unusable = {
        "second row of one image": table["image_id"].duplicated(),
        "unknown diagnosis": table["dx"].isna(),
        **{f"unknown diagnosis {code!r}": table["dx"] == code for code in _unknown(table["dx"], classes)},
        "missing lesion id": table["lesion_id"].isna(),
        **{defect: verdict == defect for defect in IMAGE_DEFECTS},
    }
    usable = table[~pd.DataFrame(unusable).any(axis=1)]
    without_mask = {defect: verdict[usable.index] == defect for defect in MASK_DEFECTS}
    problems = (
        *_warn_of_spellings(classes),
        *_problems(table, unusable, "left out"),
        *(Problem(what, "left out", tuple(image_ids)) for what, image_ids in left_out.items() if image_ids),
        *_problems(usable, without_mask, "used without a mask"),
        *(Problem(what, "passed over", tuple(paths)) for what, paths in remarks.items() if paths),
        *_problems(usable, {"missing age": usable["age"].isna()}, "kept"),
    )
    if usable.empty:
        raise DatasetError(f"{name}: no usable image is left: " + "; ".join(map(str, problems)))
    masks = usable["mask_path"].mask(pd.DataFrame(without_mask).any(axis=1), None)
    return CheckedDataset(name, usable.assign(mask_path=masks).reset_index(drop=True), problems, classes, malignant)


def _problems(table: pd.DataFrame, defects: Mapping[str, "pd.Series[bool]"], consequence: str) -> list[Problem]:
    return [Problem(what, consequence, tuple(table.loc[wrong, "image_id"])) for what, wrong in defects.items() if wrong.any()]


def _unknown(codes: "pd.Series[str]", classes: Sequence[str]) -> list[str]:
    return sorted(set(codes.dropna()) - set(classes))


def _warn_of_spellings(classes: Sequence[str]) -> Iterator[Problem]:
    """The classes that differ in nothing but upper and lower case."""
    spellings: dict[str, list[str]] = {}
    for code in classes:
        spellings.setdefault(code.casefold(), []).append(code)
    for codes in spellings.values():
        if len(codes) > 1:
            yield Problem("class that differs from another in upper and lower case alone", "kept apart", tuple(codes))


def _inspect(image_path: str | None, mask_path: str | None) -> str:
    """What is wrong with the files of a row: one of `IMAGE_DEFECTS`, one of `MASK_DEFECTS`, or nothing."""
    if image_path is None:
        return "missing image file"
    try:
        image = read_image(Path(image_path))
    except ImageError:
        return "image that does not decode"
    if min(image.shape[:2]) < MIN_SIDE:
        return "image of too few pixels"
    return "missing mask" if mask_path is None else inspect_mask(Path(mask_path), image.shape[:2])


def inspect_mask(path: Path, shape: tuple[int, ...] | None) -> str:
    """What is wrong with a mask: one of `MASK_DEFECTS`, or nothing.

    Args:
        path: of the mask.
        shape: height and width of its image, pixels; None where they are not known.
    """
    try:
        mask = read_mask(path)
    except MaskError:
        return "mask that does not have two values"
    except ImageError:
        return "mask that does not decode"
    if shape is not None and mask.shape != shape:
        return "mask of another size than its image"
    return "" if mask.any() else "empty mask"
