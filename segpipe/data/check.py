"""The check of a data set before anything is trained on it: everything that is wrong, said at once.

On its own, without a training: `python -m segpipe.data.check data.root=DIR`.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from segpipe.diagnosis import CODES
from segpipe.errors import DatasetError, ImageError
from segpipe.image_io import read_image, read_mask

EXAMPLES_SHOWN = 3


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
    """

    name: str
    table: pd.DataFrame
    problems: tuple[Problem, ...]

    def report(self) -> str:
        """The check in a few lines."""
        classes = self.table["dx"].value_counts().reindex(CODES, fill_value=0)
        lines = [
            f"{self.name}: {len(self.table)} usable images of {self.table['lesion_id'].nunique()} lesions, "
            f"{self.table['mask_path'].notna().sum()} with a mask",
            "images per diagnosis: " + ", ".join(f"{code} {number}" for code, number in classes.items()),
        ]
        return "\n".join(lines + [str(problem) for problem in self.problems] + ([] if self.problems else ["nothing is wrong"]))


def check_table(table: pd.DataFrame, *, name: str, unlisted: Sequence[str] = ()) -> CheckedDataset:
    """Check every row of a data set, its image and its mask included, and leave out what cannot be used.

    Args:
        table: the columns of `CheckedDataset.table`, unchecked; paths are None where no file was found.
        name: of the data set, for the report.
        unlisted: stems of images without a row.

    Raises:
        DatasetError: nothing usable is left.
    """
    problems: list[Problem] = []

    def leave_out(what: str, wrong: "pd.Series[bool]", consequence: str = "left out") -> None:
        nonlocal table
        if wrong.any():
            problems.append(Problem(what, consequence, tuple(table.loc[wrong, "image_id"])))
            table = table[~wrong]

    leave_out("doubled image id", table["image_id"].duplicated(), "the first row is kept")
    leave_out("unknown diagnosis", ~table["dx"].isin(CODES))
    leave_out("missing lesion id", table["lesion_id"].isna())
    leave_out("missing image file", table["image_path"].isna())
    with ThreadPoolExecutor() as pool:
        verdicts = list(pool.map(_inspect, table["image_path"], table["mask_path"]))
    verdict = pd.Series(verdicts, index=table.index, dtype=object)
    leave_out("image that does not decode", verdict == "image")
    for code, what in _MASK_DEFECTS.items():
        wrong = verdict.reindex(table.index) == code
        if wrong.any():
            problems.append(Problem(what, "used without a mask", tuple(table.loc[wrong, "image_id"])))
            table = table.assign(mask_path=table["mask_path"].mask(wrong, None))
    missing_age = table["age"].isna()
    if missing_age.any():
        problems.append(Problem("missing age", "kept", tuple(table.loc[missing_age, "image_id"])))
    if unlisted:
        problems.append(Problem("image without metadata", "left out", tuple(unlisted)))
    if table.empty:
        raise DatasetError(f"{name}: no usable image is left: " + "; ".join(map(str, problems)))
    return CheckedDataset(name, table.reset_index(drop=True), tuple(problems))


_MASK_DEFECTS = {
    "no mask": "missing mask",
    "mask": "mask that does not decode",
    "size": "mask of another size than its image",
    "empty": "empty mask",
}


def _inspect(image_path: str, mask_path: str | None) -> str:
    """What is wrong with an image and its mask: `image`, one of `_MASK_DEFECTS`, or nothing."""
    try:
        image = read_image(Path(image_path))
    except ImageError:
        return "image"
    if mask_path is None:
        return "no mask"
    try:
        mask = read_mask(Path(mask_path))
    except ImageError:
        return "mask"
    if mask.shape != image.shape[:2]:
        return "size"
    return "" if mask.any() else "empty"
