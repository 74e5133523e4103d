"""Panels of a finding on matplotlib axes: image, crop, heatmap and probabilities."""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke

from segpipe.diagnosis import full_name
from segpipe.inference.finding import Finding
from segpipe.report.lettering import GRAY, elide, text_style, wrap
from segpipe.report.overlays import BOX_COLOR, HALO_COLOR, OUTLINE_COLOR, Color, Preview, blend_heatmap
from segpipe.report.wording import (
    CROP_TITLE,
    HEATMAP_CAPTION,
    HEATMAP_TITLE,
    IMAGE_TITLE,
    MALIGNANT_SIGN,
    PROBABILITIES_TITLE,
    SIGN_CAPTION,
    crop_caption,
    image_caption,
    malignant_sign,
    percent,
    printable,
)

# Inches for each point of a title's font size.
TITLE_LINE_HEIGHT = 1.2 / 72

_LINE_WIDTH, _HALO_WIDTH = 1.2, 2.8  # points
_TRACK = "#eceef1"
# Vermilion and blue of Okabe and Ito, distinct with any color vision.
_MALIGNANT, _OTHER = "#d55e00", "#0072b2"
# Width of a percentage, in inches for each point of the font size.
_PERCENT_WIDTH = 0.075
# Largest font size that touches neither the bar below nor the one above, as a fraction of the distance between bars.
_MAX_FONT_FRACTION = 0.55


@dataclass(frozen=True)
class Area:
    """Position of a panel without title and caption, in inches."""

    left: float
    top: float
    width: float
    height: float


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


def draw_panels(figure: Figure, layout: PanelLayout, preview: Preview, finding: Finding) -> None:
    """Draw all panels of a finding, with titles and captions.

    Args:
        figure: Figure to draw on.
        layout: Positions and font sizes.
        preview: Reduced image of the finding.
        finding: Finding to draw.
    """
    title_size, text_size = layout.title_size, layout.text_size
    _draw_image(_add_panel(figure, layout.image, IMAGE_TITLE, size=title_size), preview, finding, size=text_size)
    _draw_crop(_add_panel(figure, layout.crop, CROP_TITLE, size=title_size), finding, size=text_size)
    if layout.heatmap is not None and finding.class_map is not None:
        title = "\n".join(heatmap_title(finding, layout.heatmap.width, size=title_size))
        axes = _add_panel(figure, layout.heatmap, title, size=title_size)
        axes.imshow(blend_heatmap(preview, finding.class_map))
        _draw_outline(axes, preview)
        _caption(axes, HEATMAP_CAPTION, size=text_size)
    bars = _add_panel(figure, layout.probabilities, PROBABILITIES_TITLE, size=title_size)
    _draw_probabilities(bars, finding, size=text_size)


def heatmap_title(finding: Finding, room: float, *, size: float) -> list[str]:
    """Break the title of the heatmap into lines of `room` inches."""
    if finding.class_map is None:
        return [HEATMAP_TITLE]
    return wrap(f"{HEATMAP_TITLE}: {printable(full_name(finding.class_map.diagnosis))}", room, size=size, bold=True)


def class_color(malignant: bool) -> str:
    """Color of malignant and of other classes."""
    return _MALIGNANT if malignant else _OTHER


def _add_panel(figure: Figure, area: Area, title: str, *, size: float) -> Axes:
    page_width, page_height = figure.get_figwidth(), figure.get_figheight()
    bottom = page_height - area.top - area.height
    fractions = area.left / page_width, bottom / page_height, area.width / page_width, area.height / page_height
    # An image that does not fill its panel is aligned with its title.
    axes = figure.add_axes(fractions, anchor="NW", xticks=[], yticks=[])
    axes.set_title(title, loc="left", pad=7, **text_style(size, bold=True))
    axes.spines[:].set_visible(False)
    return axes


def _caption(axes: Axes, text: str, *, size: float) -> None:
    lines = wrap(text, axes.get_window_extent().width / axes.figure.dpi, size=size)
    axes.set_xlabel("\n".join(lines), loc="left", labelpad=6, **text_style(size, color=GRAY))


def _draw_image(axes: Axes, preview: Preview, finding: Finding, *, size: float) -> None:
    axes.imshow(preview.image)
    _draw_outline(axes, preview)
    box = preview.crop_box
    # Integer coordinates are the centers of pixels, half a pixel from their edges.
    frame = Rectangle((box.left - 0.5, box.top - 0.5), box.width, box.height, fill=False, clip_on=False)
    frame.set(edgecolor=_rgb(BOX_COLOR), linewidth=_LINE_WIDTH, linestyle=(0, (5, 3)), path_effects=[_halo()])
    axes.add_patch(frame)
    _caption(axes, image_caption(finding.localization.source), size=size)


def _draw_outline(axes: Axes, preview: Preview) -> None:
    """Draw the contours as vector lines, which stay sharp in a PDF."""
    for contour in preview.contours:
        line = Polygon(contour[:, 0], closed=True, fill=False)
        axes.add_patch(line).set(edgecolor=_rgb(OUTLINE_COLOR), linewidth=_LINE_WIDTH, path_effects=[_halo()])


def _halo() -> withStroke:
    return withStroke(linewidth=_HALO_WIDTH, foreground=_rgb(HALO_COLOR), alpha=0.8)


def _rgb(color: Color) -> tuple[float, ...]:
    return tuple(value / 255 for value in color)


def _draw_crop(axes: Axes, finding: Finding, *, size: float) -> None:
    axes.imshow(finding.crop)
    _caption(axes, crop_caption(finding.crop_box, finding.border), size=size)


def _draw_probabilities(axes: Axes, finding: Finding, *, size: float) -> None:
    """Draw a bar for each class, the most probable first."""
    extent, dpi = axes.get_window_extent(), axes.figure.dpi
    letters = min(size, _MAX_FONT_FRACTION * extent.height / dpi / len(finding.probabilities) * 72)
    room = extent.width / dpi - _PERCENT_WIDTH * letters
    axes.set(xlim=(0, 1), ylim=(len(finding.probabilities), 0))
    for row, (code, prob) in enumerate(sorted(finding.probabilities.items(), key=lambda item: -item[1])):
        chosen, malignant = code == finding.diagnosis, code in finding.malignant
        name = malignant_sign(malignant) + printable(full_name(code))
        axes.text(0, row + 0.45, elide(name, room, size=letters, bold=chosen), **text_style(letters, bold=chosen))
        axes.text(1, row + 0.45, percent(prob), horizontalalignment="right", **text_style(letters, bold=chosen))
        axes.barh(row + 0.7, 1, height=0.2, color=_TRACK)
        axes.barh(row + 0.7, prob, height=0.2, color=class_color(malignant), alpha=1.0 if chosen else 0.5)
    if finding.malignant:
        _caption(axes, f"{MALIGNANT_SIGN} {SIGN_CAPTION}", size=size)
