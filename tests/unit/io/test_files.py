"""Atomic writing of files."""

import os
from pathlib import Path

import pytest

from segpipe.errors import OutputError
from segpipe.io.files import write_file


@pytest.mark.parametrize("step", ["write", "replace"])
def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "picture.png"
    write_file(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(*((os, "replace", fail) if step == "replace" else (Path, "write_bytes", fail)))
        with pytest.raises(OutputError, match=r"picture\.png: cannot be written \(No space left on device\)"):
            write_file(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_new_file_replaces_the_old_one_with_default_permissions(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".png")
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_file_in_place_of_the_parent_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"picture\.png: cannot be written"):
        write_file(tmp_path / "file" / "picture.png", b"new")
