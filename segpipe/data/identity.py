"""Identification of images by their names in tables, splits and masks."""

import operator
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

from segpipe.errors import DatasetError
from segpipe.io.image_formats import IMAGE_SUFFIXES

Value = TypeVar("Value")
_PATH, _END_OF_PATH, _WITHIN_PATH, _BY_FILE_NAME = 4, 3, 2, 1  # grades of a match between name and image, the best first


@dataclass(frozen=True)
class ImageName:
    """Parts of an image name, in NFC.

    Attributes:
        folders: Folders from the outermost to the innermost.
        stem: File name without an image suffix.
        ending: Image suffix in lowercase; empty for none.
    """

    folders: tuple[str, ...]
    stem: str
    ending: str

    @property
    def without_ending(self) -> str:
        """POSIX path without an image suffix."""
        return "/".join([*self.folders, self.stem])


def parse_name(text: str | PurePath) -> ImageName:
    """Split a name into folders, stem and suffix.

    Slashes and backslashes separate; surrounding spaces and a leading `./` are dropped.
    """
    plain = unicodedata.normalize("NFC", str(text)).strip().replace("\\", "/")
    *folders, name = [part for part in plain.split("/") if part not in ("", ".", "..")] or [""]
    stem, dot, ending = name.rpartition(".")
    if stem and f".{ending.lower()}" in IMAGE_SUFFIXES:
        return ImageName(tuple(folders), stem, f"{dot}{ending.lower()}")
    return ImageName(tuple(folders), name, "")


def image_ids(relatives: Sequence[PurePath]) -> list[str]:
    """Choose the shortest unique id of each image of a data set.

    An id is the file name or path of the image, without or with its suffix.

    Args:
        relatives: Paths below one folder.
    """
    names = [parse_name(relative) for relative in relatives]
    stems, paths = Counter(name.stem for name in names), Counter(name.without_ending for name in names)

    def shortest(name: ImageName) -> str:
        if parse_name(name.stem).ending:  # `a.jpg` may also mean `a.jpg.png` without its suffix
            return name.without_ending + name.ending
        if stems[name.stem] == 1:
            return name.stem
        return name.without_ending + (name.ending if paths[name.without_ending] > 1 else "")

    return [shortest(name) for name in names]


class KnownImages:
    """Images that names can refer to.

    Args:
        files: Full path or URL of each image, or None if unknown, by its key: its id or its path below a folder.
    """

    def __init__(self, files: Mapping[str, Path | str | None]) -> None:
        self._files = files
        self._names = {key: parse_name(key) for key in files}
        self._folders = {key: self._names[key].folders if file is None else _folders_of(file) for key, file in files.items()}
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_path: dict[str, list[str]] = defaultdict(list)
        for key, name in self._names.items():
            self._by_stem[name.stem].append(key)
            self._by_path[name.without_ending].append(key)
        self._endings = {key: (self._names[key] if file is None else parse_name(str(file))).ending for key, file in files.items()}
        self._fits: dict[str, dict[str, int]] = {}  # cache of `_find_fits`
        folders = [frozenset(names) for names in self._folders.values()] or [frozenset()]
        # Folders shared by all images, such as those above the data set, do not distinguish images.
        self._distinctive = frozenset().union(*folders) - frozenset.intersection(*folders)

    def find(self, names: Iterable[str], *, what: str) -> dict[str, tuple[str, ...]]:
        """Find the image that each name refers to.

        A name refers to the image of this path below the folder, else to the one whose path it ends or runs through, with or
        without the image suffix; a file name alone must be unique. Folders without images are ignored if only one image has
        the file name and no other name fits it better.

        Args:
            names: Names as in a table.
            what: Origin of the names in messages.

        Returns:
            Key of the image by name; several keys are copies of the same content. Unknown names are missing.

        Raises:
            DatasetError: A name may refer to two images of different content.
        """
        fits = {name: self._fits_of(name) for name in dict.fromkeys(names)}
        best: dict[str, int] = defaultdict(int)
        for fit in fits.values():
            for key, grade in fit.items():
                best[key] = max(best[key], grade)
        chosen = {
            name: [key for key, grade in fit.items() if grade > _BY_FILE_NAME or best[key] == grade] for name, fit in fits.items()
        }
        for name, keys in chosen.items():
            if len(keys) > 1 and not self._are_copies(keys):
                raise DatasetError(
                    f"{what} must say which image is meant, got {name!r}, which may be {keys[0]} or {keys[1]}; name images by "
                    "their path below the folder"
                )
        return {name: tuple(keys) for name, keys in chosen.items() if keys}

    def assign(
        self, values: Mapping[str, Value], *, what: str, same: Callable[[Value, Value], bool] = operator.eq
    ) -> dict[str, Value]:
        """Assign the value of each name to its image.

        Args:
            values: Values by name.
            what: Origin of the names in messages.
            same: Function that compares two values of one image.

        Raises:
            DatasetError: A name is ambiguous, or two names give one image different values.
        """
        assigned: dict[str, Value] = {}
        for name, keys in self.find(values, what=what).items():
            for key in keys:
                if not same(assigned.setdefault(key, values[name]), values[name]):
                    raise DatasetError(f"{what} must agree, got {assigned[key]} and {values[name]} for {key}; keep one of them")
        return assigned

    def _fits_of(self, text: str) -> dict[str, int]:
        if text not in self._fits:
            self._fits[text] = self._find_fits(parse_name(text))
        return self._fits[text]

    def _find_fits(self, name: ImageName) -> dict[str, int]:
        """Find the best-matching images of a name, with grades."""
        exact = self._by_path.get(name.without_ending)
        fits = {key: _PATH if exact else self._fit(name, key) for key in exact or self._by_stem.get(name.stem, [])}
        best = max(fits.values(), default=0)
        keys = [key for key, fit in fits.items() if fit == best > 0]
        same_ending = [key for key in keys if name.ending in ("", self._endings[key])]
        if best == _BY_FILE_NAME and len(keys) > 1:  # in an unknown folder, so it is none of these
            return {}
        # An image with another suffix was converted meanwhile; one with the same suffix would fit better.
        return dict.fromkeys(same_ending, best) or dict.fromkeys(keys, _BY_FILE_NAME)

    def _fit(self, name: ImageName, key: str) -> int:
        folders = self._folders[key]
        if folders[len(folders) - len(name.folders) :] == name.folders:
            return _END_OF_PATH
        if _runs_through(name.folders, folders):
            return _WITHIN_PATH
        return _BY_FILE_NAME if _runs_through([folder for folder in name.folders if folder in self._distinctive], folders) else 0

    def _are_copies(self, keys: Sequence[str]) -> bool:
        files = [file for key in keys if isinstance(file := self._files[key], Path)]
        return len(files) == len(keys) and same_content(*files)


def _folders_of(file: Path | str) -> tuple[str, ...]:
    return parse_name(Path(file).absolute() if isinstance(file, Path) else file).folders


def _runs_through(folders: Sequence[str], path: Sequence[str]) -> bool:
    rest = iter(path)
    return all(folder in rest for folder in folders)


def same_content(*files: Path) -> bool:
    """Compare the bytes of files; an unreadable file equals no other."""
    try:
        return len({file.stat().st_size for file in files}) == 1 and len({file.read_bytes() for file in files}) == 1
    except OSError:
        return False
