"""The panels of a finding, each drawn onto axes of its own: photograph, crop, heatmap and probabilities."""

from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke

from segpipe.diagnosis import full_name
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap, heatmap_on_image
from segpipe.report.lettering import GREY, elide, style, wrap
from segpipe.report.overlays import BOX_COLOR, HEATMAP_OPACITY, OUTLINE_COLOR, Preview
from segpipe.report.wording import (
    HEATMAP_CAPTION,
    MALIGNANT_SIGN,
    SIGN_CAPTION,
    crop_caption,
    malignant_sign,
    percent,
    photograph_caption,
    printable,
)
from segpipe.types import BoolMask

# Inches for each point of a title's size.
TITLE_LINE_HEIGHT = 1.2 / 72

_TRACK = "#eceef1"
# Vermilion and blue of Okabe and Ito, told apart with any colour vision.
_MALIGNANT, _OTHER = "#d55e00", "#0072b2"
_COLORMAP = "inferno"
# Room for a percentage, in inches for each point of the letters' size.
_PERCENT_WIDTH = 0.075
# The largest letters, as a share of a bar's pitch, that touch neither the bar below them nor the one above.
_MAX_LETTERS = 0.55


@dataclass(frozen=True)
class Place:
    """Where a panel lies on its figure, in inches from the left and from the top."""

    left: float
    top: float
    width: float
    height: float


def add_panel(figure: Figure, place: Place, title: str, *, size: float) -> Axes:
    """Empty axes with a title above them.

    Args:
        figure: gets the panel.
        place: of the axes, without title and caption.
        title: one or more lines.
        size: of the title, points.
    """
    page_width, page_height = figure.get_figwidth(), figure.get_figheight()
    bottom = page_height - place.top - place.height
    fractions = place.left / page_width, bottom / page_height, place.width / page_width, place.height / page_height
    # A photograph that does not fill its panel hangs from the top, under its title.
    axes = figure.add_axes(fractions, anchor="NW", xticks=[], yticks=[])
    axes.set_title(title, loc="left", pad=7, **style(size, bold=True))
    axes.spines[:].set_visible(False)
    return axes


def draw_photograph(axes: Axes, preview: Preview, finding: Finding, *, size: float) -> None:
    """The photograph with the lesion's outline and the crop box; letters are of `size` points."""
    axes.imshow(preview.image)
    _draw_outline(axes, preview.mask)
    box = preview.crop_box
    # A pixel's whole number is its centre, half a pixel from its edge.
    frame = Rectangle((box.left - 0.5, box.top - 0.5), box.width, box.height, fill=False, clip_on=False)
    frame.set(edgecolor=BOX_COLOR, linewidth=1.2, linestyle=(0, (5, 3)), path_effects=[_halo()])
    axes.add_patch(frame)
    _caption(axes, photograph_caption(finding.localization.source), size=size)


def _draw_outline(axes: Axes, mask: BoolMask) -> None:
    if mask.all():
        return
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        line = Polygon(outline[:, 0], closed=True, fill=False)
        axes.add_patch(line).set(edgecolor=OUTLINE_COLOR, linewidth=1.2, path_effects=[_halo()])


def _halo() -> withStroke:
    """The dark second tone of a line, so that it shows on any skin."""
    return withStroke(linewidth=2.8, foreground="black", alpha=0.8)


def draw_crop(axes: Axes, finding: Finding, *, size: float) -> None:
    """What the network saw, with the size in which it was cut out; letters are of `size` points."""
    axes.imshow(finding.crop)
    room = axes.get_window_extent().width / axes.figure.dpi
    _caption(axes, "\n".join(wrap(crop_caption(finding.crop_box, finding.border), room, size=size)), size=size)


def draw_heatmap(axes: Axes, preview: Preview, class_map: ClassMap, *, size: float) -> None:
    """The photograph under the heatmap, with the lesion's outline; letters are of `size` points."""
    values = heatmap_on_image(class_map, preview.crop_box, *preview.mask.shape)
    axes.imshow(preview.image)
    axes.imshow(values, cmap=_COLORMAP, vmin=0, vmax=1, alpha=HEATMAP_OPACITY * values)
    _draw_outline(axes, preview.mask)
    _caption(axes, HEATMAP_CAPTION, size=size)


def heatmap_title(class_map: ClassMap, room: float, *, size: float) -> list[str]:
    """The title of a heatmap's panel, in lines that fit into `room` inches at `size` points."""
    return wrap(f"Heatmap: {printable(full_name(class_map.diagnosis))}", room, size=size, bold=True)


def draw_probabilities(axes: Axes, finding: Finding, *, size: float) -> None:
    """One bar for each class, the most probable one first.

    Args:
        axes: of any size; their height is shared among the bars.
        finding: whose probabilities are drawn.
        size: of the letters, points; less where the bars are too close for them.
    """
    extent, dpi = axes.get_window_extent(), axes.figure.dpi
    letters = min(size, _MAX_LETTERS * extent.height / dpi / len(finding.probabilities) * 72)
    room = extent.width / dpi - _PERCENT_WIDTH * letters
    axes.set(xlim=(0, 1), ylim=(len(finding.probabilities), 0))
    for row, (code, prob) in enumerate(sorted(finding.probabilities.items(), key=lambda item: -item[1])):
        chosen, malignant = code == finding.diagnosis, code in finding.malignant
        name = malignant_sign(malignant) + printable(full_name(code))
        name = elide(name, room, size=letters, bold=chosen)
        axes.text(0, row + 0.45, name, **style(letters, bold=chosen))
        axes.text(1, row + 0.45, percent(prob), horizontalalignment="right", **style(letters, bold=chosen))
        axes.barh(row + 0.7, 1, height=0.2, color=_TRACK)
        axes.barh(row + 0.7, prob, height=0.2, color=answer_color(malignant), alpha=1.0 if chosen else 0.5)
    if finding.malignant:
        _caption(axes, f"{MALIGNANT_SIGN} {SIGN_CAPTION}", size=size)


def answer_color(malignant: bool) -> str:
    """The colour of a class."""
    return _MALIGNANT if malignant else _OTHER


def _caption(axes: Axes, text: str, *, size: float) -> None:
    axes.set_xlabel(text, loc="left", labelpad=6, **style(size, color=GREY))
