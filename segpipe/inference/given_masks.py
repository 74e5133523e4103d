"""Given masks, which replace those that the localizer finds."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from segpipe.errors import MaskError
from segpipe.io.files import display_path
from segpipe.io.image_decoding import DEFAULT_MAX_PIXELS
from segpipe.io.images import read_mask
from segpipe.lesion.crop import scale_mask
from segpipe.types import BoolMask, Photograph, kind_of, require_mask

GivenMask: TypeAlias = BoolMask | str | Path


def pair_masks(sources: Iterable[object], masks: object) -> Iterator[tuple[object, object]]:
    """Pair images with their given masks.

    Args:
        sources: List, tuple or iterator of images.
        masks: List or tuple with a mask, or None, for each image of a list; None for no masks.

    Raises:
        ValueError: The numbers differ, or there are masks for an iterator.
    """
    if masks is None:
        return ((source, None) for source in sources)
    if not isinstance(sources, Sequence):
        raise ValueError("mask must be left out for an iterator of images; give lists of images and masks")
    if not isinstance(masks, list | tuple):
        raise ValueError(f"mask must be a list with a mask or None for each image, got {kind_of(masks)}")
    if len(masks) != len(sources):
        raise ValueError(f"mask must have {len(sources)} entries, one for each image, got {len(masks)}; None finds the lesion")
    return zip(sources, masks, strict=True)


def read_given_mask(mask: object, photograph: Photograph, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> BoolMask:
    """Read a given mask.

    Args:
        mask: Path of a mask file, or bool, shape (H, W), true on the lesion.
        photograph: Photograph of the lesion.
        max_pixels: Largest accepted number of pixels of a file.

    Returns:
        Bool, shape (H, W) of the original photograph.

    Raises:
        ImageError: The file cannot be used as a mask of this photograph; the message starts with its path.
        ValueError: The array is not a mask of this photograph, or empty.
    """
    if not isinstance(mask, str | Path):
        return _require_fit(mask, photograph).copy()  # the caller may change it afterwards
    try:
        return _require_fit(read_mask(Path(mask), max_pixels=max_pixels), photograph)
    except ValueError as error:
        raise MaskError(f"{display_path(Path(mask))}: {error}") from error


def reduce_mask(mask: BoolMask | None, photograph: Photograph) -> BoolMask | None:
    """Scale a given mask to the resolution of its photograph as read."""
    return None if mask is None else scale_mask(mask, *photograph.image.shape[:2])


def _require_fit(mask: object, photograph: Photograph) -> BoolMask:
    fitting = require_mask(mask, size=(photograph.height, photograph.width))
    if not scale_mask(fitting, *photograph.image.shape[:2]).any():
        raise ValueError(f"mask must cover the lesion, got {int(fitting.sum())} true pixels; leave it out to find the lesion")
    return fitting
