"""Pictures of the similar cases of a report."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segpipe.data.identity import image_ids
from segpipe.errors import ImageError
from segpipe.io.files import open_image, write_file
from segpipe.io.folders import find_files, select_images
from segpipe.io.images import decode_photograph
from segpipe.io.passes import follow
from segpipe.io.run_files import SIMILAR_PICTURES
from segpipe.report.evidence import similar_cases
from segpipe.report.overlays import THUMBNAIL_SIDE, encode_jpeg
from segpipe.runs.results import Row
from segpipe.types import RgbImage


def write_similar_pictures(output: Path, rows: Sequence[Row], root: Path) -> dict[str, Path]:
    """Write a picture of each similar case found in a folder.

    Args:
        output: Output folder of the run.
        rows: Rows of the results.
        root: Folder of the training images, searched with its subfolders.

    Returns:
        Path of each picture, relative to `output`, by image id; photographs that cannot be read are left out.

    Raises:
        OutputError: A picture cannot be written.
    """
    found = _find_photographs(root, {case.image_id for row in rows for case in similar_cases(row)})
    pictures = {}
    for image_id, path in follow(found.items(), len(found), "similar cases"):
        try:
            thumbnail = _read_thumbnail(path)
        except ImageError:
            continue
        pictures[image_id] = Path(SIMILAR_PICTURES, f"{image_id}.jpg")
        write_file(output / pictures[image_id], encode_jpeg(thumbnail))
    return pictures


def _find_photographs(root: Path, wanted: Collection[str]) -> dict[str, Path]:
    """Find photographs by the ids that a training gives them."""
    relatives = [path.relative_to(root) for path in find_files(root)]
    photographs = select_images(relatives, lambda paths: [b""] * len(paths)).images
    return {
        image_id: root / path for image_id, path in zip(image_ids(photographs), photographs, strict=True) if image_id in wanted
    }


def _read_thumbnail(path: Path) -> RgbImage:
    with open_image(path) as file:
        picture = Image.fromarray(decode_photograph(file, least_side=THUMBNAIL_SIDE).image)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return np.asarray(picture)
