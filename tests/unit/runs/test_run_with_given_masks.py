"""Runs with given masks: named after the images, checked one by one, and part of what a run must keep."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segpipe.bundle.card import ClassifierBundle
from segpipe.data.synthetic.photo import make_image
from segpipe.errors import ConfigError, OutputError
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.io.images import read_mask, write_png
from segpipe.lesion.localization import MaskSource
from segpipe.runs.folder import RunResult, run_images
from segpipe.runs.given_masks import with_given_masks
from segpipe.runs.local_engine import LocalEngine
from segpipe.runs.options import RunOptions
from segpipe.runs.source import Source, images_of_folder

SIZE = (60, 80)
Run = Callable[..., RunResult]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four photographs, of which two have the same content."""
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "sub/c.png")):
        Image.fromarray(make_image("mel", np.random.default_rng(number), SIZE)[0]).save(images / name)
    (images / "copy.png").write_bytes((images / "a.png").read_bytes())
    return images


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Masks of two of them, and of an unknown image."""
    (tmp_path / "masks").mkdir()
    for number, name in enumerate(("a", "c", "unknown")):
        mask = np.zeros(SIZE, np.bool_)
        mask[10:40, 10 + number : 50] = True
        write_png(tmp_path / "masks" / f"{name}_segmentation.png", mask)
    return tmp_path / "masks"


@pytest.fixture
def run(classifier: ClassifierBundle, folder: Path, tmp_path: Path) -> Run:
    """Run over the folder with given masks, into `out`."""
    ensemble = ClassifierEnsemble([TorchClassifier(classifier, "cpu")], views=VIEWS["none"], explained=None, batch_size=3)
    pipeline = Pipeline(Localizer(None, start=MaskSource.CONTOUR), ensemble)

    def call(masks: Path | None) -> RunResult:
        (tmp_path / "out").mkdir(exist_ok=True)
        source = images_of_folder(folder)
        if masks is not None:
            source = with_given_masks(source, masks, output=tmp_path / "out")
        return run_images(pipeline, source, RunOptions(tmp_path / "out"), LocalEngine(pipeline, workers=0))

    return call


def assign(folder: Path, given: Path, output: str = "out") -> Source:
    return with_given_masks(images_of_folder(folder), given, output=folder.parent / output)


def by_path(result: RunResult) -> dict[str, Any]:
    return {row["path"]: row for row in result.rows}


def test_given_masks_are_used_and_the_other_images_localized(run: Run, masks: Path, tmp_path: Path) -> None:
    rows = by_path(run(masks))
    assert {path: row["mask_source"] == "given" for path, row in rows.items()} == {
        "a.png": True,
        "b.png": False,
        "copy.png": False,  # its own path has no mask
        "sub/c.png": True,
    }
    for name, mask in (("a", "a"), ("sub/c", "c")):
        written, given = (read_mask(path) for path in (tmp_path / f"out/masks/{name}.png", masks / f"{mask}_segmentation.png"))
        np.testing.assert_array_equal(written, given)
    assert (rows["sub/c.png"]["box_left"], rows["sub/c.png"]["box_right"]) == (11, 50)
    assert rows["a.png"]["p_mel"] != rows["copy.png"]["p_mel"]


def test_mask_that_does_not_fit_fails_alone(run: Run, masks: Path) -> None:
    write_png(masks / "c_segmentation.png", np.ones(SIZE[::-1], np.bool_))
    result = run(masks)
    ((path, reason),) = result.failures
    assert path == "sub/c.png" and "c_segmentation.png: mask must have the size of its image, 60 x 80" in reason
    assert len(result.rows) == 3


@pytest.mark.parametrize("change", [lambda masks: write_png(masks / "c_segmentation.png", np.ones(SIZE, np.bool_)), None])
def test_other_masks_are_refused_when_a_run_resumes(run: Run, masks: Path, change: Callable[[Path], object] | None) -> None:
    first = by_path(run(masks))
    assert by_path(run(masks)) == first
    if change is not None:
        change(masks)
    with pytest.raises(OutputError, match="given_masks changed"):
        run(None if change is None else masks)


def test_remark_counts_the_given_masks(folder: Path, masks: Path) -> None:
    assert assign(folder, masks).remarks[-1] == "given masks: 2 of 4 images"


def test_single_image_takes_a_mask_file(folder: Path, masks: Path) -> None:
    for name in ("a.png", "b.png", "copy.png"):
        (folder / name).unlink()
    file = masks / "unknown_segmentation.png"
    assert assign(folder, file).masks == {"sub/c.png": file}


def test_masks_of_other_images_are_a_wrong_call(folder: Path, masks: Path) -> None:
    for name in ("a", "c"):
        (masks / f"{name}_segmentation.png").unlink()
    with pytest.raises(ConfigError, match=r"given_masks must hold a mask of at least one of the 4 images.*such as unknown"):
        assign(folder, masks)
    with pytest.raises(ConfigError, match="given_masks must be a folder for 4 images"):
        assign(folder, masks / "unknown_segmentation.png")


def test_masks_that_the_run_would_replace_are_a_wrong_call(folder: Path, masks: Path) -> None:
    with pytest.raises(ConfigError, match="given_masks must lie outside of output"):
        assign(folder, masks, output=".")
