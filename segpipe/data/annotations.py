"""Labels and masks that belong to images by file stem, in the forms in which people have them."""

import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from segpipe.diagnosis import CODES, ISIC_2019_CODES, class_code
from segpipe.errors import DatasetError
from segpipe.folders import find_files
from segpipe.image_io import IMAGE_SUFFIXES

# Of ISIC 2018 Task 3 and of ISIC 2019. The latter has UNK too: where that is 1, the others are 0, as where nothing is known.
_ONE_HOT_TABLES = tuple([code.upper() for code in codes] for codes in (CODES, ISIC_2019_CODES))
_MASK_ENDING = re.compile(r"_(segmentation|mask)$", re.IGNORECASE)
# Read as text: as numbers, ids would lose their leading zeros.
_TEXT_COLUMNS = ("image_id", "image", "lesion_id", "dx", "label", "part")


def read_labels(path: Path) -> pd.DataFrame:
    """Read a table of labels.

    Three forms are known by their columns: the HAM10000 metadata (`image_id`, `dx`, and more), the one-hot tables of ISIC 2018
    and 2019 (`image` and one column for each diagnosis, in upper case), and `image`, `label`. Commas or tabs separate.

    Args:
        path: the table.

    Returns:
        `image_id` (file stem) and `dx` (code, see `class_code`; missing where an image is unlabelled), both str, then what else
        the table holds, `lesion_id` for one.

    Raises:
        DatasetError: the file cannot be read as a table, or has none of the three forms.
    """
    table = read_table(path)
    columns = set(table.columns)
    one_hot = next((names for names in _ONE_HOT_TABLES if {"image", *names} <= columns), None)
    if {"image_id", "dx"} <= columns:
        labels = table
    elif {"image", "label"} <= columns:
        labels = table.rename(columns={"image": "image_id", "label": "dx"})
    elif one_hot is not None:
        labels = _from_one_hot(table, one_hot)
    else:
        forms = " or ".join(",".join(["image", *names]) for names in _ONE_HOT_TABLES)
        raise DatasetError(
            f"{path}: labels must have the columns image_id,dx or image,label or {forms}, "
            f"got {','.join(map(str, table.columns[:12]))}"
        )
    labels = labels.dropna(subset="image_id")
    codes = labels["dx"].str.strip().map(class_code, na_action="ignore")
    return labels.assign(image_id=labels["image_id"].map(_stem), dx=codes).reset_index(drop=True)


def _stem(name: str) -> str:
    path = Path(name.strip())
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def read_table(path: Path) -> pd.DataFrame:
    """Read a table with commas or tabs; ids, diagnoses and parts are texts.

    Raises:
        DatasetError: it is missing, or not a table.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            separator = "\t" if "\t" in file.readline() else ","
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", dtype=dict.fromkeys(_TEXT_COLUMNS, "str"))
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise DatasetError(f"{path}: must be a table with commas or tabs, but could not be read ({reason})") from error


def _from_one_hot(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    scores = table[names].apply(pd.to_numeric, errors="coerce").fillna(0.0)
    chosen = scores.idxmax(axis=1).where(scores.max(axis=1) > 0)
    return table.drop(columns=names).rename(columns={"image": "image_id"}).assign(dx=chosen)


def find_masks(folder: Path, *, images: Collection[Path] = ()) -> dict[str, Path]:
    """Find the lesion masks below a folder.

    Args:
        folder: searched with all its subfolders for PNG files.
        images: files below it that are photographs, not masks.

    Returns:
        For each image's stem its mask: `ISIC_1` for `ISIC_1_segmentation.png`, `ISIC_1_mask.png` or `ISIC_1.png`.
    """
    photographs = set(images)
    masks = [path for path in find_files(folder) if path.suffix.lower() == ".png" and path not in photographs]
    # What bears the name of a mask comes last, and so wins over a bare `ISIC_1.png`.
    masks.sort(key=lambda path: bool(_MASK_ENDING.search(path.stem)))
    return {_MASK_ENDING.sub("", path.stem): path for path in masks}
