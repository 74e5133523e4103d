"""Drawing surface of figures and pages, measured from its upper left corner."""

from dataclasses import dataclass
from typing import Literal, Protocol

from segpipe.types import FloatArray, RgbImage

# RGB, each from 0 to 255.
Color = tuple[int, int, int]

INK, GRAY = (31, 35, 40), (92, 99, 107)
# The dark halo keeps a bright line visible on any skin.
HALO_COLOR, HALO_OPACITY = (16, 16, 16), 0.8


@dataclass(frozen=True)
class Area:
    """Rectangle on a canvas, in inches."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Right edge, inches from the left edge of the canvas."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Lower edge, inches from the upper edge of the canvas."""
        return self.top + self.height

    def fit(self, ratio: float) -> "Area":
        """Largest area of a width-to-height ratio at the upper left."""
        width = min(self.width, self.height * ratio)
        return Area(self.left, self.top, width, width / ratio)


@dataclass(frozen=True)
class Stroke:
    """Appearance of a line; widths and lengths are points.

    Attributes:
        color: Color of the line.
        width: Width of the line.
        halo: Width of the halo beneath; 0 for none.
        dashes: Lengths of a dash and of the space behind it; None for a solid line.
    """

    color: Color
    width: float
    halo: float = 0.0
    dashes: tuple[float, float] | None = None


class Canvas(Protocol):
    """White surface for text, images, bars and outlines.

    Lengths are inches, font sizes points.
    """

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
        """Write one line of text.

        Args:
            left: Left end of the line; its right end with `align="right"`.
            baseline: Distance of the baseline from the upper edge.
            text: One line, of characters that the font has.
            size: Font size.
            bold: True for bold letters.
            color: Color of the text.
            align: End of the line that lies at `left`.
        """

    def draw_image(self, area: Area, image: RgbImage) -> None:
        """Fill an area with an image, RGB uint8, shape (H, W, 3)."""

    def fill(self, area: Area, color: Color, *, opacity: float = 1.0) -> None:
        """Fill an area with a color, opacity in [0, 1]."""

    def outline(self, points: FloatArray, stroke: Stroke) -> None:
        """Draw the outline of a polygon.

        Args:
            points: Corners (x, y), shape (N, 2); the last is joined to the first.
            stroke: Appearance of the line.
        """
