"""Loaders of HAM10000, ISIC 2019, class folders and tables."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from segpipe.data.annotations.labels import read_label_file
from segpipe.data.assembly import Files, assemble, find_photographs, read_metadata
from segpipe.data.check import CheckedDataset
from segpipe.data.masks import holds_outlines
from segpipe.diagnosis import CODES, ISIC_2019_CODES, check_class_name, class_code, in_order
from segpipe.errors import DatasetError
from segpipe.io.files import counted

_PART_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def load_ham10000(root: str, *, masks: str | None = None, without_lesion_ids: bool = False) -> CheckedDataset:
    """Load and check HAM10000, or a data set of similar layout.

    The layouts of data/README.md are distinguished by content, not by names: images, masks, and tables with the columns of
    the HAM10000 metadata or of the ISIC one-hot table.

    Args:
        root: Folder of the unpacked data set.
        masks: Folder or annotation file of masks that take precedence over those below `root`; None for none.
        without_lesion_ids: True to treat images without a known lesion as lesions of their own, see `assemble`.

    Returns:
        One row per usable image, and the report on the others.

    Raises:
        DatasetError: There are no images, no diagnoses, or no lesion ids.
    """
    files = find_photographs(root, copies=False, masks=masks)
    labels = read_metadata(root)
    if labels is None:
        raise DatasetError(
            f"data.root must hold a table of diagnoses, got none in {root!r} with {counted(len(files.images), 'image')} and "
            f"{counted(len(files.masks), 'mask')}; add HAM10000_metadata.csv or the "
            "ground truth of ISIC 2018 Task 3 (Task 1 has no diagnoses), see data/README.md"
        )
    return assemble(labels, files, classes=CODES, without_lesion_ids=without_lesion_ids)


def load_isic2019(
    root: str,
    *,
    classes: Sequence[str] | None = None,
    masks: str | None = None,
    without_lesion_ids: bool = False,
    malignant: Sequence[str] | None = None,
) -> CheckedDataset:
    """Load and check ISIC 2019.

    Args:
        root: Folder of the images, and of either the ground truth table, with the metadata for lesion ids, or folders named
            after the classes, at any depth.
        classes: Classes to keep, in any order; None keeps the eight of the table, or those that have a folder.
        masks: Folder or annotation file of masks that take precedence over those below `root`; None for none.
        without_lesion_ids: True to treat images without a known lesion as lesions of their own, see `assemble`; else they are
            left out.
        malignant: Malignant classes; None takes the known ones.

    Returns:
        One row per usable image, and the report on the others; classes are in the order of the ISIC 2019 table.

    Raises:
        DatasetError: There are no images, diagnoses or lesion ids, or `classes` lists fewer than two existing ones.
    """
    labels, present = (read_metadata(root) if Path(root).is_dir() else None), ISIC_2019_CODES
    files = find_photographs(root, copies=labels is None, masks=masks)
    if labels is None:
        labels = _label_by_folder(files, _isic_class)
        present = tuple(code for code in ISIC_2019_CODES if code in set(labels["dx"]))
    if not present:
        raise DatasetError(
            f"data.root must hold ISIC_2019_Training_GroundTruth.csv or a folder for each class, got neither in {root!r} with "
            f"{counted(len(files.images), 'image')}; see data/README.md"
        )
    chosen = _choose_isic_classes(present, classes)
    excluded = set(ISIC_2019_CODES) - set(chosen)
    return assemble(labels, files, classes=chosen, excluded=excluded, malignant=malignant, without_lesion_ids=without_lesion_ids)


def load_folders(
    root: str,
    *,
    masks: str | None = None,
    without_lesion_ids: bool = False,
    malignant: Sequence[str] | None = None,
    split_folders: bool | None = None,
) -> CheckedDataset:
    """Load and check a data set of class folders, `ROOT/CLASS/photo.jpg`.

    Args:
        root: Folder whose subfolders, at any depth, are the classes; masks lie in a folder `masks`, if any. Folders `train`,
            `val` and `test` may lie above the classes.
        masks: Folder or annotation file of masks that take precedence over those below `root`; None for none.
        without_lesion_ids: True to treat each image as a lesion of its own; folders do not define lesions.
        malignant: Malignant classes; None derives them from the classes, see `malignant_among`.
        split_folders: Use of folders `train`, `val` and `test`: True takes them as the split, False pools their images, None
            refuses them.

    Returns:
        One row per usable image, with its `part` if folders define the split, and the report on the others.

    Raises:
        DatasetError: There are fewer than two classes, a name is invalid, lesion ids are required, or `split_folders` does
            not match the folders.
    """
    files = find_photographs(root, copies=True, masks=masks)
    parts = _parts_of(files)
    _check_split_folders(parts, split_folders)
    depth = 1 if parts else 0
    labels = _label_by_folder(files, lambda folders: class_code(folders[depth]) if len(folders) > depth else None)
    classes = _classes_of(labels["dx"])
    dataset = assemble(labels, files, classes=classes, malignant=malignant, without_lesion_ids=without_lesion_ids)
    return replace(dataset, parts=parts) if split_folders else dataset


def load_csv(
    root: str,
    *,
    table: str,
    masks: str | None = None,
    without_lesion_ids: bool = False,
    malignant: Sequence[str] | None = None,
) -> CheckedDataset:
    """Load and check images with classes, and optionally lesions, in a table.

    Args:
        root: Folder of the images.
        table: Table in one of the forms of `read_labels`, such as `image,label,lesion_id`; further columns may be `age`,
            `sex` and `localization`. It names images by path below `root` or by the end of that path, with or without suffix.
            An annotation file gives the masks, too, and may have a single label, which trains a segmenter.
        masks: Folder or annotation file of masks that take precedence over those below `root`; None for none.
        without_lesion_ids: True to treat images without a `lesion_id` as lesions of their own.
        malignant: Malignant classes; None derives them from the classes, see `malignant_among`.

    Returns:
        One row per usable image, and the report on the others.

    Raises:
        DatasetError: The table cannot be used, there are fewer than two classes, or there are no lesion ids.
    """
    labels = read_label_file(Path(table))
    outlined = holds_outlines(Path(table))
    files = find_photographs(root, copies=True)
    for key, source in (("data.table", table if outlined else None), ("data.masks", masks)):
        files = files if source is None else files.with_masks(source, key=key)
    # The segmenter may learn from outlines of a single label.
    classes = _classes_of(labels["dx"].dropna(), least=1 if outlined else 2)
    return assemble(labels, files, classes=classes, malignant=malignant, without_lesion_ids=without_lesion_ids)


def _label_by_folder(files: Files, class_of: Callable[[Sequence[str]], str | None]) -> pd.DataFrame:
    """Derive labels from the folders of images.

    Args:
        files: Files of the data set.
        class_of: Function from the folder names of an image, from the root downwards, to its class; None for no class.

    Returns:
        `image_id` and `dx` of the images that have a class.
    """
    labels = {image_id: code for image_id, names in files.folders.items() if (code := class_of(names)) is not None}
    return pd.DataFrame({"image_id": list(labels), "dx": list(labels.values())}, dtype=object)


def _isic_class(folders: Sequence[str]) -> str | None:
    """Return the class of the outermost folder named after one.

    Folders of a split may lie above it.
    """
    return next((code for code in map(class_code, folders) if code in ISIC_2019_CODES), None)


def _choose_isic_classes(present: tuple[str, ...], named: Sequence[str] | None) -> tuple[str, ...]:
    selected = set(present) if named is None else set(map(class_code, named))
    if len(selected) < 2 or not selected <= set(present):
        raise DatasetError(
            f"data.classes must name two or more of {', '.join(present)}, as data.root holds them, "
            f"got {', '.join(sorted(selected)) or 'none'}"
        )
    return tuple(code for code in present if code in selected)


def _parts_of(files: Files) -> dict[str, str]:
    """Map images to parts by their outermost folder; empty without a split.

    Raises:
        DatasetError: Some folders are parts of a split, others are not.
    """
    outermost = {image_id: names[0] for image_id, names in files.folders.items() if names}
    others = sorted({name for name in outermost.values() if name.lower() not in _PART_FOLDERS})
    parts = {image_id: part for image_id, name in outermost.items() if (part := _PART_FOLDERS.get(name.lower()))}
    if parts and others:
        raise DatasetError(
            f"data.root must hold folders of classes or those of a split ({', '.join(sorted(set(parts.values())))}), got both, "
            f"among them {others[0]!r}; set data.root to one of them, or move the others"
        )
    return parts


def _check_split_folders(parts: dict[str, str], split_folders: bool | None) -> None:
    """Check that `split_folders` is given if and only if it applies.

    Raises:
        DatasetError: It is missing, or there are no parts.
    """
    if parts and split_folders is None:
        raise DatasetError(
            f"data.root holds the folders of a split ({', '.join(sorted(set(parts.values())))}), which are no classes; set "
            "data.split_folders=true to train by that split, or data.split_folders=false to split all their images anew"
        )
    if split_folders and "train" not in parts.values():
        raise DatasetError(
            f"data.split_folders=true needs a folder train around folders of classes, and perhaps val and test, got "
            f"{', '.join(sorted(set(parts.values()))) or 'none'}; leave it out"
        )


def _classes_of(codes: Iterable[str], *, least: int = 2) -> tuple[str, ...]:
    """Sort and check the classes, at least `least`, see `in_order`."""
    classes = in_order(codes)
    try:
        for code in classes:
            check_class_name(code)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    if len(classes) < least:
        raise DatasetError(
            f"data.root must hold at least two classes, got {len(classes)}; see data/README.md: data=folders takes a folder for "
            "each class, data=csv a table"
        )
    return classes
