"""Python blocks of README and docs, and the table of wrong calls, with the shipped models."""

import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from pages import ROOT, all_blocks, blocks, wrong_calls

import segpipe
from segpipe.bundle import SHIPPED
from segpipe.errors import SegpipeError

pytestmark = pytest.mark.slow
WITH_PYTHON = {"README.md": 1, "docs/python.md": 9}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an image, a folder of images, and two trained models."""
    samples = ROOT / "data" / "samples"
    shutil.copy(samples / "synthetic_mel.jpg", tmp_path / "photo.jpg")
    (tmp_path / "photos").mkdir()
    for name in ("nv", "bcc"):
        shutil.copy(samples / f"synthetic_{name}.jpg", tmp_path / "photos")
    for name in ("mine", "other"):
        shutil.copytree(SHIPPED / "classifier", tmp_path / "runs" / name / "bundle")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_blocks(page: str) -> dict[str, Any]:
    """Run the Python blocks of a page, one after another in one namespace."""
    namespace: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, page, "exec"), namespace)
    return namespace


@pytest.mark.parametrize(("page", "count"), WITH_PYTHON.items())
def test_python_blocks_run(page: str, count: int, folder: Path) -> None:
    assert len([block for block in blocks(page) if block.language == "python"]) == count
    with mpl.rc_context():
        assert "finding" in run_blocks(page)
    assert (folder / "finding.png").stat().st_size > 10_000


def test_other_pages_have_no_python_blocks() -> None:
    assert {block.page for block in all_blocks() if block.language == "python"} == set(WITH_PYTHON)


def test_wrong_calls_are_refused_as_the_table_says(folder: Path) -> None:
    image = segpipe.read_image("photo.jpg")
    pipeline = segpipe.load_pipeline(tta="none", explain="none")
    finding = pipeline.predict(image)
    names = {"segpipe": segpipe, "np": np, "image": image, "pipeline": pipeline, "finding": finding}
    calls = wrong_calls("docs/python.md")
    assert len(calls) >= 20
    for call, fragments in calls:
        with pytest.raises((TypeError, ValueError, SegpipeError)) as refused:
            eval(call, names)
        message = str(refused.value)
        assert "\n" not in message
        assert [fragment for fragment in fragments if fragment not in message] == [], f"{call}: {message}"
