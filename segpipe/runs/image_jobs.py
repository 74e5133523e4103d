"""Images of a run: source, jobs and names of results."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.io.files import display_path

SHOWN = 3  # findings shown in the terminal, whatever the size of the folder


@dataclass(frozen=True)
class Source:
    """Images of a run.

    Attributes:
        files: Each file or its URL, with its path relative to the folder, under which its results are written.
        failures: Path and reason of files that are named like images but are none, or have an unsupported format.
        ignored: Number of other files.
        remarks: Lines on skipped images and folders.
    """

    files: tuple[tuple[Path | str, Path], ...]
    failures: tuple[tuple[str, str], ...] = ()
    ignored: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def by_path(self) -> dict[str, Path | str]:
        """Each file or its URL by the `path` of its results."""
        return {display_path(relative): file for file, relative in self.files}


@dataclass(frozen=True)
class ImageJob:
    """A file to process.

    Attributes:
        source: File, or its URL.
        path: Path relative to the folder, as shown; the key of its results.
        name: Name of its pictures, relative, with the ending .png.
        shown: True to keep its finding for the terminal.
    """

    source: Path | str
    path: str
    name: Path
    shown: bool = False


def make_jobs(source: Source) -> list[ImageJob]:
    """Make the jobs of a run in the order of their files."""
    names = result_names([relative for _, relative in source.files])
    return [
        ImageJob(path, display_path(relative), names[relative], shown=number < SHOWN)
        for number, (path, relative) in enumerate(source.files)
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
