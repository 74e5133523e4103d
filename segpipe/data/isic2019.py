"""Finding ISIC 2019, all of it or some of its classes: with its tables, or as a folder for each class."""

from collections.abc import Sequence
from pathlib import Path

from segpipe.data.assembly import assemble, find_photographs, label_by_folder, read_metadata
from segpipe.data.check import CheckedDataset
from segpipe.diagnosis import ISIC_2019_CODES, class_code
from segpipe.errors import DatasetError
from segpipe.io.numerals import counted


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
