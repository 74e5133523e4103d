"""Given masks of a run, which replace those that the localizer finds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from segpipe.data.identity import KnownImages
from segpipe.data.masks import find_masks, same_masks
from segpipe.errors import ConfigError
from segpipe.io.files import display_path
from segpipe.runs.source import Source


def with_given_masks(source: Source, given: Path, *, output: Path) -> Source:
    """Assign masks to the images of a run.

    Args:
        source: Images of the run.
        given: Folder of masks named after the images, see `segpipe.data.masks.find_masks`, or the mask file of a single image.
        output: Output folder of the run.

    Returns:
        The images with their masks; images without one are localized.

    Raises:
        ConfigError: No mask fits an image, a file is given for several images, or the masks lie in `output`.
        DatasetError: A mask may belong to two images, or an image has two masks of different content.
    """
    if given.resolve().is_relative_to(output.resolve()):  # where the run writes masks of the same names
        raise ConfigError(f"given_masks must lie outside of output, got {display_path(given)}; name another output")
    masks = _of_folder(source, given) if given.is_dir() else _of_single(source, given)
    remark = f"given masks: {len(masks)} of {len(source.files)} images"
    return replace(source, masks=masks, remarks=(*source.remarks, remark))


def _of_single(source: Source, given: Path) -> Mapping[str, Path]:
    if len(source.files) != 1:
        raise ConfigError(
            f"given_masks must be a folder for {len(source.files)} images, got the file {display_path(given)}; name the masks "
            "in it after the images"
        )
    return dict.fromkeys(source.by_path, given)


def _of_folder(source: Source, given: Path) -> Mapping[str, Path]:
    files = source.by_path
    named = find_masks(given, images=[file for file in files.values() if isinstance(file, Path)])
    masks = KnownImages(files).assign(named, what="given_masks", same=same_masks)
    if not masks:
        raise ConfigError(
            f"given_masks must hold a mask of at least one of the {len(files)} images, such as {next(iter(files), 'none')}, got "
            f"{len(named)} of others, such as {next(iter(named))}; name masks IMAGE.png or IMAGE_segmentation.png"
        )
    return masks
