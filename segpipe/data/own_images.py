"""Images of one's own, of any classes: a folder for each class, or a table beside the images."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from segpipe.data.annotations import read_labels
from segpipe.data.assembly import assemble, find_photographs, label_by_folder
from segpipe.data.check import CheckedDataset
from segpipe.diagnosis import check_class_name, class_code, in_order
from segpipe.errors import DatasetError

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
    files = find_photographs(root, distinct=True)
    labels = label_by_folder(files, lambda folders: class_code(folders[0]) if folders else None)
    return assemble(labels, files, classes=_classes_of(labels["dx"]), malignant=malignant, without_lesion_ids=without_lesion_ids)


def load_csv(
    root: str, *, table: str, without_lesion_ids: bool = False, malignant: Sequence[str] | None = None
) -> CheckedDataset:
    """Find images whose classes, and perhaps lesions, stand in a table, and check them.

    Args:
        root: folder of the images.
        table: in one of the forms of `read_labels`, `image,label,lesion_id` for one; further columns may be `age`, `sex` and
            `localization`.
        without_lesion_ids: take an image for a lesion of its own where the table has no `lesion_id` for it.
        malignant: the malignant classes; None where it follows from the classes, see `malignant_among`.

    Returns:
        One row for each usable image, and the report on the rest.

    Raises:
        DatasetError: the table cannot be used, there are fewer than two classes, or there are no lesion ids.
    """
    files, labels = find_photographs(root, distinct=True), read_labels(Path(table))
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
    if _TAKEN in classes:
        raise DatasetError(
            f"a class must have a name of letters, digits, blanks and _.()+&- that is not {_TAKEN!r}, which is a column of the "
            "results; rename it"
        )
    if len(classes) < 2:
        raise DatasetError(
            f"data.root must hold at least two classes, got {len(classes)}; see data/README.md: data=folders takes a folder for "
            "each class, data=csv a table"
        )
    return classes
