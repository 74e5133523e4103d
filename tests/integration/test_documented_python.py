"""Python blocks of README and docs, and the table of wrong calls."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import ROOT, all_blocks, blocks, read_page, wrong_calls

import segpipe
from segpipe.errors import SegpipeError

BLOCKS = {"README.md": 1, "docs/python.md": 10, "docs/web_page.md": 1}
# Arguments that shorten a training: few small images.
SMALL = (
    *("trainer.max_epochs=1", "classifier.name=test_efficientnet", "classifier.input_size=64", "batch_size=8", "data.lesions=42"),
    *("data.images_per_lesion=1", "data.height=60", "data.width=80", "trainer.accelerator=cpu", "workers=0"),
)
SHORTENED = {'"trainer.max_epochs=1"': ", ".join(f'"{argument}"' for argument in SMALL)}


@pytest.fixture
def folder(ensemble_folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with images and two trained models."""
    samples = ROOT / "data" / "samples"
    shutil.copy(samples / "synthetic_mel.jpg", tmp_path / "photo.jpg")
    (tmp_path / "photos").mkdir()
    for name in ("nv", "bcc"):
        shutil.copy(samples / f"synthetic_{name}.jpg", tmp_path / "photos")
    for name, bundle in zip(("mine", "other"), ensemble_folders, strict=False):
        shutil.copytree(bundle, tmp_path / "runs" / name / "bundle")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(bundles: Path, few_resamples: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models instead of the shipped ones."""
    for module in ("bundle.card_file", "inference.loading", "training.identity"):
        monkeypatch.setattr(f"segpipe.{module}.SHIPPED", bundles)


def run_blocks(page: str) -> dict[str, Any]:
    """Run the Python blocks of a page in one namespace."""
    namespace: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python":
            text = block.text
            for long, short in SHORTENED.items():
                text = text.replace(long, short)
            exec(compile(text, page, "exec"), namespace)
    return namespace


def test_every_python_block_is_run() -> None:
    found = [block.page for block in all_blocks() if block.language == "python"]
    assert {page: found.count(page) for page in found} == BLOCKS


@pytest.mark.slow
def test_readme_runs_with_the_shipped_models(folder: Path) -> None:
    finding = run_blocks("README.md")["finding"]
    assert f"# {finding!r}\n" in read_page("README.md")
    assert (folder / "finding.png").stat().st_size > 10_000


@pytest.mark.slow
def test_python_page_runs(folder: Path, tiny: None) -> None:
    names = run_blocks("docs/python.md")
    assert list(names["table"]["path"]) == ["synthetic_bcc.jpg", "synthetic_nv.jpg"]
    assert names["result"].bundle == Path("runs/first/bundle")


def test_page_on_languages_runs(folder: Path, tiny: None) -> None:
    assert run_blocks("docs/web_page.md")["finding"].diagnosis


def test_wrong_calls_have_the_documented_messages(folder: Path, tiny: None) -> None:
    image = segpipe.read_image("photo.jpg")
    pipeline = segpipe.load_pipeline(tta="none", explain="none")
    finding = pipeline.predict(image)
    names = {"segpipe": segpipe, "np": np, "image": image, "pipeline": pipeline, "finding": finding}
    calls = wrong_calls("docs/python.md")
    assert len(calls) >= 20
    for call, fragments in calls:
        with pytest.raises((ValueError, SegpipeError)) as refused:
            eval(call, names)
        message = str(refused.value)
        assert "\n" not in message
        assert [fragment for fragment in fragments if fragment not in message] == [], f"{call}: {message}"
