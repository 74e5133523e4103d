"""True and found outlines side by side, to see at a glance what a segmenter has learnt."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from segpipe.image_io import BoolMask, RgbImage
from segpipe.report import DISCLAIMER, printable

COLUMNS = 4
TRUE_COLOUR, FOUND_COLOUR = (0, 158, 115), (240, 228, 66)  # green and yellow of Okabe and Ito


def draw_masks(path: Path, images: Sequence[RgbImage], pairs: Sequence[tuple[BoolMask, BoolMask]], titles: Sequence[str]) -> None:
    """Draw images with two outlines each into a PNG.

    Args:
        path: the file to write.
        images: RGB uint8, each (H, W, 3); at least one.
        pairs: found and true mask of each, bool (H, W).
        titles: of each.
    """
    rows = -(-len(images) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 2.7 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for panel in axes:
        panel.axis("off")
    for panel, image, (found, true), title in zip(axes, images, pairs, titles, strict=False):
        panel.imshow(outline(outline(image, true, TRUE_COLOUR), found, FOUND_COLOUR))
        panel.set_title(printable(title), fontsize=9, parse_math=False)
    figure.suptitle("true outline in green, found outline in yellow", fontsize=11)
    figure.text(0.5, 0.0, DISCLAIMER, ha="center", va="bottom", fontsize=8)
    figure.savefig(path, dpi=100)


def outline(image: RgbImage, mask: BoolMask, colour: tuple[int, int, int]) -> RgbImage:
    """A copy of an image, RGB uint8 (H, W, 3), with the outline of a mask, bool (H, W), in a colour."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(max(image.shape) / 200))
    return cv2.drawContours(np.ascontiguousarray(image).copy(), contours, -1, colour, width).astype(np.uint8)
