"""Titles of the runs and models that are set side by side, and the folders that they name."""

import re
from collections.abc import Sequence
from pathlib import Path

from segpipe.errors import ConfigError

# Folders in which a training keeps its model and its test, which say nothing of the training.
_PARTS_OF_A_TRAINING = ("bundle", "test")


def name_folders(folders: Sequence[str], titles: Sequence[str] | None = None) -> dict[str, Path]:
    """Give each folder a title, in their order.

    Args:
        folders: Folders of runs or bundles.
        titles: Title of each; None takes the names of the folders, for `bundle` and `test` those of the training around them.

    Raises:
        ConfigError: There are more or fewer titles than folders, a title has no letter or digit, or two share a file name.
    """
    if titles is None:
        titles = [_own_title(Path(folder)) for folder in folders]
    if len(titles) != len(folders):
        raise ConfigError(f"titles must be as many as there are folders, {len(folders)}, got {len(titles)}; null takes theirs")
    named: dict[str, str] = {}
    for title, folder in zip(titles, folders, strict=True):
        name = file_name(title)
        if not name:
            raise ConfigError(f"each of titles must hold a letter or digit, got {title!r} for {folder}; change it")
        if name in named:
            both = f"{named[name]!r} and {title!r}, both {name!r}"
            raise ConfigError(f"titles must give file names of their own, got {both}; name them with titles=[A,B]")
        named[name] = title
    return {title: Path(folder) for title, folder in zip(named.values(), folders, strict=True)}


def file_name(title: str) -> str:
    """A title as the name of a file or folder; empty where nothing of it can stand in one."""
    return re.sub(r"[^\w.+-]+", "_", title.casefold()).strip("._") if re.search(r"\w", title) else ""


def _own_title(folder: Path) -> str:
    folder = folder.absolute()
    return folder.parent.name if folder.name in _PARTS_OF_A_TRAINING else folder.name
