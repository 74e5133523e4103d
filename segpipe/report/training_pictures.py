"""Pictures of a training: augmented images, and predictions over the epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.diagnosis import full_name
from segpipe.metrics.segmentation import dice
from segpipe.report.canvas import GRAY, INK, Area, Color, elide, text_width
from segpipe.report.overlays import PREDICTED_COLOR, TRUE_COLOR, draw_outline
from segpipe.report.png_canvas import PngCanvas
from segpipe.report.wording import DISCLAIMER, percent, printable
from segpipe.types import BoolMask, FloatArray, Labels, RgbImage

COLUMNS = 8
RIGHT_COLOR, WRONG_COLOR = (0, 114, 178), (213, 94, 0)  # blue and vermilion of Okabe and Ito
WRONG_SIGN = "\N{BALLOT X}"

# Inches.
_MARGIN, _SIDE, _GAP = 0.25, 1.5, 0.1
_HEAD, _FOOT, _LINE = 0.72, 0.3, 0.19
_NAMES_WIDTH, _CELL_HEIGHT = 0.85, 0.3
_FRAME = 0.04
# Points.
_TITLE_SIZE, _TEXT_SIZE, _SMALL_SIZE = 12, 9, 7
# Outlines are drawn on an image of twice the pixels that it has in the picture, which smooths them.
_DRAWN_SIDE, _OUTLINE_WIDTH = 300, 3

# Images, RGB uint8, shape (N, size, size, 3); masks, bool, shape (N, size, size).
Images = NDArray[np.uint8]
Masks = NDArray[np.bool_]


class _Sheet:
    """Canvas with a title, and columns of squares behind names of rows.

    Args:
        columns: Number of columns.
        height: Height of the content, inches.
        title: Title of the picture.
        caption: Explanation below the title.
        names: True for names of rows on the left.
    """

    def __init__(self, columns: int, height: float, *, title: str, caption: str, names: bool) -> None:
        self._left = _MARGIN + _NAMES_WIDTH * names
        written = max(text_width(line, size=_TEXT_SIZE) for line in (caption, DISCLAIMER)) + 2 * _MARGIN
        width = max(written, self._left + columns * (_SIDE + _GAP) - _GAP + _MARGIN)
        self._canvas = PngCanvas(width, _HEAD + height + _FOOT)
        self._canvas.write(_MARGIN, 0.32, title, size=_TITLE_SIZE, bold=True)
        self._canvas.write(_MARGIN, 0.55, caption, size=_TEXT_SIZE, color=GRAY)
        self._canvas.write(_MARGIN, _HEAD + height + 0.18, DISCLAIMER, size=_SMALL_SIZE, color=GRAY)

    @property
    def pixels(self) -> RgbImage:
        return self._canvas.pixels

    def name_row(self, top: float, height: float, text: str) -> None:
        self._canvas.write(_MARGIN, _HEAD + top + height / 2 + 0.04, text, size=_TEXT_SIZE, bold=True)

    def label(self, column: int, top: float, lines: Sequence[str]) -> None:
        """Write lines above a square, shortened to its width."""
        for number, line in enumerate(lines):
            bold, color = (True, INK) if number == 0 else (False, GRAY)
            fitting = elide(printable(line), _SIDE, size=_TEXT_SIZE, bold=bold)
            baseline = _HEAD + top + number * _LINE + 0.13
            self._canvas.write(self._x(column), baseline, fitting, size=_TEXT_SIZE, bold=bold, color=color)

    def show(self, column: int, top: float, image: RgbImage, *, frame: Color | None = None) -> None:
        """Draw a square image."""
        area = Area(self._x(column), _HEAD + top, _SIDE, _SIDE)
        if frame is not None:
            self._canvas.fill(Area(area.left - _FRAME, area.top - _FRAME, _SIDE + 2 * _FRAME, _SIDE + 2 * _FRAME), frame)
        self._canvas.draw_image(area, image)

    def cell(self, column: int, top: float, text: str, color: Color, *, bold: bool) -> None:
        """Write a text in the middle of a tinted cell."""
        area = Area(self._x(column), _HEAD + top, _SIDE, _CELL_HEIGHT - 0.04)
        self._canvas.fill(area, color, opacity=0.16)
        fitting = elide(text, _SIDE - 0.1, size=_TEXT_SIZE, bold=bold)
        start = area.left + (_SIDE - text_width(fitting, size=_TEXT_SIZE, bold=bold)) / 2
        self._canvas.write(start, area.top + 0.17, fitting, size=_TEXT_SIZE, bold=bold, color=color)

    def _x(self, column: int) -> float:
        return self._left + column * (_SIDE + _GAP)


def draw_mask_batch(epoch: int, images: Images, masks: Masks) -> RgbImage:
    """Draw augmented training images with the outlines of their masks.

    Args:
        epoch: Number of the epoch.
        images: RGB uint8, shape (N, size, size, 3).
        masks: Bool, shape (N, size, size).
    """
    outlined = [_outlined(image, ((mask, TRUE_COLOR),)) for image, mask in zip(images, masks, strict=True)]
    caption = f"first batch, {_size(images)}; the outline of the mask in green"
    return _draw_batch(outlined, [()] * len(images), epoch=epoch, caption=caption)


def draw_label_batch(epoch: int, images: Images, labels: Labels, *, classes: Sequence[str]) -> RgbImage:
    """Draw augmented training images with their diagnoses.

    Args:
        epoch: Number of the epoch.
        images: RGB uint8, shape (N, size, size, 3).
        labels: Class indices, shape (N,).
        classes: Codes of the diagnoses.
    """
    names = [_name(classes[label]) for label in labels]
    return _draw_batch(images, names, epoch=epoch, caption=f"first batch, {_size(images)}; the diagnosis above each image")


def draw_mask_predictions(images: Images, masks: Masks, predicted: Mapping[int, Masks]) -> RgbImage:
    """Draw validation images with true and predicted outlines by epoch.

    Args:
        images: RGB uint8, shape (N, size, size, 3).
        masks: True masks, bool, shape (N, size, size).
        predicted: Predicted masks of the same shape, by epoch.
    """
    height = _LINE + _SIDE + _GAP
    caption = "true outline in green, predicted outline in yellow, the Dice of this image above it"
    sheet = _Sheet(len(images), len(predicted) * height, title=_VALIDATION_TITLE, caption=caption, names=True)
    for row, (epoch, of_epoch) in enumerate(predicted.items()):
        sheet.name_row(row * height + _LINE, _SIDE, f"epoch {epoch}")
        for column, (image, true, mask) in enumerate(zip(images, masks, of_epoch, strict=True)):
            sheet.label(column, row * height, [f"Dice {dice(mask, true):.2f}" if mask.any() else "no lesion found"])
            sheet.show(column, row * height + _LINE, _outlined(image, ((true, TRUE_COLOR), (mask, PREDICTED_COLOR))))
    return sheet.pixels


def draw_diagnoses(images: Images, labels: Labels, probs: Mapping[int, FloatArray], *, classes: Sequence[str]) -> RgbImage:
    """Draw validation images with their predicted diagnoses by epoch.

    Args:
        images: RGB uint8, shape (N, size, size, 3).
        labels: True class indices, shape (N,).
        probs: Probabilities, shape (N, classes), by epoch.
        classes: Codes of the diagnoses.
    """
    caption = f"true diagnosis above each image, most probable one below it, by epoch; wrong ones in red, with {WRONG_SIGN}"
    names = [_name(classes[label]) for label in labels]
    above = _LINE * max(map(len, names))
    table = above + _SIDE + 2 * _GAP
    height = table + len(probs) * _CELL_HEIGHT
    sheet = _Sheet(len(images), height, title=_VALIDATION_TITLE, caption=caption, names=True)
    last = list(probs.values())[-1].argmax(1)
    for column, (image, label, predicted) in enumerate(zip(images, labels, last, strict=True)):
        sheet.label(column, 0, names[column])
        sheet.show(column, above, image, frame=RIGHT_COLOR if predicted == label else WRONG_COLOR)
    for row, (epoch, of_epoch) in enumerate(probs.items()):
        top = table + row * _CELL_HEIGHT
        sheet.name_row(top, _CELL_HEIGHT - 0.04, f"epoch {epoch}")
        for column, (label, of_image) in enumerate(zip(labels, of_epoch, strict=True)):
            right = of_image.argmax() == label
            text = f"{printable(classes[of_image.argmax()])} {percent(float(of_image.max()))}"
            color = RIGHT_COLOR if right else WRONG_COLOR
            sheet.cell(column, top, text if right else f"{WRONG_SIGN} {text}", color, bold=not right)
    return sheet.pixels


_VALIDATION_TITLE = "The same validation images over the epochs"


def _draw_batch(images: Any, names: Sequence[Sequence[str]], *, epoch: int, caption: str) -> RgbImage:
    above = _LINE * max(map(len, names))
    height = above + _SIDE + _GAP
    rows = -(-len(images) // COLUMNS)
    title = f"Training images after augmentation, epoch {epoch}"
    sheet = _Sheet(min(COLUMNS, len(images)), rows * height, title=title, caption=caption, names=False)
    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        row, column = divmod(index, COLUMNS)
        sheet.label(column, row * height, name)
        sheet.show(column, row * height + above, image)
    return sheet.pixels


def _outlined(image: RgbImage, outlines: Sequence[tuple[BoolMask, Color]]) -> RgbImage:
    drawn = _enlarge(image)
    for mask, color in outlines:
        smooth = _enlarge(mask.astype(np.uint8) * 255) > 127
        drawn = draw_outline(drawn, smooth, color, width=_OUTLINE_WIDTH, halo=False)
    return drawn


def _enlarge(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(array, (_DRAWN_SIDE, _DRAWN_SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)


def _name(code: str) -> tuple[str, ...]:
    """Return the code of a class, and its clinical name if known."""
    name = full_name(code)
    return (code,) if name == code else (code, name)


def _size(images: Images) -> str:
    return f"{images.shape[1]} x {images.shape[2]} pixels"
