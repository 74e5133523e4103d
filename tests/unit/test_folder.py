"""Many images: a bad one is passed over, the others lose nothing by it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segpipe.card import OperatingPoint
from segpipe.image_io import RgbImage, read_image, read_mask
from segpipe.inference.finding import Finding, Heatmap
from segpipe.inference.folder import Outputs, run_images, write_summary
from segpipe.inference.heatmap import heatmap_on_image
from segpipe.inference.results import result_columns
from segpipe.inference.source import images_of_folder
from segpipe.lesion.crop import Box
from segpipe.lesion.localizer import Localization, MaskSource


def find(image: RgbImage) -> Finding:
    """A finding that shows from which image it comes: the mask is where the image is bright."""
    mask = image[..., 0] > 127
    height, width = mask.shape
    red = float(image.mean()) / 255
    return Finding(
        localization=Localization(mask, Box(0, 0, height, width), MaskSource.UNET, ()),
        crop_box=Box(0, 0, height, width),
        crop=image[:4, :4].copy(),
        probs={"mel": red, "nv": 1 - red},
        p_malignant=red,
        flagged=None,
        tta_spread=None,
        heatmap=Heatmap(np.array([[0, 1], [0, 1]], dtype=np.float32), "mel"),
    )


class FakePipeline:
    """Counts its batches."""

    locator = SimpleNamespace(bundle=None)
    namer = SimpleNamespace(
        bundle=SimpleNamespace(
            sha256="c" * 64, card=SimpleNamespace(classes=("mel", "nv"), operating_point=OperatingPoint("mel", 0.125))
        )
    )

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Sequence[RgbImage]) -> list[Finding]:
        self.batches.append(len(images))
        return [find(image) for image in images]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images of several sizes, one that is none between them, and a folder that is named like an image."""
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.png", "d.png", "sub/a.png", "sub/z.bmp"]):
        pixels = rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    (tmp_path / "images" / "c.jpg").write_bytes(b"no image")
    (tmp_path / "images" / "e.png").mkdir()
    return tmp_path / "images"


def run(folder: Path, output: Path, *, batch_size: int = 2, max_pixels: int = 10_000, **outputs: Any) -> Any:
    output.mkdir()
    pipeline: Any = FakePipeline()
    done = run_images(
        pipeline, images_of_folder(folder), Outputs(output, **outputs), batch_size=batch_size, max_pixels=max_pixels
    )
    return done, pipeline


def test_bad_file_is_noted_and_the_others_are_done(folder: Path, tmp_path: Path) -> None:
    done, _ = run(folder, tmp_path / "out")
    assert [row["path"] for row in done.rows] == ["a.png", "b.png", "d.png", "sub/a.png", "sub/z.bmp"]
    assert {path: reason.split(":")[0] for path, reason in done.failures} == {
        "c.jpg": "not an image",
        "e.png": "a folder, not an image file",
    }
    failures = (tmp_path / "out" / "failures.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in failures] == ["path", "c.jpg", "e.png"]
    assert str(tmp_path) not in (tmp_path / "out" / "failures.csv").read_text()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_size_of_the_batch_changes_nothing_that_is_written(folder: Path, tmp_path: Path, batch_size: int) -> None:
    expected, _ = run(folder, tmp_path / "expected", batch_size=2)
    found, pipeline = run(folder, tmp_path / "found", batch_size=batch_size)
    assert max(pipeline.batches) <= batch_size

    def timeless(rows: Any) -> list[dict[str, Any]]:
        return [{name: value for name, value in row.items() if name != "latency_ms"} for row in rows]

    assert timeless(found.rows) == timeless(expected.rows)
    assert found.failures == expected.failures


def test_each_row_mask_and_hash_belongs_to_its_file(folder: Path, tmp_path: Path) -> None:
    done, _ = run(folder, tmp_path / "out", batch_size=4)
    for row in done.rows:
        path = folder / row["path"]
        image = read_image(path)
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert row["p_mel"] == float(image.mean()) / 255
        written = read_mask(tmp_path / "out" / "masks" / Path(row["path"]).with_suffix(".png"))
        np.testing.assert_array_equal(written, image[..., 0] > 127)
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(done.rows)


def test_pictures_are_written_where_they_are_wanted(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "plain")
    assert {path.name for path in (tmp_path / "plain").iterdir()} == {*("results.jsonl", "results.csv", "failures.csv", "masks")}
    drawn: list[tuple[Path, str]] = []

    def draw(path: Path, image: RgbImage, finding: Finding, *, title: str) -> None:
        np.testing.assert_array_equal(finding.localization.mask, image[..., 0] > 127)
        drawn.append((path, title))

    done, _ = run(folder, tmp_path / "all", crops=True, heatmaps=True, write_figure=draw)
    names = ["a.png", "b.png", "d.png", "sub/a.png", "sub/z.png"]
    assert drawn == [(tmp_path / "all" / "figures" / name, Path(name).stem) for name in names]
    assert [figure for _, _, figure in done.shown] == [path for path, _ in drawn[:3]]
    for row, name in zip(done.rows, names, strict=True):
        image = read_image(folder / row["path"])
        np.testing.assert_array_equal(read_image(tmp_path / "all" / "crops" / name), image[:4, :4])
        finding = find(image)
        assert finding.heatmap
        values = heatmap_on_image(finding.heatmap, finding.crop_box, *image.shape[:2])
        with Image.open(tmp_path / "all" / "heatmaps" / name) as picture:
            assert picture.mode == "L"
            np.testing.assert_allclose(np.asarray(picture) / 255, values, atol=0.5 / 255 + 1e-6)


def test_cap_on_pixels_is_that_of_the_call(folder: Path, tmp_path: Path) -> None:
    done, _ = run(folder, tmp_path / "out", max_pixels=21 * 30)
    assert [row["path"] for row in done.rows] == ["a.png", "b.png"]
    assert "more than max_pixels=630" in dict(done.failures)["d.png"]


def test_only_the_first_findings_go_to_the_terminal(folder: Path, tmp_path: Path) -> None:
    done, _ = run(folder, tmp_path / "out")
    assert [path.as_posix() for path, _, figure in done.shown] == ["a.png", "b.png", "d.png"]
    assert {figure for _, _, figure in done.shown} == {None}


def test_summary_counts_and_names_the_models(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("none")
    done, pipeline = run(folder, tmp_path / "out")
    summary = write_summary(tmp_path, done, images_of_folder(folder), pipeline, settings={"tta": "d4"})
    assert (summary["images"], summary["failures"], summary["ignored_files"]) == (5, 2, 1)
    assert summary["models"] == {"segmenter": None, "classifier": "c" * 64}
    assert summary["settings"] == {"tta": "d4"}
    assert {"python", "torch"} <= set(summary["versions"])
    assert summary["images_per_second"] > 0
    assert "medical device" in summary["notice"]
    assert summary["operating_point"] == {"diagnosis": "mel", "threshold": 0.125}
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_source_that_holds_only_failures_ends_in_tables_without_rows(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "c.jpg").write_bytes(b"no image")
    done, pipeline = run(tmp_path / "images", tmp_path / "out")
    assert (done.rows, pipeline.batches) == ((), [])
    assert [path for path, _ in done.failures] == ["c.jpg"]
    assert (tmp_path / "out" / "results.csv").read_text() == ",".join(result_columns(("mel", "nv"))) + "\n"


def test_file_that_vanishes_while_it_is_read_is_noted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_and_lose(path: Path, *, max_pixels: int) -> RgbImage:
        image = read_image(path, max_pixels=max_pixels)
        if path.name == "b.png":
            path.unlink()
        return image

    monkeypatch.setattr("segpipe.inference.folder.read_image", read_and_lose)
    done, _ = run(folder, tmp_path / "out")
    assert len(done.rows) == 4
    assert dict(done.failures)["b.png"] == "cannot be read (No such file or directory)"
