"""Which images a run works on, and under which names it writes; known before anything heavy is imported."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from segpipe.config.arguments import as_argument
from segpipe.errors import ConfigError, ImageError
from segpipe.io.folders import find_images, select_images
from segpipe.io.image_formats import HEAD_SIZE
from segpipe.io.images import display_path
from segpipe.io.numerals import counted
from segpipe.io.storage import is_url, list_files, read_heads


@dataclass(frozen=True)
class Source:
    """The images of a run.

    Attributes:
        files: each, or its URL, with its path relative to the folder, under which its results are written.
        failures: what is named like an image and is none, and images of formats that are not read, with the reason.
        ignored: number of other files.
        remarks: lines that say which images and folders were passed over.
    """

    files: tuple[tuple[Path | str, Path], ...]
    failures: tuple[tuple[str, str], ...] = ()
    ignored: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def by_path(self) -> dict[str, Path | str]:
        """Each file or its URL by the `path` of its results."""
        return {display_path(relative): file for file, relative in self.files}


def choose_images(config: DictConfig) -> Source:
    """The images that a call names by `image` or by `folder`.

    Raises:
        ConfigError: not exactly one of the two is given, or there is no image.
        ImageError: a file named by `image` is not there.
    """
    if (config.image is None) == (config.folder is None):
        raise ConfigError("give exactly one of image=FILE and folder=DIR; --help shows examples")
    if config.folder is None:
        if not (config.split is None and config.part is None and config.shard is None):
            raise ConfigError("split, part and shard choose among the images of a folder; give folder=DIR in place of image")
        named = config.image if isinstance(config.image, ListConfig) else [config.image]
        return images_of_files([Path(str(name)) for name in named])
    if not is_url(config.folder) and not os.path.isdir(config.folder):
        raise ConfigError(
            f"folder must be an existing folder, got {display_path(Path(config.folder))}; image= takes a single file"
        )
    split = None if config.split is None else Path(config.split)
    source = images_of_folder(config.folder, split=split, part=config.part)
    return source if config.shard is None else shard_of(source, config.shard)


def images_of_files(paths: Sequence[Path]) -> Source:
    """The images that were named one by one.

    Args:
        paths: of files; their names are what the results are written under.

    Raises:
        ImageError: a file is not there.
        ConfigError: there is no file, or two have the same name.
    """
    if not paths:
        raise ConfigError("image=[...] must hold at least one file, got an empty list; use folder=DIR for all images in a folder")
    for path in paths:
        if not os.path.exists(path):  # unlike Path.exists, it takes a name that is too long for one that is not there
            hint = "a * is not expanded, use folder=DIR for many images" if "*" in path.name else "check the path"
            raise ImageError(f"{display_path(path)}: no such file; {hint}")
        if path.is_dir():
            advice = as_argument("folder", Path(display_path(path)))
            raise ImageError(f"{display_path(path)}: is a folder; use {advice} for all images in it")
    doubled = [name for name, count in Counter(path.name for path in paths).items() if count > 1]
    if doubled:
        raise ConfigError(
            f"image=[...] must hold files of different names, got {display_path(Path(doubled[0]))} twice; use folder=DIR"
        )
    return Source(tuple((path, Path(path.name)) for path in paths))


def images_of_folder(folder: Path | str, *, split: Path | None = None, part: str | None = None) -> Source:
    """All images below a folder, or those that a split lists.

    Args:
        folder: or its URL in an object store; searched with its subfolders; a data set's masks are not among its images.
        split: a table with the columns image_id, lesion_id, part; keeps the images that it names, see `segpipe.data.identity`.
        part: keeps those of one part of the split.

    Raises:
        ConfigError: `part` without `split`, or no image is left.
        DatasetError: the split cannot be used.
    """
    if part is not None and split is None:
        raise ConfigError(f"part={part} needs split=CSV, which says which images belong to it")
    everything = _list_url(folder) if isinstance(folder, str) and is_url(folder) else _list_folder(Path(folder))
    everything = everything if split is None else _choose_part(everything, split, part)
    if not everything.files and not everything.failures:
        named = folder if isinstance(folder, str) else display_path(folder)
        raise ConfigError(
            f"no image to work on in folder={named} ({counted(everything.ignored, 'other file')}); check folder, split and part"
            + "".join(f"; {remark}" for remark in everything.remarks)
        )
    return everything


def _choose_part(source: Source, split: Path, part: str | None) -> Source:
    """The images that a split names, or those of one part of it."""
    from segpipe.data.identity import KnownImages
    from segpipe.data.splits import read_split  # brings in pandas

    listed = read_split(split)
    parts = KnownImages(source.by_path).assign(dict(zip(listed["image_id"], listed["part"], strict=True)), what="the split")
    unnamed = [path for path in source.by_path if path not in parts]
    remark = f"the split leaves out {len(unnamed)} of {len(source.files)} images, {unnamed[0]} for one" if unnamed else None
    kept = {path for path, own in parts.items() if part in (None, own)}
    files = tuple((file, relative) for file, relative in source.files if display_path(relative) in kept)
    return replace(source, files=files, remarks=(*source.remarks, *([remark] if remark else [])))


def _list_folder(folder: Path) -> Source:
    found = find_images(folder)
    failures = tuple((display_path(path.relative_to(folder)), reason) for path, reason in found.unreadable)
    passed_over = {
        "folders of results of segpipe passed over": found.outputs,
        "pictures passed over, which are masks by their content": found.mask_pictures,
        "pictures passed over, which are masks by their names": () if found.images else found.masks,
    }
    remarks = tuple(
        f"{what}: {len(paths)}, {display_path(paths[0].relative_to(folder))} for one"
        for what, paths in passed_over.items()
        if paths
    )
    files = tuple((path, path.relative_to(folder)) for path in found.images)
    return Source(files, failures, found.ignored, remarks)


def _list_url(url: str) -> Source:
    names = list_files(url)
    # An object may have any name; results are written below the output folder alone.
    plain = {Path(name): name for name in names if ".." not in name.split("/") and not name.startswith("/")}
    selected = select_images(list(plain), lambda paths: read_heads(url, [plain[path] for path in paths], HEAD_SIZE))
    files = tuple((f"{url.rstrip('/')}/{plain[relative]}", relative) for relative in selected.images)
    failures = tuple((display_path(path), reason) for path, reason in selected.unread.items())
    return Source(files, failures, ignored=len(names) - len(files) - len(failures))


def shard_of(source: Source, shard: str) -> Source:
    """One part of the images, the same in each run: for runs side by side on machines that know nothing of each other.

    Args:
        source: all images.
        shard: `k/n`, the k-th of n parts, counted from 0; a path belongs to part `SHA-256(path) mod n`.

    Raises:
        ConfigError: `shard` is not of this form, or its part is empty.
    """
    match = re.fullmatch(r"(\d+)/([1-9]\d*)", shard)
    if match is None or int(match[1]) >= int(match[2]):
        raise ConfigError(f"shard must be k/n with k from 0 to n-1, for instance 0/8, got {shard!r}")
    number, parts = int(match[1]), int(match[2])

    def is_here(path: str) -> bool:
        return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") % parts == number

    files = tuple((file, relative) for file, relative in source.files if is_here(display_path(relative)))
    failures = tuple((path, reason) for path, reason in source.failures if is_here(path))
    if not files and not failures:
        raise ConfigError(f"shard={shard} holds no image of {len(source.files)}; take fewer parts")
    return replace(source, files=files, failures=failures)


def result_names(relatives: Sequence[Path]) -> dict[Path, Path]:
    """Under which name the results of each image are written: without its ending, unless that is the name of another, too.

    No two names are equal, not even where upper and lower case do not count.
    """
    names = Counter(str(name).casefold() for relative in relatives for name in (relative, relative.with_suffix("")))

    def is_shared(relative: Path) -> bool:
        return names[str(relative.with_suffix("")).casefold()] > 1

    return {
        relative: relative.with_name(f"{relative.name if is_shared(relative) else relative.stem}.png") for relative in relatives
    }
