"""Typed configuration, and the folders that ship beside the code.

In the repository these are the top-level folders `conf/` and `data/samples/`; an installed segpipe holds them as `segpipe.conf`
and `segpipe.samples`.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def _shipped(name: str, in_repository: str) -> Path:
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / in_repository


CONF = _shipped("conf", "conf")
"""Folder of the yaml files that Hydra composes, the `config_path` of every command."""

SAMPLES = _shipped("samples", "data/samples")
"""Folder with one generated image of each diagnosis, their masks and labels."""
