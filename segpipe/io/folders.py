"""What lies below a folder: everything, or just the images of a data set."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath

from segpipe.errors import ImageError
from segpipe.io.image_formats import HEAD_SIZE, OTHER_SUFFIXES, READ_FORMATS, UNREAD_SUFFIXES, format_of, unread_reason
from segpipe.io.images import IMAGE_SUFFIXES, display_path, is_mask_picture, why_no_file

_MASK_WORD = r"(masks?|gts?|segs?|segmentations?|ground[ _-]?truths?|annotations?)"
_MASK_STEM = re.compile(rf"[ ._-]{_MASK_WORD}$|^{_MASK_WORD}[ ._-]", re.IGNORECASE)
_SUPERPIXELS = re.compile(r"_superpixels$", re.IGNORECASE)  # of ISIC, which are neither photographs nor masks of lesions
_MASK_FOLDER = re.compile(
    rf"^{_MASK_WORD}$|^(masks?|gts?)[ ._-]|[ ._-](masks?|gts?)$|segmentations|segmentationclass|ground[ _-]?truth", re.IGNORECASE
)
# Of masks that only their content shows as such.
_LESION_STEM = re.compile(r"[ ._-](lesion|label)$", re.IGNORECASE)
# Files that show, all of them together, what their folder is: a run, a training or sweep, a bundle, a comparison.
_SIGNS = (
    {"results.jsonl"},
    {"job.json"},
    {"config.yaml", "split.csv"},
    {"bundle/card.json", "bundle/model.safetensors"},
    {"card.json", "model.safetensors"},
    {"metrics.json", "predictions.png"},
    {"comparison.csv", "comparison.md"},
    {"leaderboard.csv", "failed.csv"},
)
# What segpipe writes into a folder that holds other things as well.
_RUN_FOLDERS = ("masks", "figures", "crops", "heatmaps", "plots", "report")
_OUTPUT_NAMES = {
    "results.jsonl": _RUN_FOLDERS,
    "config.yaml": ("found_masks", "checkpoints", "bundle", "out_of_fold", "tensorboard", "mlflow", "wandb"),
    "comparison.csv": ("runs", "roc.png", "metrics.png", "cost.png"),
    "leaderboard.csv": ("leaderboard.png",),
}


@dataclass(frozen=True)
class FoundImages:
    """What lies in a folder.

    Attributes:
        images: image files, sorted by their POSIX path relative to the folder.
        unreadable: images of formats that are not read; folders, broken links and the like that are named as images; and folders
            that cannot be listed; each with the reason, sorted likewise.
        ignored: number of other files: other types, hidden ones, and the masks of a data set.
        masks: those among them that are masks by their name or folder.
        mask_pictures: those that are masks by their content alone, see `segpipe.io.mask_decoding.looks_like_mask`.
        outputs: folders in which only results of segpipe lie.
    """

    images: tuple[Path, ...]
    unreadable: tuple[tuple[Path, str], ...]
    ignored: int
    masks: tuple[Path, ...] = ()
    mask_pictures: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()


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

    Links to folders are followed, each real folder is visited once. Masks of a data set are no images: files named as
    `*_segmentation`, `*_mask` or `*_gt`, all files in folders named as `masks`, `GT`, `ground_truth`, `annotations` or
    `*segmentations*` (upper or lower case), and what is a mask by its content. The names of `folder` itself and of what lies
    above it do not count. Neither are results of segpipe: folders with `results.jsonl`, `job.json`, a checkpoint or a bundle.

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
    """All files below a folder but results of segpipe, sorted by relative POSIX path; of links to folders, see `find_images`."""
    relatives = [path.relative_to(folder) for path in _walk(folder)[0]]
    return [path for relative in _without_outputs(relatives) if (path := folder / relative).is_file()]


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
    candidates = [path for path in _without_outputs(relatives) if _may_be_image(path) and not _is_mask_name(path)]
    unclear = [path for path in candidates if path.suffix.lower() not in IMAGE_SUFFIXES]
    formats = dict(zip(unclear, map(_format, unclear, read_heads(unclear)), strict=True))
    images = tuple(path for path in candidates if formats.get(path, "JPEG") in READ_FORMATS)
    unread = {path: unread_reason(name) for path, name in formats.items() if name is not None and name not in READ_FORMATS}
    return SelectedImages(images, unread)


def select_masks(relatives: Sequence[Path]) -> list[Path]:
    """Those paths, relative to the folder that is searched, that are masks by their names, see `find_images`."""
    named = [path for path in _without_outputs(relatives) if _may_be_image(path) and _is_mask_name(path)]
    return [path for path in named if path.suffix.lower() in IMAGE_SUFFIXES]


def image_of_mask(relative: PurePath) -> PurePath:
    """The path that an image has by the name of its mask: without what makes it a mask, in name and folders."""
    folders = [part for part in relative.parts[:-1] if not _MASK_FOLDER.search(part)]
    stem = (_MASK_STEM if _is_mask_name(relative) else _LESION_STEM).sub("", relative.stem)
    return PurePath(*folders, f"{stem}{relative.suffix}")


def _may_be_image(relative: PurePath) -> bool:
    is_hidden = any(part.startswith(".") for part in relative.parts)
    return relative.suffix.lower() not in OTHER_SUFFIXES and not is_hidden and not _SUPERPIXELS.search(relative.stem)


def _is_mask_name(relative: PurePath) -> bool:
    return bool(_MASK_STEM.search(relative.stem) or any(map(_MASK_FOLDER.search, relative.parts[:-1])))


def _without_outputs(relatives: Sequence[Path]) -> list[Path]:
    """The paths that are no results of segpipe."""
    outputs, names = _output_folders(relatives), {path.as_posix() for path in relatives}
    # The folder that is searched may hold results beside other things.
    outputs.discard(Path())
    outputs |= {Path(name) for sign, written in _OUTPUT_NAMES.items() if sign in names for name in written}
    if not outputs:
        return list(relatives)
    return [path for path in relatives if path not in outputs and outputs.isdisjoint(path.parents)]


def _output_folders(relatives: Iterable[Path]) -> set[Path]:
    """The folders that show by their files that segpipe wrote them."""
    files: dict[Path, set[str]] = {}
    outputs: set[Path] = set()
    for path in relatives:
        files.setdefault(path.parent, set()).add(path.name)
        if path.parent.name == "bundle":
            files.setdefault(path.parent.parent, set()).add(f"bundle/{path.name}")
        if path.suffix == ".ckpt" and path.parent.name == "checkpoints":
            outputs.add(path.parent.parent)
    return outputs | {folder for folder, names in files.items() if any(sign <= names for sign in _SIGNS)}


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
