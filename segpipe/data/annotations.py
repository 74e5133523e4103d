"""Labels and masks that belong to images by file stem, in the forms in which people have them."""

from pathlib import Path

import pandas as pd

from segpipe.diagnosis import CODES
from segpipe.errors import DatasetError

MASK_SUFFIXES = ("_segmentation", "_mask")


def read_labels(path: Path) -> pd.DataFrame:
    """Read a table of labels.

    Three forms are known by their columns: the HAM10000 metadata (`image_id`, `dx`, and more), the ISIC one-hot table (`image`
    and one column for each diagnosis, in upper case), and `image`, `label`. Commas or tabs separate.

    Args:
        path: the table.

    Returns:
        `image_id` (file stem) and `dx` (lower-case code), both str, then whatever else the table holds, `lesion_id` for one.

    Raises:
        DatasetError: the file cannot be read as a table, or has none of the three forms.
    """
    table = read_table(path)
    columns = set(table.columns)
    if {"image_id", "dx"} <= columns:
        labels = table
    elif {"image", "label"} <= columns:
        labels = table.rename(columns={"image": "image_id", "label": "dx"})
    elif "image" in columns and {code.upper() for code in CODES} <= columns:
        labels = _from_one_hot(table)
    else:
        raise DatasetError(
            f"{path}: labels must have the columns image_id,dx or image,label or image,{','.join(code.upper() for code in CODES)}, "
            f"got {','.join(map(str, table.columns[:12]))}"
        )
    stems = labels["image_id"].astype(str).map(lambda name: Path(name).stem if name.lower().endswith(IMAGE_ENDINGS) else name)
    return labels.assign(image_id=stems, dx=labels["dx"].astype(str).str.strip().str.lower())


IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table with commas or tabs.

    Raises:
        DatasetError: it is missing, or not a table.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            separator = "\t" if "\t" in file.readline() else ","
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise DatasetError(f"{path}: must be a table with commas or tabs, but could not be read ({reason})") from error


def _from_one_hot(table: pd.DataFrame) -> pd.DataFrame:
    columns = [code.upper() for code in CODES]
    scores = table[columns].apply(pd.to_numeric, errors="coerce").fillna(0.0)
    chosen = scores.idxmax(axis=1).str.lower().where(scores.max(axis=1) > 0, "unlabelled")
    rest = table.drop(columns=columns).rename(columns={"image": "image_id"})
    return rest.assign(dx=chosen)


def find_masks(folder: Path) -> dict[str, Path]:
    """Find the lesion masks below a folder.

    Args:
        folder: searched with all its subfolders for PNG files.

    Returns:
        For each image's stem its mask: `ISIC_1` for `ISIC_1_segmentation.png`, `ISIC_1_mask.png` or, in a folder that holds
        masks only, `ISIC_1.png`.
    """
    masks: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.png")):
        stem = path.stem
        for suffix in MASK_SUFFIXES:
            stem = stem.removesuffix(suffix)
        masks.setdefault(stem, path)
    return masks
