"""Finding HAM10000, and data sets laid out like it, in the forms in which people download them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from segpipe.data.assembly import Files, assemble, find_photographs, label_by_folder, read_metadata
from segpipe.data.check import CheckedDataset
from segpipe.data.tables import read_labels
from segpipe.diagnosis import CODES, ISIC_2019_CODES, check_class_name, class_code, in_order
from segpipe.errors import DatasetError
from segpipe.io.numerals import counted


def load_ham10000(root: str, *, without_lesion_ids: bool = False) -> CheckedDataset:
    """Find a data set below a folder and check it.

    The layouts of data/README.md are told apart by what they hold, not by their names: images, masks, and tables with the columns
    of the HAM10000 metadata or of the ISIC one-hot table.

    Args:
        root: the folder into which the data set was unpacked.
        without_lesion_ids: take an image for a lesion of its own where its lesion is not known, see `assemble`.

    Returns:
        One row for each usable image, and the report on the rest.

    Raises:
        DatasetError: there are no images, no diagnoses, or no lesion ids.
    """
    files = find_photographs(root, copies=False)
    labels = read_metadata(root)
    if labels is None:
        raise DatasetError(
            f"data.root must hold a table of diagnoses, got none in {root!r} beside {counted(len(files.images), 'image')} and "
            f"{counted(len(files.masks), 'mask')} of them; add HAM10000_metadata.csv or the "
            "ground truth of ISIC 2018 Task 3 (Task 1 has no diagnoses), see data/README.md"
        )
    return assemble(labels, files, classes=CODES, without_lesion_ids=without_lesion_ids)


def load_isic2019(
    root: str,
    *,
    classes: Sequence[str] | None = None,
    without_lesion_ids: bool = False,
    malignant: Sequence[str] | None = None,
) -> CheckedDataset:
    """Find ISIC 2019 below a folder and check it.

    Args:
        root: holds the images, and either the table of the ground truth, with the metadata where lesions are to be known, or
            folders that are named after the classes, at any depth.
        classes: those that are kept, in any order; None keeps the eight of the table, or those that have a folder.
        without_lesion_ids: take an image for a lesion of its own where its lesion is not known, see `assemble`; else it is left
            out.
        malignant: the malignant classes; None takes those that are known as such.

    Returns:
        One row for each usable image, and the report on the rest; the classes stand in the order of ISIC 2019's table.

    Raises:
        DatasetError: there are no images, no diagnoses or no lesion ids, or `classes` names fewer than two that are there.
    """
    labels, present = (read_metadata(root) if Path(root).is_dir() else None), ISIC_2019_CODES
    files = find_photographs(root, copies=labels is None)
    if labels is None:
        labels = label_by_folder(files, _class_of)
        present = tuple(code for code in ISIC_2019_CODES if code in set(labels["dx"]))
    if not present:
        raise DatasetError(
            f"data.root must hold ISIC_2019_Training_GroundTruth.csv or a folder for each class, got neither in {root!r} beside "
            f"{counted(len(files.images), 'image')}; see data/README.md"
        )
    chosen = _choose(present, classes)
    unwanted = set(ISIC_2019_CODES) - set(chosen)
    return assemble(labels, files, classes=chosen, unwanted=unwanted, malignant=malignant, without_lesion_ids=without_lesion_ids)


def _class_of(folders: Sequence[str]) -> str | None:
    """Of the outermost folder that is named after a class: the parts of a split may lie above it."""
    return next((code for code in map(class_code, folders) if code in ISIC_2019_CODES), None)


def _choose(present: tuple[str, ...], named: Sequence[str] | None) -> tuple[str, ...]:
    wanted = set(present) if named is None else set(map(class_code, named))
    if len(wanted) < 2 or not wanted <= set(present):
        raise DatasetError(
            f"data.classes must name two or more of {', '.join(present)}, as data.root holds them, "
            f"got {', '.join(sorted(wanted)) or 'none'}"
        )
    return tuple(code for code in present if code in wanted)


_PART_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def load_folders(
    root: str, *, without_lesion_ids: bool = False, malignant: Sequence[str] | None = None, split_folders: bool | None = None
) -> CheckedDataset:
    """Find a data set with a folder for each class, `ROOT/CLASS/photo.jpg`, and check it.

    Args:
        root: its subfolders are the classes, whatever lies deeper in them; masks lie in a folder `masks`, if anywhere. Folders
            `train`, `val` and `test` may lie above the classes.
        without_lesion_ids: take each image for a lesion of its own; folders cannot say which images show one lesion.
        malignant: the malignant classes; None where it follows from the classes, see `malignant_among`.
        split_folders: of folders `train`, `val` and `test`: take them for the split, or, if false, their images together. None
            refuses them.

    Returns:
        One row for each usable image, with its `part` where folders give the split, and the report on the rest.

    Raises:
        DatasetError: there are fewer than two classes, a name cannot be used, lesion ids are wanted, or `split_folders` does not
            fit the folders.
    """
    files = find_photographs(root, copies=True)
    parts = _parts_of(files)
    _check_split_folders(parts, split_folders)
    depth = 1 if parts else 0
    labels = label_by_folder(files, lambda folders: class_code(folders[depth]) if len(folders) > depth else None)
    classes = _classes_of(labels["dx"])
    dataset = assemble(labels, files, classes=classes, malignant=malignant, without_lesion_ids=without_lesion_ids)
    return replace(dataset, parts=parts) if split_folders else dataset


def _parts_of(files: Files) -> dict[str, str]:
    """The part of each image by the outermost folder; empty where these are no parts of a split.

    Raises:
        DatasetError: some are parts of a split, others are not.
    """
    folders = {image_id: path.relative_to(files.root).parts[:-1] for image_id, path in files.images.items()}
    outermost = {image_id: names[0] for image_id, names in folders.items() if names}
    others = sorted({name for name in outermost.values() if name.lower() not in _PART_FOLDERS})
    parts = {image_id: part for image_id, name in outermost.items() if (part := _PART_FOLDERS.get(name.lower()))}
    if parts and others:
        raise DatasetError(
            f"data.root must hold folders of classes or those of a split ({', '.join(sorted(set(parts.values())))}), got both, "
            f"{others[0]!r} beside them; name one of them by data.root, or move the others"
        )
    return parts


def _check_split_folders(parts: dict[str, str], split_folders: bool | None) -> None:
    """See that it is said what folders of parts mean.

    Raises:
        DatasetError: it is not, or there are none.
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


def load_csv(
    root: str, *, table: str, without_lesion_ids: bool = False, malignant: Sequence[str] | None = None
) -> CheckedDataset:
    """Find images whose classes, and perhaps lesions, stand in a table, and check them.

    Args:
        root: folder of the images.
        table: in one of the forms of `read_labels`, `image,label,lesion_id` for one; further columns may be `age`, `sex` and
            `localization`. It names an image by its path below `root` or the end of that, with or without ending.
        without_lesion_ids: take an image for a lesion of its own where the table has no `lesion_id` for it.
        malignant: the malignant classes; None where it follows from the classes, see `malignant_among`.

    Returns:
        One row for each usable image, and the report on the rest.

    Raises:
        DatasetError: the table cannot be used, there are fewer than two classes, or there are no lesion ids.
    """
    files, labels = find_photographs(root, copies=True), read_labels(Path(table))
    classes = _classes_of(labels["dx"].dropna())
    return assemble(labels, files, classes=classes, malignant=malignant, without_lesion_ids=without_lesion_ids)


def _classes_of(codes: Iterable[str]) -> tuple[str, ...]:
    """The classes in their order, see `in_order`."""
    classes = in_order(codes)
    try:
        for code in classes:
            check_class_name(code)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    if len(classes) < 2:
        raise DatasetError(
            f"data.root must hold at least two classes, got {len(classes)}; see data/README.md: data=folders takes a folder for "
            "each class, data=csv a table"
        )
    return classes
