"""Images of one's own, of any classes: a folder for each class, or a table beside the images."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from segpipe.data.annotations import find_masks, read_labels
from segpipe.data.check import CheckedDataset, check_table
from segpipe.data.ham10000 import LABEL_COLUMNS, image_ids_for_lesion_ids, paths_of
from segpipe.diagnosis import CODES, MALIGNANT_CODES, class_code
from segpipe.errors import DatasetError
from segpipe.folders import find_images

# What can stand in a column's name, a command line and a file without quotes or escapes.
_CLASS_NAME = re.compile(r"\w([\w .()+&-]*[\w.()+-])?")
_TAKEN = "malignant"  # the column p_malignant is the sum over the malignant classes


def load_folders(root: str, *, without_lesion_ids: bool = False, malignant: Sequence[str] | None = None) -> CheckedDataset:
    """Find a data set with a folder for each class, `ROOT/CLASS/photo.jpg`, and check it.

    Args:
        root: its subfolders are the classes, whatever lies deeper in them; masks lie in a folder `masks`, if anywhere.
        without_lesion_ids: take each image for a lesion of its own; folders cannot say which images show one lesion.
        malignant: the malignant classes; None where it follows from the classes, see `malignant_among`.

    Returns:
        One row for each usable image, and the report on the rest.

    Raises:
        DatasetError: there are fewer than two classes, a name cannot be used, or lesion ids are wanted.
    """
    images = _images_by_name(Path(root))
    relative = {image_id: path.relative_to(root) for image_id, path in images.items()}
    labelled = {image_id: class_code(path.parts[0]) for image_id, path in relative.items() if len(path.parts) > 1}
    labels = pd.DataFrame({"image_id": list(labelled), "dx": list(labelled.values())}, dtype=object)
    return _check(labels, images, root, without_lesion_ids=without_lesion_ids, malignant=malignant)


def load_csv(
    root: str, *, table: str, without_lesion_ids: bool = False, malignant: Sequence[str] | None = None
) -> CheckedDataset:
    """Find images whose classes, and perhaps lesions, stand in a table, and check them.

    Args:
        root: folder of the images.
        table: in one of the forms of `read_labels`, `image,label,lesion_id` for one; further columns may be `age`, `sex` and
            `localization`.
        without_lesion_ids: take each image for a lesion of its own where the table has no `lesion_id`.
        malignant: the malignant classes; None where it follows from the classes, see `malignant_among`.

    Returns:
        One row for each usable image, and the report on the rest.

    Raises:
        DatasetError: the table cannot be used, there are fewer than two classes, or there are no lesion ids.
    """
    images, labels = _images_by_name(Path(root)), read_labels(Path(table))
    return _check(labels, images, root, without_lesion_ids=without_lesion_ids, malignant=malignant)


def malignant_among(classes: tuple[str, ...], named: Sequence[str] | None) -> tuple[str, ...]:
    """The malignant classes: those that are named; else those of the seven diagnoses, if there are no others; else none.

    Raises:
        DatasetError: one that is named is no class.
    """
    if named is None:
        return tuple(code for code in classes if code in MALIGNANT_CODES) if set(classes) <= set(CODES) else ()
    chosen = {class_code(name) for name in named}
    if not chosen <= set(classes):
        raise DatasetError(f"data.malignant must name classes among {', '.join(classes)}, got {', '.join(sorted(chosen))}")
    return tuple(code for code in classes if code in chosen)


def _check(
    labels: pd.DataFrame,
    images: dict[str, Path],
    root: str,
    *,
    without_lesion_ids: bool,
    malignant: Sequence[str] | None,
) -> CheckedDataset:
    if "lesion_id" not in labels.columns:
        labels = labels.assign(lesion_id=image_ids_for_lesion_ids(labels, root, asked_for=without_lesion_ids))
    classes = _classes_of(list(labels["dx"].dropna().unique()))
    masks = find_masks(Path(root), images=list(images.values()))
    table = labels.reindex(columns=list(LABEL_COLUMNS)).assign(
        image_path=paths_of(labels["image_id"], images), mask_path=paths_of(labels["image_id"], masks)
    )
    return check_table(
        table,
        name=Path(root).resolve().name,
        unlisted=sorted(set(images) - set(labels["image_id"])),
        classes=classes,
        malignant=malignant_among(classes, malignant),
    )


def _images_by_name(folder: Path) -> dict[str, Path]:
    """The images by their names without ending, by which results, labels and masks know them."""
    found = find_images(folder).images
    names = Counter(path.stem for path in found)
    doubled = [path.relative_to(folder).as_posix() for path in found if names[path.stem] > 1]
    if doubled:
        raise DatasetError(
            f"data.root must hold images of different names, whatever their folder and ending, got {len(doubled)} that share "
            f"one, {doubled[0]} for one; rename them"
        )
    return {path.stem: path for path in found}


def _classes_of(codes: Sequence[str]) -> tuple[str, ...]:
    """The classes in their order: that of the seven diagnoses where there are no others, else by name."""
    classes = tuple(code for code in CODES if code in codes) if set(codes) <= set(CODES) else tuple(sorted(codes))
    wrong = [code for code in classes if not _CLASS_NAME.fullmatch(code) or code == _TAKEN]
    if wrong:
        raise DatasetError(
            f"a class must have a name of letters, digits, blanks and _.()+&- that is not {_TAKEN!r}, which is a column of the "
            f"results, got {wrong[0]!r}; rename it"
        )
    if len(classes) < 2:
        raise DatasetError(
            f"data.root must hold at least two classes, got {len(classes)}; see data/README.md: data=folders takes a folder for "
            "each class, data=csv a table"
        )
    return classes
