"""Finding HAM10000, and data sets laid out like it, in the forms in which people download them."""

from segpipe.data.assembly import assemble, find_photographs, read_metadata
from segpipe.data.check import CheckedDataset
from segpipe.diagnosis import CODES
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
