"""What every data set is put together from: photographs, labels, lesion ids and masks, joined image by image."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from segpipe.data.annotations import find_masks, read_labels, read_table
from segpipe.data.check import CheckedDataset, check_table
from segpipe.diagnosis import class_code, is_known, known_malignant
from segpipe.errors import DatasetError
from segpipe.folders import find_files, find_images
from segpipe.image_io import display_path

_TABLE_SUFFIXES = (".csv", ".tab", "")
_COLUMNS = ("image_id", "lesion_id", "dx", "age", "sex", "localization")
# What ISIC calls them in the tables that lie beside its labels.
_NAMES_OF_ISIC = {"image": "image_id", "age_approx": "age", "anatom_site_general": "localization"}


@dataclass(frozen=True)
class Files:
    """What lies below the root of a data set.

    Attributes:
        root: as it was named.
        images: the photographs by their names without ending, by which results, labels and masks know them.
        masks: by the names of their images.
        unread: paths below the root that look like images and cannot be used, such as those of formats that are not read.
    """

    root: str
    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    unread: tuple[str, ...] = ()


def find_photographs(root: str, *, distinct: bool) -> Files:
    """Find the photographs and masks of a data set.

    Args:
        root: searched with all its subfolders.
        distinct: refuse two photographs of one name; else the first is taken, for some downloads hold the same one twice.

    Raises:
        DatasetError: `root` is no folder, holds no photographs, or two of one name.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(f"data.root must be a folder, got {root!r}; see data/README.md, or use data=synthetic")
    everything = find_images(folder)
    found = everything.images
    if not found:
        first = "".join(f"; {display_path(path)} is {reason}" for path, reason in everything.unreadable[:1])
        raise DatasetError(f"data.root must hold images, got none in {root!r}; see data/README.md, or use data=synthetic{first}")
    names = Counter(path.stem for path in found)
    doubled = [path.relative_to(folder).as_posix() for path in found if names[path.stem] > 1]
    if doubled and distinct:
        raise DatasetError(
            f"data.root must hold images of different names, whatever their folder and ending, got {len(doubled)} that share "
            f"one, {doubled[0]} for one; rename them, or remove those that are copies"
        )
    unread = tuple(display_path(path.relative_to(folder)) for path, _ in everything.unreadable)
    return Files(root, {path.stem: path for path in reversed(found)}, find_masks(folder, images=found), unread)


def label_by_folder(files: Files, class_of: Callable[[Sequence[str]], str | None]) -> pd.DataFrame:
    """Labels from the folders that images lie in.

    Args:
        files: of the data set.
        class_of: from the folders of an image, from the root downwards, to its class; None where it has none.

    Returns:
        `image_id` and `dx` of the images that have a class.
    """
    folders = {image_id: path.relative_to(files.root).parts[:-1] for image_id, path in files.images.items()}
    labels = {image_id: code for image_id, parts in folders.items() if (code := class_of(parts)) is not None}
    return pd.DataFrame({"image_id": list(labels), "dx": list(labels.values())}, dtype=object)


def read_metadata(files: Files) -> pd.DataFrame | None:
    """All labels below the root of a data set, told by their columns, with what the tables beside them say of the images.

    Returns:
        See `read_labels`; None where there are no labels.
    """
    paths = [path for path in find_files(Path(files.root)) if path.suffix.lower() in _TABLE_SUFFIXES]
    headers = {path: _header(path) for path in paths}
    full = [path for path, header in headers.items() if {"image_id", "dx"} <= header]
    one_hot = [path for path, header in headers.items() if {"image", "MEL", "NV"} <= header]
    if not full and not one_hot:
        return None
    labels = pd.concat([read_labels(path) for path in full or one_hot], ignore_index=True)
    beside = [read_table(path) for path, header in headers.items() if {"image", "lesion_id"} <= header]
    if "lesion_id" in labels.columns or not beside:
        return labels
    known = pd.concat(beside).rename(columns=_NAMES_OF_ISIC).drop_duplicates("image_id")
    news = [name for name in _COLUMNS if name in known.columns and name not in labels.columns]
    return labels.merge(known[["image_id", *news]], on="image_id", how="left")


def _header(path: Path) -> set[str]:
    """The column names of a table; nothing where the file is no text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(2000)
    except (OSError, UnicodeDecodeError):
        return set()
    return {name.strip().strip('"') for name in line.replace("\t", ",").split(",")}


def assemble(
    labels: pd.DataFrame,
    files: Files,
    *,
    classes: tuple[str, ...],
    unwanted: Collection[str] = (),
    malignant: Sequence[str] | None = None,
    without_lesion_ids: bool,
) -> CheckedDataset:
    """Join what is known of the images, and check it.

    Args:
        labels: `image_id` and `dx`, and as far as they are known `lesion_id`, `age`, `sex` and `localization`.
        files: of the data set.
        classes: codes in the order of a classifier's outputs.
        unwanted: other classes, whose images are left out without being read.
        malignant: the malignant classes; None where it follows from the classes, see `malignant_among`.
        without_lesion_ids: take an image for a lesion of its own where its lesion is not known; two images of one lesion may then
            stand in two parts of a split, which flatters every figure.

    Returns:
        One row for each usable image, and the report on the rest.

    Raises:
        DatasetError: there are no lesion ids, nothing is left, or a malignant class is none.
    """
    table = _complete_lesion_ids(labels.reindex(columns=list(_COLUMNS)), files.root, asked_for=without_lesion_ids)
    outside = table["dx"].isin(unwanted)
    left_out = {
        "image without metadata": sorted(files.images.keys() - set(table["image_id"])),
        "image of a class outside data.classes": list(table.loc[outside, "image_id"]),
        "file that is not read as an image": files.unread,
    }
    wanted = table[~outside]
    return check_table(
        wanted.assign(image_path=_paths_of(wanted, files.images), mask_path=_paths_of(wanted, files.masks)),
        name=Path(files.root).resolve().name,
        left_out=left_out,
        classes=classes,
        malignant=malignant_among(classes, malignant),
    )


def malignant_among(classes: tuple[str, ...], named: Sequence[str] | None) -> tuple[str, ...]:
    """The malignant classes: those that are named; else those of the known diagnoses, if there are no others; else none.

    Raises:
        DatasetError: one that is named is no class.
    """
    if named is None:
        return known_malignant(classes) if all(map(is_known, classes)) else ()
    chosen = {class_code(name) for name in named}
    if not chosen <= set(classes):
        raise DatasetError(f"data.malignant must name classes among {', '.join(classes)}, got {', '.join(sorted(chosen))}")
    return tuple(code for code in classes if code in chosen)


def _complete_lesion_ids(table: pd.DataFrame, root: str, *, asked_for: bool) -> pd.DataFrame:
    """Make each image whose lesion is not known a lesion of its own, where that was asked for.

    Raises:
        DatasetError: it was not, and no lesion is known.
    """
    unknown = table["lesion_id"].isna()
    if asked_for:
        return table.assign(lesion_id=table["image_id"].where(unknown, table["lesion_id"]))
    if unknown.all():
        raise DatasetError(
            f"data.root={root!r} has no lesion ids, and a split without them leaks; give them in a table, see "
            "data/README.md, or ask for a split by image with data.without_lesion_ids=true"
        )
    return table


def _paths_of(table: pd.DataFrame, paths: Mapping[str, Path]) -> pd.Series:
    """The file of each image; None where there is none."""
    found = [str(paths[image_id]) if image_id in paths else None for image_id in table["image_id"]]
    return pd.Series(found, index=table.index, dtype=object)
