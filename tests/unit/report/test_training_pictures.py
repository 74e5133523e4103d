"""Pictures of a training: outlines, diagnoses, wrong ones marked."""

from typing import Any

import numpy as np
import pytest

from segpipe.report import training_pictures
from segpipe.report.overlays import PREDICTED_COLOR, TRUE_COLOR
from segpipe.report.training_pictures import (
    RIGHT_COLOR,
    WRONG_COLOR,
    WRONG_SIGN,
    draw_diagnoses,
    draw_label_batch,
    draw_mask_batch,
    draw_mask_predictions,
)
from segpipe.types import RgbImage

CLASSES = ("mel", "nv", "my class")
IMAGES = np.full((10, 64, 64, 3), (200, 150, 130), np.uint8)
LABELS = np.arange(10) % 3
MASKS = np.zeros((10, 64, 64), bool)
MASKS[:, 16:48, 16:48] = True


def has_color(picture: RgbImage, color: tuple[int, int, int], *, pixels: int = 50) -> bool:
    return bool((np.abs(picture.astype(int) - color).sum(axis=2) < 30).sum() > pixels)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines of text that are written on pictures."""
    written: list[str] = []
    write = training_pictures.PngCanvas.write

    def remember(canvas: Any, left: float, baseline: float, text: str, **style: Any) -> None:
        written.append(text)
        write(canvas, left, baseline, text, **style)

    monkeypatch.setattr(training_pictures.PngCanvas, "write", remember)
    return written


def test_batch_of_masks_has_green_outlines_and_eight_columns(texts: list[str]) -> None:
    one_row, two_rows = (draw_mask_batch(3, IMAGES[:count], MASKS[:count]) for count in (8, 10))
    assert has_color(one_row, TRUE_COLOR)
    assert not has_color(one_row, PREDICTED_COLOR)
    assert one_row.shape[1] == two_rows.shape[1]
    assert one_row.shape[0] < two_rows.shape[0]
    assert "epoch 3" in texts[0]
    assert "64 x 64 pixels" in texts[1]
    assert any("Not a medical device" in text for text in texts)


def test_batch_of_labels_has_the_names_of_the_diagnoses(texts: list[str]) -> None:
    draw_label_batch(0, IMAGES, LABELS, classes=CLASSES)
    names = [text for text in texts if text in {"mel", "melanoma", "nv", "melanocytic nevus", "my class"}]
    assert names[:6] == ["mel", "melanoma", "nv", "melanocytic nevus", "my class", "mel"]


def test_predicted_masks_have_a_row_for_each_epoch_and_their_dice(texts: list[str]) -> None:
    empty = np.zeros_like(MASKS)
    half = MASKS & (np.arange(64) < 32)
    picture = draw_mask_predictions(IMAGES[:2], MASKS[:2], {0: empty[:2], 4: half[:2], 9: MASKS[:2]})
    assert has_color(picture, PREDICTED_COLOR)
    assert has_color(picture, TRUE_COLOR)
    assert [text for text in texts if text.startswith("epoch ")] == ["epoch 0", "epoch 4", "epoch 9"]
    assert [text for text in texts if text == "no lesion found" or text.startswith("Dice ")] == [
        *("no lesion found", "no lesion found", "Dice 0.67", "Dice 0.67", "Dice 1.00", "Dice 1.00")
    ]


def test_wrong_diagnoses_are_marked(texts: list[str]) -> None:
    probs = {0: np.array([[0.2, 0.7, 0.1], [0.2, 0.7, 0.1]]), 1: np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])}
    picture = draw_diagnoses(IMAGES[:2], LABELS[:2], probs, classes=CLASSES)
    cells = [text for text in texts if text.endswith(" %")]
    assert cells == [f"{WRONG_SIGN} nv 70.0 %", "nv 70.0 %", "mel 80.0 %", "nv 80.0 %"]
    frame = 500  # pixels; more than all letters of a color have
    assert has_color(picture, RIGHT_COLOR, pixels=frame)
    assert not has_color(picture, WRONG_COLOR, pixels=frame)  # the frames show the last epoch
    del probs[1]
    assert has_color(draw_diagnoses(IMAGES[:2], LABELS[:2], probs, classes=CLASSES), WRONG_COLOR, pixels=frame)


@pytest.mark.parametrize("name", ["x" * 64, "a\N{SNOWMAN}b $1$", "ünïcode"])
def test_any_class_name_can_be_drawn(name: str) -> None:
    classes, probs = ("mel", name), {0: np.array([[0.1, 0.9]])}
    assert draw_diagnoses(IMAGES[:1], np.array([1]), probs, classes=classes).std() > 5
    assert draw_label_batch(0, IMAGES[:1], np.array([1]), classes=classes).std() > 5
