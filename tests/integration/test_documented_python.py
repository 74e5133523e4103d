"""Python blocks of README and docs, the table of wrong calls, and the notebook, with the shipped models."""

import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from pages import ROOT, blocks, wrong_calls

from segpipe.bundle import SHIPPED
from segpipe.errors import SegpipeError

pytestmark = pytest.mark.slow
WITH_PYTHON = {"README.md": 1, "docs/python.md": 8}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an image, a folder of images, and two trained models."""
    samples = ROOT / "data" / "samples"
    shutil.copy(samples / "synthetic_mel.jpg", tmp_path / "photo.jpg")
    (tmp_path / "photos").mkdir()
    for name in ("nv", "bcc"):
        shutil.copy(samples / f"synthetic_{name}.jpg", tmp_path / "photos")
    shutil.copytree(SHIPPED / "classifier", tmp_path / "runs" / "mine" / "bundle")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_blocks(page: str) -> dict[str, Any]:
    """Run the Python blocks of a page, one after another in one namespace."""
    namespace: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, page, "exec"), namespace)
    return namespace
