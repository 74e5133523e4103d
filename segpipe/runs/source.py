"""Images of a run: their choice, jobs, and names of results.

No torch is imported, so that wrong calls fail early.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from segpipe.config.prediction import RunPipelineConfig
from segpipe.errors import ConfigError, ImageError
from segpipe.io.files import counted, display_path
from segpipe.io.folders import find_images, select_images
from segpipe.io.image_formats import HEAD_SIZE
from segpipe.io.storage import content_hash, is_url, list_files, read_heads

SHOWN = 3  # findings shown in the terminal, whatever the size of the folder


@dataclass(frozen=True)
class Source:
    """Images of a run.

    Attributes:
        files: Each file or its URL, with its path relative to the folder, under which its results are written.
        failures: Path and reason of files that are named like images but are none, or have an unsupported format.
        ignored: Number of other files.
        remarks: Lines on skipped images and folders, and on given masks.
        masks: File of the given mask by the path of its image; the other images are localized.
    """

    files: tuple[tuple[Path | str, Path], ...]
    failures: tuple[tuple[str, str], ...] = ()
    ignored: int = 0
    remarks: tuple[str, ...] = ()
    masks: Mapping[str, Path] = field(default_factory=dict)

    @property
    def by_path(self) -> dict[str, Path | str]:
        """Each file or its URL by the `path` of its results."""
        return {display_path(relative): file for file, relative in self.files}

    def hash_masks(self) -> str | None:
        """Compute the SHA-256 of all given masks; None without any."""
        lines = [f"{path} {content_hash(mask)}" for path, mask in sorted(self.masks.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None


@dataclass(frozen=True)
class ImageJob:
    """A file to process.

    Attributes:
        source: File, or its URL.
        path: Path relative to the folder, as shown; the key of its results.
        name: Name of its pictures, relative, with the ending .png.
        shown: True to keep its finding for the terminal.
        mask: File of its given mask; None to find it.
    """

    source: Path | str
    path: str
    name: Path
    shown: bool = False
    mask: Path | None = None


def make_jobs(source: Source) -> list[ImageJob]:
    """Make the jobs of a run in the order of their files."""
    names = result_names([relative for _, relative in source.files])
    return [
        ImageJob(file, path, names[relative], shown=number < SHOWN, mask=source.masks.get(path))
        for number, (file, relative) in enumerate(source.files)
        for path in (display_path(relative),)
    ]


def result_names(relatives: Sequence[Path]) -> dict[Path, Path]:
    """Choose the name of each image's pictures: its own, ending in .png.

    The ending of the image is dropped unless another image then has the same name. Names differ even where case is ignored.
    """
    names = Counter(str(name).casefold() for relative in relatives for name in (relative, relative.with_suffix("")))

    def is_shared(relative: Path) -> bool:
        return names[str(relative.with_suffix("")).casefold()] > 1

    return {
        relative: relative.with_name(f"{relative.name if is_shared(relative) else relative.stem}.png") for relative in relatives
    }


def choose_images(config: RunPipelineConfig) -> Source:
    """Choose the images of a configuration by `image` or by `folder`.

    Raises:
        ConfigError: Not exactly one of the two is given, or there is no image.
        ImageError: A file named by `image` does not exist.
    """
    if (config.image is None) == (config.folder is None):
        raise ConfigError("give exactly one of image=FILE and folder=DIR; --help shows examples")
    if config.folder is None:
        if not (config.split is None and config.part is None and config.shard is None):
            raise ConfigError("split, part and shard choose among the images of a folder; give folder=DIR in place of image")
        named = config.image if isinstance(config.image, list) else [config.image]
        return images_of_files([Path(str(name)) for name in named])
    if not is_url(config.folder) and not os.path.isdir(config.folder):
        raise ConfigError(
            f"folder must be an existing folder, got {display_path(Path(config.folder))}; image= takes a single file"
        )
    split = None if config.split is None else Path(config.split)
    source = images_of_folder(config.folder, split=split, part=config.part)
    return source if config.shard is None else select_shard(source, config.shard)


def images_of_files(paths: Sequence[Path]) -> Source:
    """Choose single files.

    Args:
        paths: Paths of the files; results are written under their names.

    Raises:
        ImageError: A file does not exist.
        ConfigError: There is no file, or two have the same name.
    """
    if not paths:
        raise ConfigError("image=[...] must hold at least one file, got an empty list; use folder=DIR for all images in a folder")
    for path in paths:
        if not os.path.exists(path):  # unlike Path.exists, it returns False for a name that is too long
            hint = "a * is not expanded, use folder=DIR for many images" if "*" in path.name else "check the path"
            raise ImageError(f"{display_path(path)}: no such file; {hint}")
        if path.is_dir():
            from segpipe.config.arguments import as_argument  # brings in Hydra

            advice = as_argument("folder", Path(display_path(path)))
            raise ImageError(f"{display_path(path)}: is a folder; use {advice} for all images in it")
    repeated = [name for name, count in Counter(path.name for path in paths).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"image=[...] must hold files of different names, got {display_path(Path(repeated[0]))} twice; use folder=DIR"
        )
    return Source(tuple((path, Path(path.name)) for path in paths))


def images_of_folder(folder: Path | str, *, split: Path | None = None, part: str | None = None) -> Source:
    """Choose all images below a folder, or those that a split lists.

    Args:
        folder: Folder, or its URL in an object store; subfolders are searched, masks of a data set are skipped.
        split: Table with the columns image_id, lesion_id, part; keeps the images that it lists, see `segpipe.data.identity`.
        part: Part of the split to keep; None for all.

    Raises:
        ConfigError: `part` is given without `split`, or no image is left.
        DatasetError: The split cannot be used.
    """
    if part is not None and split is None:
        raise ConfigError(f"part={part} needs split=CSV, which lists the images of each part")
    source = _list_url(folder) if isinstance(folder, str) and is_url(folder) else _list_folder(Path(folder))
    source = source if split is None else _select_part(source, split, part)
    if not source.files and not source.failures:
        shown = folder if isinstance(folder, str) else display_path(folder)
        raise ConfigError(
            f"no image to process in folder={shown} ({counted(source.ignored, 'other file')}); check folder, split and part"
            + "".join(f"; {remark}" for remark in source.remarks)
        )
    return source


def _select_part(source: Source, split: Path, part: str | None) -> Source:
    """Keep the images of a split, or of one part."""
    from segpipe.data.identity import KnownImages
    from segpipe.data.splits import read_split  # brings in pandas

    listed = read_split(split)
    parts = KnownImages(source.by_path).assign(dict(zip(listed["image_id"], listed["part"], strict=True)), what="the split")
    unlisted = [path for path in source.by_path if path not in parts]
    remark = f"images not in the split: {len(unlisted)} of {len(source.files)}, such as {unlisted[0]}" if unlisted else None
    kept = {path for path, own in parts.items() if part in (None, own)}
    files = tuple((file, relative) for file, relative in source.files if display_path(relative) in kept)
    return replace(source, files=files, remarks=(*source.remarks, *([remark] if remark else [])))


def _list_folder(folder: Path) -> Source:
    found = find_images(folder)
    failures = tuple((display_path(path.relative_to(folder)), reason) for path, reason in found.unreadable)
    skipped = {
        "skipped folders with results of segpipe": found.outputs,
        "skipped pictures that are masks by their content": found.mask_pictures,
        "skipped pictures that are masks by their names": () if found.images else found.masks,
    }
    remarks = tuple(
        f"{what}: {len(paths)}, such as {display_path(paths[0].relative_to(folder))}" for what, paths in skipped.items() if paths
    )
    files = tuple((path, path.relative_to(folder)) for path in found.images)
    return Source(files, failures, found.ignored, remarks)


def _list_url(url: str) -> Source:
    names = list_files(url)
    # An object may have any name; results are written only below the output folder.
    plain = {Path(name): name for name in names if ".." not in name.split("/") and not name.startswith("/")}
    selected = select_images(list(plain), lambda paths: read_heads(url, [plain[path] for path in paths], HEAD_SIZE))
    files = tuple((f"{url.rstrip('/')}/{plain[relative]}", relative) for relative in selected.images)
    failures = tuple((display_path(path), reason) for path, reason in selected.unread.items())
    return Source(files, failures, ignored=len(names) - len(files) - len(failures))


def select_shard(source: Source, shard: str) -> Source:
    """Keep one part of the images, for parallel runs on independent machines.

    Args:
        source: All images.
        shard: `k/n`, the k-th of n parts, counted from 0; a path belongs to part `SHA-256(path) mod n`, the same in each run.

    Raises:
        ConfigError: `shard` is not of this form, or its part is empty.
    """
    match = re.fullmatch(r"(\d+)/([1-9]\d*)", shard)
    if match is None or int(match[1]) >= int(match[2]):
        raise ConfigError(f"shard must be k/n with k from 0 to n-1, for instance 0/8, got {shard!r}")
    number, parts = int(match[1]), int(match[2])

    def in_shard(path: str) -> bool:
        return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") % parts == number

    files = tuple((file, relative) for file, relative in source.files if in_shard(display_path(relative)))
    failures = tuple((path, reason) for path, reason in source.failures if in_shard(path))
    if not files and not failures:
        raise ConfigError(f"shard={shard} holds no image of {len(source.files)}; take fewer parts")
    return replace(source, files=files, failures=failures)
