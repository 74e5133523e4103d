"""Arguments of the form TITLE=FOLDER, by which commands name the runs and models that they set side by side."""

import re
from collections.abc import Sequence
from pathlib import Path

from segpipe.errors import ConfigError


def read_titles(arguments: Sequence[str]) -> dict[str, Path]:
    """The folders by their titles, in the order of the arguments.

    Raises:
        ConfigError: an argument has no title or no folder, or two titles would share a file name.
    """
    folders: dict[str, Path] = {}
    named: dict[str, str] = {}
    for argument in arguments:
        title, _, folder = (part.strip() for part in argument.partition("="))
        if not file_name(title) or not folder:
            raise ConfigError(f"each must be given as TITLE=FOLDER, the title with a letter or digit, got {argument!r}")
        if file_name(title) in named:
            both = f"{named[file_name(title)]!r} and {title!r}, both {file_name(title)!r}"
            raise ConfigError(f"titles must give file names of their own, got {both}; change one")
        named[file_name(title)] = title
        folders[title] = Path(folder)
    return folders


def file_name(title: str) -> str:
    """A title as the name of a file or folder; empty where nothing of it can stand in one."""
    return re.sub(r"[^\w.+-]+", "_", title.casefold()).strip("._") if re.search(r"\w", title) else ""
