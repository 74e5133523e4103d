"""Canvas of a PDF: vector text and lines, JPEG images."""

from io import BytesIO
from typing import Literal

import cv2
import numpy as np
from fpdf import FPDF

from segpipe.report.canvas import HALO_COLOR, HALO_OPACITY, INK, Area, Color, Stroke, font_file, text_width
from segpipe.report.overlays import encode_jpeg
from segpipe.types import FloatArray, RgbImage

_FONT = "segpipe"
_DPI = 250  # of images, at most


class PdfCanvas:
    """Canvas of a PDF's last page; lengths as in `Canvas`.

    Args:
        width: Width of the pages in inches.
        height: Height of the pages in inches.
        title: Title of the file.
    """

    def __init__(self, width: float, height: float, *, title: str) -> None:
        self._pdf = FPDF(unit="in", format=(width, height))
        self._pdf.set_auto_page_break(False)
        self._pdf.set_margin(0)
        self._pdf.c_margin = 0
        self._pdf.set_title(title)
        self._pdf.set_creator("segpipe")
        self._pdf.set_lang("en")
        for style, bold in (("", False), ("B", True)):
            self._pdf.add_font(_FONT, style, font_file(bold=bold))

    def new_page(self, *, bookmark: str | None = None) -> None:
        """Add a page, on which everything is drawn from now on.

        Args:
            bookmark: Name of the page in the outline of the file; None for none.
        """
        self._pdf.add_page()
        if bookmark is not None:
            self._pdf.start_section(bookmark)

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
        if not text:
            return
        self._pdf.set_font(_FONT, "B" if bold else "", size)
        self._pdf.set_text_color(*color)
        self._pdf.text(left - (text_width(text, size=size, bold=bold) if align == "right" else 0), baseline, text)

    def draw_image(self, area: Area, image: RgbImage) -> None:
        """Fill an area with an image, see `Canvas`."""
        size = max(1, round(area.width * _DPI)), max(1, round(area.height * _DPI))
        if size[0] < image.shape[1]:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        self._pdf.image(BytesIO(encode_jpeg(image)), area.left, area.top, area.width, area.height)

    def fill(self, area: Area, color: Color, *, opacity: float = 1.0) -> None:
        """Fill an area with a color, see `Canvas`."""
        with self._pdf.local_context(fill_opacity=opacity):
            self._pdf.set_fill_color(*color)
            self._pdf.rect(area.left, area.top, area.width, area.height, style="F")

    def outline(self, points: FloatArray, stroke: Stroke) -> None:
        """Draw the outline of a polygon, see `Canvas`."""
        if stroke.halo:
            self._outline(points, Stroke(HALO_COLOR, stroke.halo), opacity=HALO_OPACITY)
        self._outline(points, stroke)

    def _outline(self, points: FloatArray, stroke: Stroke, *, opacity: float = 1.0) -> None:
        with self._pdf.local_context(stroke_opacity=opacity):
            self._pdf.set_draw_color(*stroke.color)
            self._pdf.set_line_width(stroke.width / 72)
            if stroke.dashes is not None:
                dash, space = stroke.dashes
                self._pdf.set_dash_pattern(dash / 72, space / 72)
            self._pdf.polygon([(x, y) for x, y in points.tolist()], style="D")

    def encode(self) -> bytes:
        """Encode all pages."""
        return bytes(self._pdf.output())
