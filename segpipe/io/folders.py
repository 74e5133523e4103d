"""Search of folders for files, images and masks."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath

from segpipe.errors import ImageError
from segpipe.io.files import display_path, open_image, why_no_file
from segpipe.io.image_decoding import DEFAULT_MAX_PIXELS, decode, may_be_mask
from segpipe.io.image_formats import (
    HEAD_SIZE,
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    READ_FORMATS,
    UNREAD_SUFFIXES,
    format_of,
    unread_reason,
)
from segpipe.io.mask_decoding import looks_like_mask
from segpipe.io.run_files import OUTPUT_NAMES, OUTPUT_SIGNS

_MASK_WORD = r"(masks?|gts?|segs?|segmentations?|ground[ _-]?truths?|annotations?)"
_MASK_STEM = re.compile(rf"[ ._-]{_MASK_WORD}$|^{_MASK_WORD}[ ._-]", re.IGNORECASE)
_SUPERPIXELS = re.compile(r"_superpixels$", re.IGNORECASE)  # ISIC superpixels, neither photographs nor lesion masks
_MASK_FOLDER = re.compile(
    rf"^{_MASK_WORD}$|^(masks?|gts?)[ ._-]|[ ._-](masks?|gts?)$|segmentations|segmentationclass|ground[ _-]?truth", re.IGNORECASE
)
# Suffixes of masks that are recognized by content alone.
_LESION_STEM = re.compile(r"[ ._-](lesion|label)$", re.IGNORECASE)


@dataclass(frozen=True)
class FoundImages:
    """Images and masks found in a folder.

    Attributes:
        images: Image files, sorted by their POSIX path relative to the folder.
        unreadable: Images of unsupported formats, folders and broken links with image names, and folders that cannot be listed,
            each with the reason, sorted likewise.
        ignored: Number of other files: other types, hidden files, and masks of a data set.
        masks: Ignored files that are masks by name or folder.
        mask_pictures: Ignored files that are masks by content alone, see `segpipe.io.mask_decoding.looks_like_mask`.
        outputs: Folders that hold only results of segpipe.
    """

    images: tuple[Path, ...]
    unreadable: tuple[tuple[Path, str], ...]
    ignored: int
    masks: tuple[Path, ...] = ()
    mask_pictures: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SelectedImages:
    """Images selected from the files of a folder.

    Attributes:
        images: Paths relative to the folder, in the given order.
        unread: Images of unsupported formats, each with the reason.
    """

    images: tuple[Path, ...]
    unread: dict[Path, str]


def find_images(folder: Path) -> FoundImages:
    """Find the images in a folder and its subfolders.

    Suffixes distinguish images from other files; without a known suffix, the first bytes of a file decide.

    Links to folders are followed; each real folder is visited once. Masks of a data set are not images: files named like
    `*_segmentation`, `*_mask` or `*_gt`, all files in folders named like `masks`, `GT`, `ground_truth`, `annotations` or
    `*segmentations*` (in any case), and files with the content of a mask. The names of `folder` and its parents do not count.
    Results of segpipe are skipped as well: folders with `results.jsonl`, `job.json`, a checkpoint or a bundle.

    Raises:
        ImageError: `folder` is missing, no folder, or cannot be listed.
    """
    if not os.path.isdir(folder):
        raise ImageError(f"{display_path(folder)}: {'a file, not a folder' if os.path.exists(folder) else 'no such folder'}")
    entries, unlisted = _walk(folder)
    if folder in unlisted:
        raise ImageError(f"{display_path(folder)}: {unlisted[folder]}")
    unreadable = {path: reason for path, reason in unlisted.items() if _may_hold_images(path.relative_to(folder))}
    relatives = [path.relative_to(folder) for path in entries]
    selected = select_images(relatives, lambda paths: [_head(folder / path) for path in paths])
    unread = {folder / path: reason for path, reason in selected.unread.items() if not os.path.isdir(folder / path)}
    candidates = [*(folder / relative for relative in selected.images), *unread]
    for path in candidates:
        reason = None if os.path.isfile(path) else why_no_file(path)
        if reason:
            unreadable.setdefault(path, reason)
    unreadable = unread | unreadable
    pictures = [path for path in candidates if path not in unreadable]
    with ThreadPoolExecutor() as pool:
        mask_pictures = [path for path, is_mask in zip(pictures, pool.map(is_mask_picture, pictures), strict=True) if is_mask]
    outputs = _output_folders(relatives) - {Path()}
    ignored = sum(not os.path.isdir(path) for path in set(entries).difference(candidates)) + len(mask_pictures)
    return FoundImages(
        tuple(path for path in pictures if path not in set(mask_pictures)),
        tuple(sorted(unreadable.items(), key=lambda item: item[0].as_posix())),
        ignored,
        tuple(folder / relative for relative in select_masks(relatives)),
        tuple(mask_pictures),
        tuple(folder / relative for relative in sorted(outputs) if outputs.isdisjoint(relative.parents)),
    )


def find_files(folder: Path) -> list[Path]:
    """List all files below a folder except results of segpipe.

    Files are sorted by relative POSIX path; links are followed as in `find_images`.
    """
    relatives = [path.relative_to(folder) for path in _walk(folder)[0]]
    return [path for relative in _without_outputs(relatives) if (path := folder / relative).is_file()]


def _walk(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """List all entries below a folder, and its unreadable folders with reasons."""
    entries: list[Path] = []
    unlisted: dict[Path, str] = {}
    folders, links, visited = deque([folder]), deque[Path](), set[str]()
    while folders or links:
        # Links come last, so that a folder is listed under its own name rather than that of a link to it.
        current = folders.popleft() if folders else links.popleft()
        real = os.path.realpath(current)
        if real in visited:
            continue
        visited.add(real)
        try:
            children = sorted(current.iterdir())
        except OSError as error:
            unlisted[current] = f"a folder that cannot be listed ({error.strerror})"
            continue
        entries += children
        for child in filter(os.path.isdir, children):
            (links if child.is_symlink() else folders).append(child)
    return sorted(entries, key=Path.as_posix), unlisted


def _may_hold_images(relative_folder: Path) -> bool:
    return not any(part.startswith(".") or _MASK_FOLDER.search(part) for part in relative_folder.parts)


def select_images(relatives: Sequence[Path], read_heads: Callable[[Sequence[Path]], Sequence[bytes]]) -> SelectedImages:
    """Select the images among the files of a folder, see `find_images`.

    Args:
        relatives: Paths relative to the searched folder.
        read_heads: Function that returns the first `HEAD_SIZE` bytes of files, empty for unreadable ones; called once, with the
            files whose suffixes are not conclusive.
    """
    candidates = [path for path in _without_outputs(relatives) if _may_be_image(path) and not _is_mask_name(path)]
    unclear = [path for path in candidates if path.suffix.lower() not in IMAGE_SUFFIXES]
    formats = dict(zip(unclear, map(_format, unclear, read_heads(unclear)), strict=True))
    images = tuple(path for path in candidates if formats.get(path, "JPEG") in READ_FORMATS)
    unread = {path: unread_reason(name) for path, name in formats.items() if name is not None and name not in READ_FORMATS}
    return SelectedImages(images, unread)


def select_masks(relatives: Sequence[Path]) -> list[Path]:
    """Select the relative paths that are masks by name, see `find_images`."""
    named = [path for path in _without_outputs(relatives) if _may_be_image(path) and _is_mask_name(path)]
    return [path for path in named if path.suffix.lower() in IMAGE_SUFFIXES]


def image_of_mask(relative: PurePath) -> PurePath:
    """Derive the path of an image from that of its mask.

    Words that mark masks are removed from file name and folders.
    """
    folders = [part for part in relative.parts[:-1] if not _MASK_FOLDER.search(part)]
    stem = (_MASK_STEM if _is_mask_name(relative) else _LESION_STEM).sub("", relative.stem)
    return PurePath(*folders, f"{stem}{relative.suffix}")


def is_mask_picture(path: Path) -> bool:
    """Return True for a readable file whose content is a mask."""
    try:
        with open_image(path) as file:
            if not may_be_mask(file):
                return False
            return looks_like_mask(decode(file, max_pixels=DEFAULT_MAX_PIXELS, backdrop=None).picture)
    except (ImageError, OSError, ValueError):  # ValueError: pixels of a kind that Pillow cannot convert
        return False


def _may_be_image(relative: PurePath) -> bool:
    is_hidden = any(part.startswith(".") for part in relative.parts)
    return relative.suffix.lower() not in OTHER_SUFFIXES and not is_hidden and not _SUPERPIXELS.search(relative.stem)


def _is_mask_name(relative: PurePath) -> bool:
    return bool(_MASK_STEM.search(relative.stem) or any(map(_MASK_FOLDER.search, relative.parts[:-1])))


def _without_outputs(relatives: Sequence[Path]) -> list[Path]:
    """Drop the paths that are results of segpipe."""
    outputs, names = _output_folders(relatives), {path.as_posix() for path in relatives}
    # The searched folder itself may hold results and other content.
    outputs.discard(Path())
    outputs |= {Path(name) for sign, written in OUTPUT_NAMES.items() if sign in names for name in written}
    if not outputs:
        return list(relatives)
    return [path for path in relatives if path not in outputs and outputs.isdisjoint(path.parents)]


def _output_folders(relatives: Iterable[Path]) -> set[Path]:
    """Find the folders that segpipe wrote, by their files."""
    files: dict[Path, set[str]] = {}
    outputs: set[Path] = set()
    for path in relatives:
        files.setdefault(path.parent, set()).add(path.name)
        if path.parent.name == "bundle":
            files.setdefault(path.parent.parent, set()).add(f"bundle/{path.name}")
        if path.suffix == ".ckpt" and path.parent.name == "checkpoints":
            outputs.add(path.parent.parent)
    return outputs | {folder for folder, names in files.items() if any(sign <= names for sign in OUTPUT_SIGNS)}


def _format(path: Path, head: bytes) -> str | None:
    """Identify the image format of a file by content and suffix.

    Content takes precedence, except for raw photographs, which begin like a TIFF.
    """
    by_ending, by_content = UNREAD_SUFFIXES.get(path.suffix.lower()), format_of(head)
    return by_ending if by_content is None or (by_ending and by_content == "TIFF") else by_content


def _head(path: Path) -> bytes:
    """Read the first bytes of a regular file; empty if impossible."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_SIZE)
    except (OSError, ValueError):
        return b""
