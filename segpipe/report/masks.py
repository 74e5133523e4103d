"""Photographs with the outlines of masks, side by side, to see at a glance what a model takes for the lesion."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from segpipe.io.arrays import require_image, require_mask
from segpipe.io.images import write_file
from segpipe.report.lettering import elide, style
from segpipe.report.wording import DISCLAIMER, printable
from segpipe.types import BoolMask, RgbImage

Colour = tuple[int, int, int]

COLUMNS = 4
TRUE_COLOUR, FOUND_COLOUR = (0, 158, 115), (240, 228, 66)  # green and yellow of Okabe and Ito
PAIR_HEADING = "true outline in green, found outline in yellow"

_DPI = 100
_PANEL_WIDTH, _IMAGE_HEIGHT, _LINE_HEIGHT, _TOP, _BOTTOM = 3.2, 2.5, 0.2, 0.4, 0.3  # inches
_TEXT_SIZE = 9
_MAX_IMAGE_SIDE = 640  # pixels: twice a panel's


@dataclass(frozen=True)
class Panel:
    """One photograph of a grid.

    Attributes:
        image: RGB uint8, (H, W, 3).
        outlines: masks, bool (H, W), each with the colour of its outline; the last lies on top.
        lines: what stands above it.
    """

    image: RgbImage
    outlines: tuple[tuple[BoolMask, Colour], ...]
    lines: tuple[str, ...]


def panel_of_pair(image: RgbImage, found: BoolMask, true: BoolMask, *lines: str) -> Panel:
    """A photograph with the outlines of the found mask and of the true one, see `PAIR_HEADING`."""
    return Panel(image, ((true, TRUE_COLOUR), (found, FOUND_COLOUR)), lines)


def draw_masks(path: Path, images: Sequence[RgbImage], pairs: Sequence[tuple[BoolMask, BoolMask]], titles: Sequence[str]) -> None:
    """Draw images with two outlines each into a PNG.

    Args:
        path: the file to write.
        images: RGB uint8, each (H, W, 3); at least one.
        pairs: found and true mask of each, bool (H, W).
        titles: of each.
    """
    cases = zip(images, pairs, titles, strict=True)
    draw_panels(path, (panel_of_pair(image, *pair, title) for image, pair, title in cases), heading=PAIR_HEADING)


def draw_panels(path: Path, panels: Iterable[Panel], *, heading: str) -> None:
    """Draw a grid of photographs with outlines into a PNG.

    Args:
        path: the file to write.
        panels: at least one, with equally many lines; taken one by one and kept small, so large photographs may come.
        heading: what stands above the grid.
    """
    drawn = [(_small_with_outlines(panel), panel.lines) for panel in panels]
    rows, lines = -(-len(drawn) // COLUMNS), len(drawn[0][1])
    text_height = lines * _LINE_HEIGHT
    height = rows * (_IMAGE_HEIGHT + text_height) + _TOP + _BOTTOM
    figure = Figure(figsize=(_PANEL_WIDTH * COLUMNS, height))
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    # By hand, because matplotlib's own layout of twenty panels takes as long as drawing them.
    top, bottom, hspace = 1 - (_TOP + text_height) / height, _BOTTOM / height, text_height / _IMAGE_HEIGHT
    figure.subplots_adjust(left=0.005, right=0.995, wspace=0.03, top=top, bottom=bottom, hspace=hspace)
    for place in axes:
        place.axis("off")
    for place, (image, texts) in zip(axes, drawn, strict=False):
        place.imshow(image)
        fitting = (elide(printable(text), 0.95 * _PANEL_WIDTH, size=_TEXT_SIZE) for text in texts)
        place.set_title("\n".join(fitting), **style(_TEXT_SIZE))
    figure.suptitle(heading, y=1 - 0.1 / height, va="top", fontsize=11)
    figure.text(0.5, 0.1 / height, DISCLAIMER, ha="center", va="bottom", fontsize=8)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    write_file(path, content.getvalue())


def _small_with_outlines(panel: Panel) -> RgbImage:
    image = panel.image
    for mask, colour in panel.outlines:
        image = outline(image, mask, colour)
    height, width = image.shape[:2]
    scale = _MAX_IMAGE_SIDE / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def outline(image: RgbImage, mask: BoolMask, colour: Colour) -> RgbImage:
    """A copy of an image, RGB uint8 (H, W, 3), with the outline of a mask, bool (H, W), in a colour."""
    require_mask(mask, size=require_image(image, min_side=1).shape[:2])
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(max(image.shape) / 200))
    return cv2.drawContours(np.ascontiguousarray(image).copy(), contours, -1, colour, width).astype(np.uint8)
