"""Lesion masks by image name, and their defects."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from segpipe.data.annotations.files import is_annotation_file, read_annotations
from segpipe.data.identity import KnownImages, parse_name, same_content
from segpipe.errors import DatasetError, ImageError, MaskError
from segpipe.io.files import counted
from segpipe.io.folders import find_images, image_of_mask
from segpipe.io.images import read_mask, write_png
from segpipe.io.passes import follow, results_folder

OUTLINES = "outlines"  # folder of decoded masks, in the folder of kept results
MASK_DEFECTS = (
    *("missing mask", "mask that does not decode", "mask that does not have two values"),
    *("mask of another size than its image", "empty mask"),
)


def find_masks(folder: Path, *, images: Collection[Path] = ()) -> dict[str, Path]:
    """Find the lesion masks below a folder, or in an annotation file.

    Files are masks by name, folder or content. Other files next to them count as well, since they are meant as masks.

    Args:
        folder: Folder, searched with all its subfolders, or a COCO, Label Studio or CVAT file.
        images: Files below it that are photographs.

    Returns:
        Mask by image name, see `name_masks`.

    Raises:
        DatasetError: There are no masks, an image has two of different content, or the annotation file cannot be used.
    """
    if is_annotation_file(folder):
        return _outlined_masks(folder)
    found, photographs = find_images(folder), {path.absolute() for path in images}
    masks = [path for path in (*found.masks, *found.mask_pictures) if path.absolute() not in photographs]
    mask_folders = {path.parent for path in masks}
    others = [path for path in found.images if path.absolute() not in photographs and (path.parent in mask_folders or not masks)]
    if not masks and not others:
        raise DatasetError(
            f"{folder} must hold masks, got none among its files; results of segpipe do not count as masks; name their folder"
        )
    return {_image_name(folder, path): path for path in others} | name_masks(folder, masks)


def _outlined_masks(file: Path) -> dict[str, Path]:
    """Write the masks of the outlined images of an annotation file.

    Files go beside the kept results of `segpipe.io.passes`, where later calls find them, or else into a temporary folder.

    Raises:
        DatasetError: There is no outline.
        WriteError: A file cannot be written.
    """
    annotations = read_annotations(file)
    folder = (results_folder() or Path(_temporary_folder().name)) / OUTLINES / annotations.sha256
    masks: dict[str, Path] = {}
    for number, image in enumerate(follow(annotations.images, len(annotations.images), "reading outlines")):
        if image.outline is not None:
            masks[image.name] = folder / f"{number}.png"
            if not masks[image.name].is_file():
                write_png(masks[image.name], image.outline.mask())
    if not masks:
        raise DatasetError(f"{file} must hold outlines of lesions, got none for its {counted(len(annotations.images), 'image')}")
    return masks


@lru_cache(maxsize=1)
def _temporary_folder() -> "TemporaryDirectory[str]":
    """Make the temporary folder of this process; its end removes it."""
    return TemporaryDirectory(prefix="segpipe-")


def holds_outlines(path: Path) -> bool:
    """Return True for an annotation file with outlines."""
    return is_annotation_file(path) and any(image.outline is not None for image in read_annotations(path).images)


def assign_masks(source: Path, known: KnownImages, *, key: str) -> tuple[dict[str, Path], dict[str, tuple[str, ...]]]:
    """Find the masks of a data set that its settings name.

    Args:
        source: Folder or annotation file, see `find_masks`.
        known: Photographs of the data set.
        key: Setting that names the source, for messages.

    Returns:
        Mask by image id, and names of the others by the reason.

    Raises:
        DatasetError: There are no masks, or none is of a photograph.
    """
    named, what = find_masks(source), f"the masks in {source}"
    given = known.assign(named, what=what, same=same_masks)
    if not given:
        raise DatasetError(
            f"{key} must name images of data.root, got none among {counted(len(named), 'name')}, such as {next(iter(named))}"
        )
    unknown = sorted(named.keys() - known.find(named, what=what).keys())
    skipped = read_annotations(source).skipped if is_annotation_file(source) else {}
    return given, {f"mask of no image in {key}": tuple(unknown), **skipped}


def name_masks(folder: Path, masks: Sequence[Path]) -> dict[str, Path]:
    """Map image names to masks: `mel/ISIC_1` to `mel/masks/ISIC_1_segmentation.png`.

    Raises:
        DatasetError: An image has two masks of different content.
    """
    named: dict[str, Path] = {}
    for path in masks:
        name = _image_name(folder, path)
        if named.setdefault(name, path) != path and not same_masks(named[name], path):
            raise DatasetError(
                f"masks must be one for each image, got {named[name].relative_to(folder).as_posix()} and "
                f"{path.relative_to(folder).as_posix()} of different content in {folder}; keep one of them"
            )
    return named


def same_masks(first: Path, second: Path) -> bool:
    """Compare the masks in two files; an unreadable file equals no other."""
    try:
        return same_content(first, second) or np.array_equal(read_mask(first), read_mask(second))
    except ImageError:
        return False


def _image_name(folder: Path, mask: Path) -> str:
    return parse_name(image_of_mask(mask.relative_to(folder))).without_ending


def inspect_mask(path: Path, shape: tuple[int, ...] | None) -> str:
    """Return the defect of a mask, one of `MASK_DEFECTS`, or "".

    Args:
        path: Mask file.
        shape: Height and width of its image, pixels; None if unknown.
    """
    try:
        mask = read_mask(path)
    except MaskError:
        return "mask that does not have two values"
    except ImageError:
        return "mask that does not decode"
    if shape is not None and mask.shape != shape:
        return "mask of another size than its image"
    return "" if mask.any() else "empty mask"
