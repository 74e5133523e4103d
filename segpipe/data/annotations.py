"""Labels and masks in the forms in which people have them."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.identity import parse_name, same_content
from segpipe.data.tables import read_table, to_numbers
from segpipe.diagnosis import CODES, ISIC_2019_CODES, class_code
from segpipe.errors import DatasetError, ImageError
from segpipe.io.folders import find_images, image_of_mask
from segpipe.io.images import read_mask

# Of ISIC 2018 Task 3 and of ISIC 2019. The latter has UNK too: where that is 1, the others are 0, as where nothing is known.
_ONE_HOT_TABLES = tuple([code.upper() for code in codes] for codes in (CODES, ISIC_2019_CODES))


def read_labels(path: Path) -> pd.DataFrame:
    """Read a table of labels, see `read_table`.

    Three forms are known by their columns: the HAM10000 metadata (`image_id`, `dx`, and more), the one-hot tables of ISIC 2018
    and 2019 (`image` and one column for each diagnosis, in upper case), and `image`, `label`.

    Args:
        path: the table.

    Returns:
        `image_id` (name of the image, see `segpipe.data.identity`) and `dx` (code, see `class_code`; missing where an image is
        unlabelled), both str, then what else the table holds, `lesion_id` for one.

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
    return labels.assign(dx=labels["dx"].map(class_code, na_action="ignore")).reset_index(drop=True)


def refuse_contradictions(labels: pd.DataFrame, *, what: str) -> None:
    """See that the rows of one image agree in its class and its lesion.

    Args:
        labels: with `image_id` and, as far as they are known, `dx` and `lesion_id`.
        what: origin of the labels, for the message.

    Raises:
        DatasetError: two rows do not agree.
    """
    for column in (name for name in ("dx", "lesion_id") if name in labels):
        values = labels.dropna(subset=column).groupby("image_id", sort=False)[column].unique()
        for name, (first, second, *_) in values[values.map(len) > 1].items():
            raise DatasetError(f"{what}: labels must agree in {column}, got {first} and {second} for {name}; keep one of them")


def _from_one_hot(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    scores = table[names].apply(to_numbers).fillna(0.0)
    chosen = scores.idxmax(axis=1).where(scores.max(axis=1) > 0)
    return table.drop(columns=names).rename(columns={"image": "image_id"}).assign(dx=chosen)


def find_masks(folder: Path, *, images: Collection[Path] = ()) -> dict[str, Path]:
    """Find the lesion masks below a folder.

    Args:
        folder: searched with all its subfolders.
        images: files below it that are photographs, not masks.

    Returns:
        For the name of each image its mask, see `name_masks`: files that are masks by their name, folder or content, and those
        that lie among them, for they are meant as masks.

    Raises:
        DatasetError: there are none, or an image has two of different content.
    """
    found, photographs = find_images(folder), {path.absolute() for path in images}
    masks = [path for path in (*found.masks, *found.mask_pictures) if path.absolute() not in photographs]
    beside = {path.parent for path in masks}
    others = [path for path in found.images if path.absolute() not in photographs and (path.parent in beside or not masks)]
    if not masks and not others:
        raise DatasetError(
            f"{folder} must hold masks, got none among its files; results of segpipe are no true masks; name the folder of these"
        )
    return {_image_name(folder, path): path for path in others} | name_masks(folder, masks)


def name_masks(folder: Path, masks: Sequence[Path]) -> dict[str, Path]:
    """The masks in a folder by the names of their images: `mel/ISIC_1` for `mel/masks/ISIC_1_segmentation.png`.

    Raises:
        DatasetError: an image has two masks of different content.
    """
    named: dict[str, Path] = {}
    for path in masks:
        name = _image_name(folder, path)
        if named.setdefault(name, path) != path and not same_masks(named[name], path):
            raise DatasetError(
                f"masks must be one for each image, got {named[name].relative_to(folder).as_posix()} and "
                f"{path.relative_to(folder).as_posix()} of different content in {folder}; keep one of them"
            )
    return named


def same_masks(first: Path, second: Path) -> bool:
    """Whether two files hold the same mask; one that cannot be read is like no other."""
    try:
        return same_content(first, second) or np.array_equal(read_mask(first), read_mask(second))
    except ImageError:
        return False


def _image_name(folder: Path, mask: Path) -> str:
    return parse_name(image_of_mask(mask.relative_to(folder))).without_ending
