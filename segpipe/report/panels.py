"""Panels of a finding: image, crop, heatmap and probabilities."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segpipe.inference.finding import Finding
from segpipe.language import translate
from segpipe.metrics.trust import AMBER, GREEN, RED
from segpipe.report.canvas import GRAY, Area, Canvas, Color, Stroke, elide, wrap
from segpipe.report.overlays import BOX_COLOR, OUTLINE_COLOR, Preview, blend_heatmap
from segpipe.report.wording import (
    CROP_TITLE,
    HEATMAP_CAPTION,
    HEATMAP_TITLE,
    IMAGE_TITLE,
    MALIGNANT_SIGN,
    PROBABILITIES_TITLE,
    SIGN_CAPTION,
    class_name,
    crop_caption,
    image_caption,
    malignant_sign,
    percent,
)
from segpipe.types import FloatArray, RgbImage

# Inches for each point of the font size, from one line of a title or caption to the next.
TITLE_LINE_HEIGHT = 1.2 / 72

# Inches between a panel and the baseline of its title, or the upper end of its caption.
_TITLE_GAP, _CAPTION_GAP = 7 / 72, 6 / 72
# Height of letters above the baseline, in inches for each point of the font size.
_ASCENT = 0.76 / 72
_OUTLINE = Stroke(OUTLINE_COLOR, 1.2, halo=2.8)
_FRAME = Stroke(BOX_COLOR, 1.2, halo=2.8, dashes=(6.0, 3.6))
_TRACK = (236, 238, 241)
# Vermilion and blue of Okabe and Ito, distinct with any color vision.
_MALIGNANT, _OTHER = (213, 94, 0), (0, 114, 178)
_TRUST = {GREEN: (26, 127, 55), AMBER: (138, 90, 0), RED: (193, 18, 31)}
# Width of a percentage, in inches for each point of the font size.
_PERCENT_WIDTH = 0.075
# Largest font size that touches neither the bar below nor the one above, as a fraction of the distance between bars.
_MAX_FONT_FRACTION = 0.55
# Baseline of a name, upper edge and height of its bar, as fractions of the distance between bars.
_NAME, _BAR, _BAR_HEIGHT = 0.45, 0.6, 0.2


@dataclass(frozen=True)
class PanelLayout:
    """Positions and font sizes of the panels of a finding.

    Attributes:
        image: Area of the image.
        crop: Area of the crop.
        heatmap: Area of the heatmap; None without a heatmap.
        probabilities: Area of the bars.
        title_size: Font size of titles, points.
        text_size: Font size of captions and bars, points.
    """

    image: Area
    crop: Area
    heatmap: Area | None
    probabilities: Area
    title_size: float
    text_size: float


def draw_panels(canvas: Canvas, layout: PanelLayout, preview: Preview, finding: Finding) -> None:
    """Draw all panels of a finding, with titles and captions.

    Args:
        canvas: Canvas to draw on.
        layout: Positions and font sizes.
        preview: Reduced image of the finding.
        finding: Finding to draw.
    """
    panels = Panels(canvas, layout.title_size, layout.text_size)
    image = panels.show(layout.image, [translate(IMAGE_TITLE)], preview.image, image_caption(finding.localization.source))
    panels.draw_contours(image, preview)
    panels.draw_crop_box(image, preview)
    panels.show(layout.crop, [translate(CROP_TITLE)], finding.crop, crop_caption(finding.crop_box, finding.border))
    if layout.heatmap is not None and finding.class_map is not None:
        title = heatmap_title(finding, layout.heatmap.width, size=layout.title_size)
        heatmap = panels.show(layout.heatmap, title, blend_heatmap(preview, finding.class_map), translate(HEATMAP_CAPTION))
        panels.draw_contours(heatmap, preview)
    panels.draw_probabilities(layout.probabilities, finding.probabilities, finding.malignant)


def heatmap_title(finding: Finding, room: float, *, size: float) -> list[str]:
    """Break the title of the heatmap into lines of `room` inches."""
    if finding.class_map is None:
        return [translate(HEATMAP_TITLE)]
    return wrap(f"{translate(HEATMAP_TITLE)}: {class_name(finding.class_map.diagnosis)}", room, size=size, bold=True)


def class_color(malignant: bool) -> Color:
    """Color of malignant and of other classes."""
    return _MALIGNANT if malignant else _OTHER


def trust_color(name: str) -> Color:
    """Color of the text that says how far to trust a finding."""
    return _TRUST[name]


@dataclass(frozen=True)
class Panels:
    """Canvas and font sizes of all panels.

    Attributes:
        canvas: Canvas to draw on.
        title_size: Font size of titles, points.
        text_size: Font size of captions and bars, points.
    """

    canvas: Canvas
    title_size: float
    text_size: float

    def show(self, area: Area, title: Sequence[str], image: RgbImage, caption: str) -> Area:
        """Draw an image with title and caption; return its area."""
        height, width = image.shape[:2]
        filled = area.fit(width / height)
        self.canvas.draw_image(filled, image)
        self.write_title(area, title)
        self.write_caption(area, filled.bottom, caption)
        return filled

    def write_title(self, area: Area, lines: Sequence[str]) -> None:
        """Write the lines of a title above an area."""
        for above, line in enumerate(reversed(lines)):
            baseline = area.top - _TITLE_GAP - above * self.title_size * TITLE_LINE_HEIGHT
            self.canvas.write(area.left, baseline, line, size=self.title_size, bold=True)

    def write_caption(self, area: Area, top: float, text: str) -> None:
        """Write a caption of the width of an area below `top`, inches."""
        for below, line in enumerate(wrap(text, area.width, size=self.text_size)):
            baseline = top + _CAPTION_GAP + self.text_size * (_ASCENT + below * TITLE_LINE_HEIGHT)
            self.canvas.write(area.left, baseline, line, size=self.text_size, color=GRAY)

    def draw_contours(self, area: Area, preview: Preview) -> None:
        """Draw the lesion outline as lines, which stay sharp in a PDF."""
        for contour in preview.contours:
            # Integer coordinates are the centers of pixels, half a pixel from their edges.
            self.canvas.outline(_to_inches(contour[:, 0] + 0.5, area, preview), _OUTLINE)

    def draw_crop_box(self, area: Area, preview: Preview) -> None:
        """Draw the dashed box of the crop."""
        box = preview.crop_box
        corners = [(box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom)]
        self.canvas.outline(_to_inches(np.array(corners), area, preview), _FRAME)

    def draw_probabilities(
        self, area: Area, probabilities: Mapping[str, float], malignant: Collection[str], *, lines: int = 1
    ) -> None:
        """Draw a bar for each class, the most probable first.

        Args:
            area: Area of the bars.
            probabilities: Probability of each class by code.
            malignant: Codes of the malignant classes.
            lines: Largest number of lines of a name; longer names are shortened.
        """
        canvas, room = self.canvas, area.width - _PERCENT_WIDTH * self.text_size
        ordered = sorted(probabilities.items(), key=lambda item: -item[1])
        names = [
            _name_lines(code, room, malignant, size=self.text_size, bold=code == ordered[0][0], most=lines) for code, _ in ordered
        ]
        pitch = area.height / sum(1 + _NAME * (len(name) - 1) for name in names)
        size = min(self.text_size, _MAX_FONT_FRACTION * pitch * 72)
        self.write_title(area, [translate(PROBABILITIES_TITLE)])
        top = area.top
        for (code, prob), name in zip(ordered, names, strict=True):
            chosen = code == ordered[0][0]
            first = top + _NAME * pitch
            for line in name:
                top += _NAME * pitch
                canvas.write(area.left, top, line, size=size, bold=chosen)
            canvas.write(area.right, first, percent(prob), size=size, bold=chosen, align="right")
            bar = Area(area.left, top + (_BAR - _NAME) * pitch, area.width, _BAR_HEIGHT * pitch)
            canvas.fill(bar, _TRACK)
            canvas.fill(replace(bar, width=prob * bar.width), class_color(code in malignant), opacity=1.0 if chosen else 0.5)
            top += (1 - _NAME) * pitch
        if malignant:
            self.write_caption(area, area.bottom, f"{MALIGNANT_SIGN} {translate(SIGN_CAPTION)}")


def _name_lines(code: str, room: float, malignant: Collection[str], *, size: float, bold: bool, most: int) -> list[str]:
    """Break a class name into at most `most` lines of `room`."""
    name = malignant_sign(code in malignant) + class_name(code)
    if most == 1:
        return [elide(name, room, size=size, bold=bold)]
    lines = wrap(name, room, size=size, bold=bold)
    return [*lines[: most - 1], elide(" ".join(lines[most - 1 :]), room, size=size, bold=bold)] if len(lines) > most else lines


def _to_inches(points: FloatArray, area: Area, preview: Preview) -> FloatArray:
    """Convert pixels (x, y) of an image to positions on the canvas."""
    height, width = preview.mask.shape
    return points / (width, height) * (area.width, area.height) + (area.left, area.top)
