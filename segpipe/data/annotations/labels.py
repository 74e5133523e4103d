"""Labels in tables and annotation files."""

from pathlib import Path

import pandas as pd

from segpipe.data.annotations.files import Annotations, is_annotation_file, read_annotations
from segpipe.data.tables import read_labels
from segpipe.diagnosis import class_code


def read_label_file(path: Path) -> pd.DataFrame:
    """Read the labels in a table or an annotation file.

    Args:
        path: Table, see `read_labels`, or COCO, Label Studio or CVAT file.

    Returns:
        Table as of `read_labels`; an image with several labels in an annotation file has several rows.

    Raises:
        DatasetError: The file cannot be used.
    """
    return _to_table(read_annotations(path)) if is_annotation_file(path) else read_labels(path)


def _to_table(annotations: Annotations) -> pd.DataFrame:
    rows = [(image.name, label, image.lesion_id) for image in annotations.images for label in image.labels or (None,)]
    table = pd.DataFrame(rows, columns=["image_id", "dx", "lesion_id"], dtype="str")
    table = table.assign(dx=table["dx"].map(class_code, na_action="ignore"))
    return table if table["lesion_id"].notna().any() else table.drop(columns="lesion_id")
