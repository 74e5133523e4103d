"""Grids of images with the outlines of predicted and true masks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from segpipe.io.files import write_file
from segpipe.report.canvas import Color
from segpipe.report.lettering import elide
from segpipe.report.overlays import draw_outline
from segpipe.report.plot_canvas import text_style
from segpipe.report.wording import DISCLAIMER, printable
from segpipe.types import BoolMask, RgbImage

COLUMNS = 4
TRUE_COLOR, PREDICTED_COLOR = (0, 158, 115), (240, 228, 66)  # green and yellow of Okabe and Ito
PAIR_HEADING = "true outline in green, predicted outline in yellow"

_DPI = 100
_PANEL_WIDTH, _IMAGE_HEIGHT, _LINE_HEIGHT, _TOP, _BOTTOM = 3.2, 2.5, 0.2, 0.4, 0.3  # inches
_TEXT_SIZE = 9
_MAX_IMAGE_SIDE = 640  # pixels: twice a panel's


@dataclass(frozen=True)
class Panel:
    """One image of a grid.

    Attributes:
        image: RGB uint8, shape (H, W, 3).
        outlines: Masks, bool (H, W), each with the color of its outline; the last lies on top.
        lines: Lines of text above the image.
    """

    image: RgbImage
    outlines: tuple[tuple[BoolMask, Color], ...]
    lines: tuple[str, ...]


def panel_of_pair(image: RgbImage, predicted: BoolMask, true: BoolMask, *lines: str) -> Panel:
    """Make a panel with a predicted and a true outline."""
    return Panel(image, ((true, TRUE_COLOR), (predicted, PREDICTED_COLOR)), lines)


def draw_masks(path: Path, images: Sequence[RgbImage], pairs: Sequence[tuple[BoolMask, BoolMask]], titles: Sequence[str]) -> None:
    """Draw images with two outlines each into a PNG.

    Args:
        path: File to write.
        images: RGB uint8, each (H, W, 3); at least one.
        pairs: Predicted and true mask of each image, bool (H, W).
        titles: Title of each image.
    """
    cases = zip(images, pairs, titles, strict=True)
    draw_panels(path, (panel_of_pair(image, *pair, title) for image, pair, title in cases), heading=PAIR_HEADING)


def draw_panels(path: Path, panels: Iterable[Panel], *, heading: str) -> None:
    """Draw a grid of images with outlines into a PNG.

    Args:
        path: File to write.
        panels: One or more panels with equal numbers of lines; read one by one and reduced, so they may be lazy and large.
        heading: Text above the grid.
    """
    drawn = [(_small_with_outlines(panel), panel.lines) for panel in panels]
    rows, lines = -(-len(drawn) // COLUMNS), len(drawn[0][1])
    text_height = lines * _LINE_HEIGHT
    height = rows * (_IMAGE_HEIGHT + text_height) + _TOP + _BOTTOM
    figure = Figure(figsize=(_PANEL_WIDTH * COLUMNS, height))
    grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    # Set explicitly, because matplotlib's own layout of twenty panels takes as long as drawing them.
    top, bottom, hspace = 1 - (_TOP + text_height) / height, _BOTTOM / height, text_height / _IMAGE_HEIGHT
    figure.subplots_adjust(left=0.005, right=0.995, wspace=0.03, top=top, bottom=bottom, hspace=hspace)
    for axes in grid:
        axes.axis("off")
    for axes, (image, texts) in zip(grid, drawn, strict=False):
        axes.imshow(image)
        fitting = (elide(printable(text), 0.95 * _PANEL_WIDTH, size=_TEXT_SIZE) for text in texts)
        axes.set_title("\n".join(fitting), **text_style(_TEXT_SIZE))
    figure.suptitle(heading, y=1 - 0.1 / height, va="top", fontsize=11)
    figure.text(0.5, 0.1 / height, DISCLAIMER, ha="center", va="bottom", fontsize=8)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    write_file(path, content.getvalue())


def _small_with_outlines(panel: Panel) -> RgbImage:
    image, longer_side = panel.image, max(panel.image.shape)
    for mask, color in panel.outlines:
        image = draw_outline(image, mask, color, width=max(1, round(longer_side / 200)), halo=False)
    height, width = image.shape[:2]
    scale = _MAX_IMAGE_SIDE / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
