"""Drawing with matplotlib: canvas of vectors, and grids of outlined images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Affine2D

from segpipe.io.files import write_file
from segpipe.report.canvas import HALO_COLOR, HALO_OPACITY, INK, Area, Color, Stroke, elide, font_file
from segpipe.report.overlays import PREDICTED_COLOR, TRUE_COLOR, draw_outline
from segpipe.report.wording import DISCLAIMER, printable
from segpipe.types import BoolMask, FloatArray, RgbImage

COLUMNS = 4
PAIR_HEADING = "true outline in green, predicted outline in yellow"

_DPI = 100
_PANEL_WIDTH, _IMAGE_HEIGHT, _LINE_HEIGHT, _TOP, _BOTTOM = 3.2, 2.5, 0.2, 0.4, 0.3  # inches
_TEXT_SIZE = 9
_MAX_IMAGE_SIDE = 640  # pixels: twice a panel's


class PlotCanvas:
    """Figure outside pyplot, which needs no display and is safe in threads.

    Attributes:
        figure: Figure that is drawn on.
    """

    def __init__(self, width: float, height: float, *, dpi: int = 100) -> None:
        """Make a white figure.

        Args:
            width: Width in inches.
            height: Height in inches.
            dpi: Pixels of images and of the rasterized figure, per inch.
        """
        self.figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
        self._inches = Affine2D().scale(1, -1).translate(0, height) + self.figure.dpi_scale_trans

    def write(
        self,
        left: float,
        baseline: float,
        text: str,
        *,
        size: float,
        bold: bool = False,
        color: Color = INK,
        align: Literal["left", "right"] = "left",
    ) -> None:
        """Write one line of text, see `Canvas`."""
        style = text_style(size, bold=bold, color=color)
        self.figure.text(left, baseline, text, transform=self._inches, horizontalalignment=align, **style)

    def draw_image(self, area: Area, image: RgbImage) -> None:
        """Fill an area with an image, see `Canvas`."""
        width, height = self.figure.get_size_inches()
        fractions = area.left / width, 1 - area.bottom / height, area.width / width, area.height / height
        axes = self.figure.add_axes(fractions)
        axes.imshow(image, aspect="auto")
        axes.axis("off")

    def fill(self, area: Area, color: Color, *, opacity: float = 1.0) -> None:
        """Fill an area with a color, see `Canvas`."""
        bar = Rectangle((area.left, area.top), area.width, area.height, transform=self._inches)
        self.figure.add_artist(bar).set(facecolor=_rgb(color), edgecolor="none", alpha=opacity)

    def outline(self, points: FloatArray, stroke: Stroke) -> None:
        """Draw the outline of a polygon, see `Canvas`."""
        line = self.figure.add_artist(Polygon(points, closed=True, fill=False, transform=self._inches))
        line.set(edgecolor=_rgb(stroke.color), linewidth=stroke.width)
        if stroke.dashes is not None:
            # Matplotlib multiplies the lengths by the width of the line.
            line.set(linestyle=(0, [length / stroke.width for length in stroke.dashes]))
        if stroke.halo:
            line.set(path_effects=[withStroke(linewidth=stroke.halo, foreground=_rgb(HALO_COLOR), alpha=HALO_OPACITY)])

    def encode_pdf(self, metadata: Mapping[str, str | None]) -> bytes:
        """Encode the figure as a PDF page of its size.

        Args:
            metadata: Entries of the file; None leaves one out.
        """
        content = BytesIO()
        FigureCanvasPdf(self.figure).print_pdf(content, metadata=dict(metadata))  # type: ignore[no-untyped-call]
        return content.getvalue()


def text_style(size: float, *, bold: bool = False, color: Color = INK) -> dict[str, Any]:
    """Return text arguments for matplotlib's `text`, `set_title` and the like.

    Args:
        size: Font size in points.
        bold: True for bold letters.
        color: Color of the text.
    """
    font = FontProperties(fname=font_file(bold=bold), weight="bold" if bold else "normal", size=size)
    # A file name with two dollar signs is a file name, not a formula.
    return {"fontproperties": font, "color": _rgb(color), "parse_math": False, "usetex": False}


def _rgb(color: Color) -> tuple[float, float, float]:
    red, green, blue = color
    return red / 255, green / 255, blue / 255


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
