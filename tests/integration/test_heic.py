"""HEIC files give the results of their JPEG files."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segpipe
from segpipe.bundle.card_file import SHIPPED
from segpipe.cli.main import main
from segpipe.config import SAMPLES
from segpipe.data.splits import read_split
from segpipe.inference.pipeline import Pipeline

LARGEST_DIFFERENCE = 0.02
QUALITY = 90
needs_heif = pytest.mark.skipif(
    importlib.util.find_spec("pillow_heif") is None, reason="needs pillow-heif: pip install -e .[heif]"
)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return segpipe.load_pipeline(device="cpu", explain="none")


def write_heic(jpeg: Path, path: Path) -> None:
    from pillow_heif import from_pillow

    with Image.open(jpeg) as image:
        from_pillow(image).save(path, quality=QUALITY)


def differences(pipeline: Pipeline, jpegs: list[Path], folder: Path) -> list[float]:
    """Return the largest difference of a probability for each image."""
    largest = []
    for jpeg in jpegs:
        write_heic(jpeg, folder / f"{jpeg.stem}.heic")
        first, second = (pipeline.predict(path).probabilities for path in (jpeg, folder / f"{jpeg.stem}.heic"))
        largest.append(max(abs(first[code] - second[code]) for code in first))
    return largest


@needs_heif
def test_probabilities_of_a_sample_are_those_of_its_jpeg(pipeline: Pipeline, tmp_path: Path) -> None:
    found = differences(pipeline, sorted(SAMPLES.glob("*.jpg")), tmp_path)
    assert len(found) == 7
    assert max(found) <= LARGEST_DIFFERENCE


@needs_heif
@pytest.mark.realdata
def test_probabilities_of_photographs_are_those_of_their_jpegs(pipeline: Pipeline, ham10000: Path, tmp_path: Path) -> None:
    test = set(read_split(SHIPPED / "split.csv").query("part == 'test'")["image_id"])
    jpegs = [path for path in sorted(ham10000.rglob("*.jpg")) if path.stem in test][::100]
    found = differences(pipeline, jpegs, tmp_path)
    assert len(found) >= 15
    assert np.mean(found) <= LARGEST_DIFFERENCE


@needs_heif
def test_folder_of_both_has_a_row_for_each(tmp_path: Path) -> None:
    jpeg = SAMPLES / "synthetic_mel.jpg"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "IMG_1.JPG").write_bytes(jpeg.read_bytes())
    write_heic(jpeg, tmp_path / "photos" / "IMG_1.HEIC")
    (tmp_path / "labels.csv").write_text("image,label\nIMG_1.HEIC,mel\nIMG_1.JPG,mel\n")
    arguments = [f"folder={tmp_path / 'photos'}", f"labels={tmp_path / 'labels.csv'}", f"output={tmp_path / 'out'}"]
    assert main(["predict", *arguments, "tta=none", "explain=none", "report=html", "heatmap_sample=0"]) == 0
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        heic, jpg = csv.DictReader(file)
    assert (heic["path"], jpg["path"]) == ("IMG_1.HEIC", "IMG_1.JPG")
    assert heic["diagnosis"] == jpg["diagnosis"]
    assert {path.name for path in (tmp_path / "out" / "masks").iterdir()} == {"IMG_1.HEIC.png", "IMG_1.JPG.png"}


def test_without_the_library_each_file_fails_with_the_extra(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes((SAMPLES / "synthetic_mel.jpg").read_bytes())
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    for number, name in enumerate(("b.HEIC", "c.jpg", "d")):
        (photos / name).write_bytes(head + bytes([number]))
    (photos / "e.dng").write_bytes(b"II*\0")
    arguments = ["predict", f"folder={photos}", f"output={tmp_path / 'out'}", "tta=none", "explain=none"]
    assert main(arguments) == 1
    assert "images done: 1, failed: 4 (not read: HEIC 3, camera raw 1); results in " in capsys.readouterr().out
    with (tmp_path / "out" / "failures.csv").open(newline="") as file:
        reasons = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == {"b.HEIC", "c.jpg", "d", "e.dng"}
    assert all("segpipe[heif]" in reasons[name] for name in ("b.HEIC", "c.jpg", "d"))
    assert main(["predict", f"image={photos / 'b.HEIC'}", f"output={tmp_path / 'one'}"]) == 2
    assert "segpipe[heif]" in capsys.readouterr().err
