"""Finding HAM10000, and data sets laid out like it, in the forms in which people download them."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from segpipe.data.annotations import find_masks, read_labels, read_table
from segpipe.data.check import CheckedDataset, check_table
from segpipe.errors import DatasetError
from segpipe.image_io import find_images

TABLE_SUFFIXES = (".csv", ".tab", "")
COLUMNS = ("image_id", "lesion_id", "dx", "age", "sex", "localization", "image_path", "mask_path")


def load_ham10000(root: str, *, without_lesion_ids: bool = False) -> CheckedDataset:
    """Find a data set below a folder and check it.

    The layouts of data/README.md are told apart by what they hold, not by their names: images, masks whose stems end in
    `_segmentation`, and tables with the columns of the HAM10000 metadata or of the ISIC one-hot table.

    Args:
        root: the folder into which the data set was unpacked.
        without_lesion_ids: take each image for a lesion of its own where the data set has no lesion ids;
            two images of one lesion may then stand in two parts of a split, which flatters every figure.

    Returns:
        One row for each usable image, and the report on the rest.

    Raises:
        DatasetError: there are no images, no labels, or no lesion ids.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(f"data.root must be a folder, got {root!r}; see data/README.md, or use data=synthetic")
    labels = _read_metadata(folder)
    if "lesion_id" not in labels.columns:
        if not without_lesion_ids:
            raise DatasetError(
                f"data.root={root!r} has no lesion ids, and a split without them leaks; add a table with image and lesion_id, "
                "or ask for a split by image with data.without_lesion_ids=true"
            )
        labels = labels.assign(lesion_id=labels["image_id"])
    images = {path.stem: path for path in reversed(find_images(folder).images)}
    if not images:
        raise DatasetError(f"no images in data.root={root!r}; see data/README.md, or use data=synthetic")
    masks = {stem: path for stem, path in find_masks(folder).items() if path.stem != stem or stem not in images}
    table = labels.reindex(columns=list(COLUMNS[:6])).assign(
        image_path=_paths(labels["image_id"], images), mask_path=_paths(labels["image_id"], masks)
    )
    return check_table(table, name=folder.resolve().name, unlisted=sorted(set(images) - set(labels["image_id"])))


def _paths(image_ids: Iterable[str], paths: dict[str, Path]) -> pd.Series:
    return pd.Series([str(paths[image_id]) if image_id in paths else None for image_id in image_ids], dtype=object)


def _read_metadata(folder: Path) -> pd.DataFrame:
    """All labels below a folder, with lesion ids where any table has them."""
    readable: list[tuple[Path, set[str]]] = [
        (path, _header(path))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in TABLE_SUFFIXES and path.is_file() and path.name != "split.csv"
    ]
    full = [path for path, header in readable if {"image_id", "dx"} <= header]
    one_hot = [path for path, header in readable if {"image", "MEL", "NV"} <= header]
    if not full and not one_hot:
        raise DatasetError(f"no HAM10000 metadata in data.root={str(folder)!r}; see data/README.md, or use data=synthetic")
    labels = pd.concat([read_labels(path) for path in full or one_hot], ignore_index=True)
    groupings = [path for path, header in readable if {"image", "lesion_id"} <= header]
    if "lesion_id" not in labels.columns and groupings:
        lesions = pd.concat([read_table(path) for path in groupings])[["image", "lesion_id"]].drop_duplicates("image")
        labels = labels.merge(lesions.rename(columns={"image": "image_id"}), on="image_id", how="left")
    return labels


def _header(path: Path) -> set[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(2000)
    except (OSError, UnicodeDecodeError):
        return set()
    return {name.strip().strip('"') for name in line.replace("\t", ",").split(",")}
