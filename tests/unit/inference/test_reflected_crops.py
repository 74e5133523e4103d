"""Crops with reflected borders: pixels, boxes, heatmaps, cards and captions."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from findings import drawn_finding

from segpipe.bundle.card import ClassifierBundle
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.saving import save_bundle
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap, frame_of, heatmap_in_lesion, heatmap_on_image
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.io.run_files import CARD
from segpipe.lesion.crop import CropRule, crop_box, cut_lesion, reflect_square, resize_square
from segpipe.lesion.localization import MaskSource
from segpipe.report.html_finding import picture_texts
from segpipe.report.wording import crop_caption, reading_sentences
from segpipe.types import Box, RgbImage

REFLECT = CropRule(margin_fraction=0.5, border="reflect")
SHAPES = [(60, 80), (80, 60), (61, 80), (8, 100), (100, 8), (1, 50), (50, 1), (7, 7)]


def noise(height: int, width: int) -> RgbImage:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_image_is_centered_and_its_border_reflected(height: int, width: int) -> None:
    image, side = noise(height, width), max(height, width)
    square = reflect_square(image, side)
    assert square.shape == (side, side, 3)
    top, left = (side - height) // 2, (side - width) // 2
    np.testing.assert_array_equal(square[top : top + height, left : left + width], image)
    pads = (top, side - height - top), (left, side - width - left), (0, 0)
    np.testing.assert_array_equal(square, np.pad(image, pads, mode="reflect"))  # repeated where the image is too small


@pytest.mark.parametrize("size", [16, 48, 224])
@pytest.mark.parametrize(("height", "width"), [*SHAPES, (8, 30_000)])
def test_any_shape_fits_any_square(height: int, width: int, size: int) -> None:
    flat = np.full((height, width, 3), (12, 130, 250), dtype=np.uint8)
    np.testing.assert_array_equal(reflect_square(flat, size), np.full((size, size, 3), (12, 130, 250), dtype=np.uint8))


@pytest.mark.parametrize(("border", "proportion"), [("reflect", 1.0), ("squeeze", 2.0)])
def test_drawn_circle_stays_a_circle(border: str, proportion: float) -> None:
    image = np.full((100, 200, 3), 220, np.uint8)
    cv2.circle(image, (110, 50), 30, (20, 20, 20), cv2.FILLED)
    mask = image[..., 0] < 100
    _, pixels = cut_lesion(image, mask, Box(20, 80, 81, 141), CropRule(margin_fraction=3, border=border), size=200)
    _, labels, sizes, _ = cv2.connectedComponentsWithStats((pixels[..., 0] < 100).astype(np.uint8))
    width, height = sizes[labels[100, 110]][[cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]  # without its reflections
    assert height / width == pytest.approx(proportion, abs=0.05)
    assert width == 61


@pytest.mark.parametrize("seed", range(20))
def test_box_lies_in_the_image_and_equals_that_of_squeeze(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(16, 90, size=2))
    image, mask = noise(height, width), np.zeros((height, width), np.bool_)
    top, left = int(rng.integers(0, height - 4)), int(rng.integers(0, width - 4))
    box = Box(top, left, int(rng.integers(top + 2, height)) + 1, int(rng.integers(left + 2, width)) + 1)
    squeezed, pixels = cut_lesion(image, mask, box, replace(REFLECT, border="squeeze"), size=32)
    reflected, square = cut_lesion(image, mask, box, REFLECT, size=32)
    assert reflected == squeezed == crop_box(image, box, REFLECT)
    frame = frame_of(reflected, "reflect")
    assert frame.height == frame.width == max(reflected.height, reflected.width)
    if reflected.height == reflected.width:
        assert frame == reflected
        np.testing.assert_array_equal(square, pixels)
    assert frame_of(reflected, "squeeze") == reflected


def test_whole_image_and_black_background_are_reflected() -> None:
    image, mask = noise(40, 60), np.zeros((40, 60), np.bool_)
    mask[:20, :30] = True
    window, pixels = cut_lesion(image, mask, Box(0, 0, 20, 30), CropRule(whole_image=True, border="reflect"), size=60)
    assert window == Box(0, 0, 40, 60)
    np.testing.assert_array_equal(pixels[10:50], image)
    masked = CropRule(margin_fraction=1, keep_background=False, border="reflect")
    window, pixels = cut_lesion(image, mask, Box(0, 0, 20, 30), masked, size=60)
    assert window == Box(0, 0, 40, 60)
    np.testing.assert_array_equal(pixels[10:50], image * mask[..., None])
    np.testing.assert_array_equal(pixels[:10], pixels[11:21][::-1])


def heat(row: int, column: int, *, cells: int = 8) -> ClassMap:
    values = np.zeros((cells, cells), np.float32)
    values[row, column] = 1
    return ClassMap(values, "mel", "reflect")


@pytest.mark.parametrize(
    "window", [Box(0, 0, 40, 80), Box(0, 10, 40, 90), Box(0, 0, 80, 40), Box(3, 4, 67, 68), Box(0, 0, 33, 80)]
)
def test_heatmap_drops_the_reflected_border(window: Box) -> None:
    class_map = ClassMap(np.random.default_rng(0).random((7, 7)).astype(np.float32), "mel", "reflect")
    frame = frame_of(window, "reflect")
    enlarged = cv2.resize(class_map.values, (frame.width, frame.height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    heatmap = heatmap_on_image(class_map, window, 90, 100)
    inside = np.s_[window.top : window.bottom, window.left : window.right]
    padded = enlarged[window.top - frame.top :, window.left - frame.left :][: window.height, : window.width]
    np.testing.assert_allclose(heatmap[inside], padded, atol=1e-6)
    heatmap[inside] = 0
    assert heatmap.max() == 0


def test_hot_cell_has_its_position_in_the_image() -> None:
    window = Box(0, 10, 40, 90)  # the square of 80 begins 20 rows above the image; cells of 10 pixels
    heatmap = heatmap_on_image(heat(3, 5), window, 40, 100)
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert 10 <= row < 20 and 60 <= column < 70
    weights = heatmap / heatmap.sum()
    assert (weights.sum(1) @ np.arange(40), weights.sum(0) @ np.arange(100)) == pytest.approx((14.5, 64.5), abs=0.1)
    assert heatmap_on_image(heat(0, 5, cells=16), window, 40, 100).max() == 0  # in the reflection only


def test_fraction_in_the_lesion_ignores_the_reflection() -> None:
    finding = drawn_finding(40, 80)
    window = Box(0, 0, 40, 80)
    assert heatmap_in_lesion(heat(0, 3, cells=16), finding.localization.mask, window) is None
    inside, outside = (heatmap_in_lesion(heat(*cell), finding.localization.mask, window) for cell in ((3, 2), (3, 6)))
    assert inside is not None and inside > 0.5
    assert outside == 0


@pytest.fixture(scope="module")
def found(classifier: ClassifierBundle) -> Finding:
    """Finding of a lesion too large for a square crop, with reflection."""
    bundle = replace(classifier, card=replace(classifier.card, crop=REFLECT))
    image = np.full((60, 90, 3), 200, np.uint8)
    cv2.circle(image, (45, 30), 26, (90, 60, 50), cv2.FILLED)
    localizer = Localizer(None, start=MaskSource.CONTOUR)
    ensemble = ClassifierEnsemble([TorchClassifier(bundle, "cpu")], views=VIEWS["crops"], explained="predicted", batch_size=8)
    return Pipeline(localizer, ensemble)([image])[0]


def test_finding_records_crop_box_and_border(found: Finding) -> None:
    assert found.mask_source == MaskSource.CONTOUR
    assert found.crop_box == Box(0, 0, 60, 90)
    assert found.border == "reflect"
    np.testing.assert_array_equal(found.crop, reflect_square(found.photograph.image, 96))
    row = found.to_dict()
    assert (row["crop_top"], row["crop_left"], row["crop_bottom"], row["crop_right"]) == (0, 0, 60, 90)
    assert row["crop_border"] == "reflect"
    heatmap = found.heatmap
    assert heatmap is not None and heatmap.shape == (60, 90)


def test_captions_name_the_reflection(found: Finding) -> None:
    _, caption = picture_texts(found.to_dict(), explained=None)["crop"]
    assert caption == crop_caption(found.crop_box, "reflect")
    assert all(text in caption for text in ("90 x 60 px", "reflection"))
    assert "reflection" in reading_sentences(found.to_dict())[0]
    assert crop_caption(found.crop_box, "squeeze") == "crop 90 x 60 px, scaled to a square"
    square = Box(0, 0, 60, 60)
    assert crop_caption(square, "reflect") == crop_caption(square, "squeeze")


def test_card_without_the_border_means_squeeze(classifier: ClassifierBundle, tmp_path: Path) -> None:
    save_bundle(tmp_path / "new", classifier.model, replace(classifier.card, crop=REFLECT))
    assert load_classifier(tmp_path / "new").card.crop == REFLECT
    path = tmp_path / "new" / CARD
    card = json.loads(path.read_text())
    del card["crop"]["border"]
    path.write_text(json.dumps(card))
    assert load_classifier(tmp_path / "new").card.crop == replace(REFLECT, border="squeeze")


def test_unknown_border_is_refused() -> None:
    with pytest.raises(ValueError, match="border must be one of squeeze, reflect, got 'mirror'"):
        CropRule(border="mirror")
    with pytest.raises(ValueError, match="must be"):
        reflect_square(np.zeros((4, 4), np.uint8), 8)  # type: ignore[arg-type]
    assert resize_square(noise(4, 6), 8).shape == reflect_square(noise(4, 6), 8).shape
