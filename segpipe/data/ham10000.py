"""Finding HAM10000, and data sets laid out like it, in the forms in which people download them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from segpipe.data.annotations import find_masks, read_labels, read_table
from segpipe.data.check import CheckedDataset, check_table
from segpipe.errors import DatasetError
from segpipe.folders import find_files, find_images

TABLE_SUFFIXES = (".csv", ".tab", "")
LABEL_COLUMNS = ("image_id", "lesion_id", "dx", "age", "sex", "localization")


def load_ham10000(root: str, *, without_lesion_ids: bool = False) -> CheckedDataset:
    """Find a data set below a folder and check it.

    The layouts of data/README.md are told apart by what they hold, not by their names: images, masks, and tables with the columns
    of the HAM10000 metadata or of the ISIC one-hot table.

    Args:
        root: the folder into which the data set was unpacked.
        without_lesion_ids: take each image for a lesion of its own where the data set has no lesion ids;
            two images of one lesion may then stand in two parts of a split, which flatters every figure.

    Returns:
        One row for each usable image, and the report on the rest.

    Raises:
        DatasetError: there are no images, no diagnoses, or no lesion ids.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(f"data.root must be a folder, got {root!r}; see data/README.md, or use data=synthetic")
    found = find_images(folder).images
    images, masks = {path.stem: path for path in reversed(found)}, find_masks(folder, images=found)
    if not images:
        raise DatasetError(f"data.root must hold images, got none in {root!r}; see data/README.md, or use data=synthetic")
    labels = _read_metadata(folder)
    if labels is None:
        raise DatasetError(
            f"data.root must hold a table of diagnoses, got none in {root!r} beside {len(images)} images and "
            f"{len(images.keys() & masks)} masks of them; add HAM10000_metadata.csv or the ground truth of ISIC 2018 Task 3 "
            "(Task 1 has no diagnoses), see data/README.md"
        )
    if "lesion_id" not in labels.columns:
        labels = labels.assign(lesion_id=image_ids_for_lesion_ids(labels, root, asked_for=without_lesion_ids))
    table = labels.reindex(columns=list(LABEL_COLUMNS)).assign(
        image_path=paths_of(labels["image_id"], images), mask_path=paths_of(labels["image_id"], masks)
    )
    return check_table(table, name=folder.resolve().name, unlisted=sorted(set(images) - set(labels["image_id"])))


def image_ids_for_lesion_ids(labels: pd.DataFrame, root: str, *, asked_for: bool) -> pd.Series:
    """Each image as a lesion of its own, where that was asked for.

    Raises:
        DatasetError: it was not.
    """
    if not asked_for:
        raise DatasetError(
            f"data.root={root!r} has no lesion ids, and a split without them leaks; give them in a table, see "
            "data/README.md, or ask for a split by image with data.without_lesion_ids=true"
        )
    return labels["image_id"]


def paths_of(image_ids: Iterable[str], paths: Mapping[str, Path]) -> pd.Series:
    """The file of each image; None where there is none."""
    return pd.Series([str(paths[image_id]) if image_id in paths else None for image_id in image_ids], dtype=object)


def _read_metadata(folder: Path) -> pd.DataFrame | None:
    """All labels below a folder, with lesion ids where any table has them; None where there are no labels."""
    headers = {path: _header(path) for path in find_files(folder) if path.suffix.lower() in TABLE_SUFFIXES}
    full = [path for path, header in headers.items() if {"image_id", "dx"} <= header]
    one_hot = [path for path, header in headers.items() if {"image", "MEL", "NV"} <= header]
    groupings = [path for path, header in headers.items() if {"image", "lesion_id"} <= header]
    if not full and not one_hot:
        return None
    labels = pd.concat([read_labels(path) for path in full or one_hot], ignore_index=True)
    if "lesion_id" not in labels.columns and groupings:
        lesions = pd.concat([read_table(path) for path in groupings])[["image", "lesion_id"]].drop_duplicates("image")
        labels = labels.merge(lesions.rename(columns={"image": "image_id"}), on="image_id", how="left")
    return labels


def _header(path: Path) -> set[str]:
    """The column names of a table; nothing where the file is no text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(2000)
    except (OSError, UnicodeDecodeError):
        return set()
    return {name.strip().strip('"') for name in line.replace("\t", ",").split(",")}
