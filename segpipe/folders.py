"""What lies below a folder: everything, or just the images of a data set."""

import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.errors import ImageError
from segpipe.image_formats import HEAD_SIZE, OTHER_SUFFIXES, READ_FORMATS, UNREAD_SUFFIXES, format_of, unread_reason
from segpipe.image_io import IMAGE_SUFFIXES, display_path, why_no_file

_MASK_STEM = re.compile(r"_(segmentation|superpixels)$", re.IGNORECASE)
_MASK_FOLDER = re.compile(r"^masks?$|segmentations|groundtruth", re.IGNORECASE)
# Of a run of segpipe, see `segpipe.inference.journal` and `segpipe.inference.pictures`.
_JOURNAL = "results.jsonl"
_RESULT_FOLDERS = ("figures", "crops", "heatmaps", "plots", "report")


@dataclass(frozen=True)
class FoundImages:
    """What lies in a folder.

    Attributes:
        images: image files, sorted by their POSIX path relative to the folder.
        unreadable: images of formats that are not read; folders, broken links and the like that are named as images; and folders
            that cannot be listed; each with the reason, sorted likewise.
        ignored: number of other files: other types, hidden ones, and the masks of a data set.
    """

    images: tuple[Path, ...]
    unreadable: tuple[tuple[Path, str], ...]
    ignored: int


@dataclass(frozen=True)
class SelectedImages:
    """Images among the files of a folder.

    Attributes:
        images: paths relative to the folder, in the order that was given.
        unread: those of images whose format is not read, each with the reason.
    """

    images: tuple[Path, ...]
    unread: dict[Path, str]


def find_images(folder: Path) -> FoundImages:
    """Find the images in a folder and below it.

    Endings tell images from other files. Where an ending is missing or says neither, the first bytes of the file decide.

    Links to folders are followed, each real folder is visited once. Masks of a data set are no images: files named
    `*_segmentation` or `*_superpixels`, and all files in folders named `mask`, `masks`, `*segmentations*` or `*GroundTruth*`
    (upper or lower case). The names of `folder` itself and of what lies above it do not count. Neither are the pictures beside
    the `results.jsonl` of a run, whose output may lie in its own folder.

    Raises:
        ImageError: `folder` is missing, no folder, or cannot be listed.
    """
    if not os.path.isdir(folder):
        raise ImageError(f"{display_path(folder)}: {'a file, not a folder' if os.path.exists(folder) else 'no such folder'}")
    entries, unlisted = _walk(folder)
    if folder in unlisted:
        raise ImageError(f"{display_path(folder)}: {unlisted[folder]}")
    unreadable = {path: reason for path, reason in unlisted.items() if _may_hold_images(path.relative_to(folder))}
    selected = select_images(
        [path.relative_to(folder) for path in entries], lambda paths: [_head(folder / path) for path in paths]
    )
    unread = {folder / path: reason for path, reason in selected.unread.items() if not os.path.isdir(folder / path)}
    candidates = [*(folder / relative for relative in selected.images), *unread]
    for path in candidates:
        reason = None if os.path.isfile(path) else why_no_file(path)
        if reason:
            unreadable.setdefault(path, reason)
    unreadable = unread | unreadable
    images = tuple(path for path in candidates if path not in unreadable)
    ignored = sum(not os.path.isdir(path) for path in set(entries).difference(candidates))
    by_path = sorted(unreadable.items(), key=lambda item: item[0].as_posix())
    return FoundImages(images, tuple(by_path), ignored)


def find_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted by relative POSIX path; of links to folders, see `find_images`."""
    return [path for path in _walk(folder)[0] if path.is_file()]


def _walk(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """All entries below a folder, sorted by relative POSIX path, and the folders that cannot be listed with the reason."""
    entries: list[Path] = []
    unlisted: dict[Path, str] = {}
    folders, links, visited = deque([folder]), deque[Path](), set[str]()
    while folders or links:
        # Links come last, so that a folder is known by its own name rather than by that of a link to it.
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
    """Find the images among the files of a folder, see `find_images`.

    Args:
        relatives: paths relative to the folder that is searched.
        read_heads: gives the first `HEAD_SIZE` bytes of files, empty for what cannot be read; called once, with the files whose
            endings do not say what they are.
    """
    results = {path.parent / name for path in relatives if path.name == _JOURNAL for name in _RESULT_FOLDERS}
    candidates = [path for path in relatives if _may_be_image(path) and results.isdisjoint(path.parents)]
    unclear = [path for path in candidates if path.suffix.lower() not in IMAGE_SUFFIXES]
    formats = dict(zip(unclear, map(_format, unclear, read_heads(unclear)), strict=True))
    images = tuple(path for path in candidates if formats.get(path, "JPEG") in READ_FORMATS)
    unread = {path: unread_reason(name) for path, name in formats.items() if name is not None and name not in READ_FORMATS}
    return SelectedImages(images, unread)


def _may_be_image(relative: Path) -> bool:
    is_hidden_or_mask = relative.name.startswith(".") or _MASK_STEM.search(relative.stem)
    return relative.suffix.lower() not in OTHER_SUFFIXES and not is_hidden_or_mask and _may_hold_images(relative.parent)


def _format(path: Path, head: bytes) -> str | None:
    """The image format of a file; where ending and content disagree, the content is right, but raw photographs begin as TIFF."""
    by_ending, by_content = UNREAD_SUFFIXES.get(path.suffix.lower()), format_of(head)
    return by_ending if by_content is None or (by_ending and by_content == "TIFF") else by_content


def _head(path: Path) -> bytes:
    """The first bytes of a file; nothing where there is no regular file that can be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_SIZE)
    except (OSError, ValueError):
        return b""
