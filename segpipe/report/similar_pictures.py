"""Pictures of similar cases, in a report and on the web page."""

from collections.abc import Sequence
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
from segpipe.report.html_finding import data_uri
from segpipe.report.overlays import THUMBNAIL_SIDE, encode_jpeg
from segpipe.runs.results import Row
from segpipe.types import RgbImage


class TrainingPhotographs:
    """Photographs of similar cases, found once in a folder.

    Args:
        root: Folder of the training images, searched with its subfolders.
    """

    def __init__(self, root: Path) -> None:
        relatives = [path.relative_to(root) for path in find_files(root)]
        photographs = select_images(relatives, lambda paths: [b""] * len(paths)).images
        self._paths = {image_id: root / path for image_id, path in zip(image_ids(photographs), photographs, strict=True)}

    def thumbnail(self, image_id: str) -> bytes | None:
        """Encode the thumbnail of an image; None without a readable image."""
        path = self._paths.get(image_id)
        try:
            return None if path is None else encode_jpeg(_read_thumbnail(path))
        except ImageError:
            return None

    def urls(self, row: Row) -> dict[str, str]:
        """Return the thumbnails of the similar cases of a row as URLs."""
        thumbnails = {case.image_id: self.thumbnail(case.image_id) for case in similar_cases(row)}
        return {image_id: data_uri(thumbnail) for image_id, thumbnail in thumbnails.items() if thumbnail is not None}


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
    photographs = TrainingPhotographs(root)
    wanted = sorted({case.image_id for row in rows for case in similar_cases(row)})
    pictures = {}
    for image_id in follow(wanted, len(wanted), "similar cases"):
        if (thumbnail := photographs.thumbnail(image_id)) is not None:
            pictures[image_id] = Path(SIMILAR_PICTURES, f"{image_id}.jpg")
            write_file(output / pictures[image_id], thumbnail)
    return pictures


def _read_thumbnail(path: Path) -> RgbImage:
    with open_image(path) as file:
        picture = Image.fromarray(decode_photograph(file, least_side=THUMBNAIL_SIDE).image)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return np.asarray(picture)
