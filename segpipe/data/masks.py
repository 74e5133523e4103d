"""Lesion masks by image name, and their defects."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from segpipe.data.identity import parse_name, same_content
from segpipe.errors import DatasetError, ImageError, MaskError
from segpipe.io.folders import find_images, image_of_mask
from segpipe.io.images import read_mask

MASK_DEFECTS = (
    *("missing mask", "mask that does not decode", "mask that does not have two values"),
    *("mask of another size than its image", "empty mask"),
)


def find_masks(folder: Path, *, images: Collection[Path] = ()) -> dict[str, Path]:
    """Find the lesion masks below a folder.

    Files are masks by name, folder or content. Other files next to them count as well, since they are meant as masks.

    Args:
        folder: Folder, searched with all its subfolders.
        images: Files below it that are photographs.

    Returns:
        Mask by image name, see `name_masks`.

    Raises:
        DatasetError: There are no masks, or an image has two of different content.
    """
    found, photographs = find_images(folder), {path.absolute() for path in images}
    masks = [path for path in (*found.masks, *found.mask_pictures) if path.absolute() not in photographs]
    mask_folders = {path.parent for path in masks}
    others = [path for path in found.images if path.absolute() not in photographs and (path.parent in mask_folders or not masks)]
    if not masks and not others:
        raise DatasetError(
            f"{folder} must hold masks, got none among its files; results of segpipe do not count as masks; name their folder"
        )
    return {_image_name(folder, path): path for path in others} | name_masks(folder, masks)


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
