"""Canvas of vectors, a matplotlib figure."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any, Literal

from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Affine2D

from segpipe.report.canvas import HALO_COLOR, HALO_OPACITY, INK, Area, Color, Stroke
from segpipe.report.lettering import font_file
from segpipe.types import FloatArray, RgbImage


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
