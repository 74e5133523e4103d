"""One finding as a figure for a talk or a record: photograph, crop, heatmap and probabilities side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke

from segpipe.diagnosis import full_name
from segpipe.image_io import BoolMask, RgbImage, encode_png, write_file
from segpipe.inference.finding import Finding, Heatmap
from segpipe.inference.heatmap import heatmap_on_image
from segpipe.report import (
    CROP_CAPTION,
    DISCLAIMER,
    HEATMAP_CAPTION,
    MALIGNANT_SIGN,
    certainty_words,
    name_with_code,
    outline_words,
    percent,
    photograph_caption,
    printable,
    reason_words,
)
from segpipe.report.lettering import INK, elide, style, wrap
from segpipe.report.preview import BOX_COLOR, HEATMAP_OPACITY, OUTLINE_COLOR, Preview, make_preview

MAX_IMAGE_SIDE = 1200

# All lengths are inches; at 100 dots per inch the figure is 1600 pixels wide.
_DPI = 100
_WIDTH = 16.0
_MARGIN = 0.4
_TEXT_WIDTH = _WIDTH - 2 * _MARGIN
_GAP = 0.35
_MAX_IMAGE_HEIGHT = 4.2
_MIN_BARS_WIDTH, _PERCENT_WIDTH = 4.8, 0.75
_BAR_PITCH = 0.38
# Beyond these width-to-height ratios a photograph no longer fills its panel, so that the others keep a useful size.
_PANEL_RATIOS = (0.7, 1.9)

_ANSWER_SIZE, _TITLE_SIZE, _TEXT_SIZE, _SMALL_SIZE = 22, 12, 11, 10
# Inches for each point of the font size.
_LINE_HEIGHT, _TITLE_LINE_HEIGHT = 1.5 / 72, 1.2 / 72
_GREY, _TRACK = "#5c636b", "#eceef1"
# Vermilion and blue of Okabe and Ito, told apart with any colour vision.
_MALIGNANT, _OTHER = "#d55e00", "#0072b2"
_COLORMAP = "inferno"


@dataclass(frozen=True)
class _Layout:
    """Lengths in inches, `panels_top` from the top of the figure."""

    photograph_width: float
    image_height: float
    bars_height: float
    panels_top: float
    figure_height: float


def write_figure(path: Path, image: RgbImage, finding: Finding, *, title: str) -> None:
    """Draw a finding into a PNG file about 1600 pixels wide; the folder is made where it is missing.

    Args:
        path: the file to write.
        image: the photograph, RGB uint8, shape (H, W, 3).
        finding: what the pipeline says of `image`.
        title: what to call the photograph, usually its file name; any characters.

    Raises:
        ValueError: `finding` does not fit the size of `image`.
        OutputError: the file cannot be written.
    """
    write_file(path, encode_figure(image, finding, title))


def encode_figure(image: RgbImage, finding: Finding, title: str) -> bytes:
    """The figure of `write_figure` as the bytes of a PNG file."""
    canvas = FigureCanvasAgg(draw_finding(image, finding, title=title))
    canvas.draw()  # type: ignore[no-untyped-call]
    return encode_png(np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3])  # type: ignore[no-untyped-call]


def draw_finding(image: RgbImage, finding: Finding, *, title: str) -> Figure:
    """Draw a finding: photograph with outline and crop box, crop, heatmap where there is one, and probabilities.

    The figure stands outside pyplot: it needs no closing, and threads may draw at the same time.

    Args:
        image: the photograph, RGB uint8, shape (H, W, 3).
        finding: what the pipeline says of `image`.
        title: what to call the photograph, usually its file name; any characters.

    Raises:
        ValueError: `finding` does not fit the size of `image`.
    """
    preview = make_preview(image, finding, max_side=MAX_IMAGE_SIDE)
    header = _header_lines(finding)
    layout = _lay_out(preview, finding, header_lines=len(header))
    figure = Figure(figsize=(_WIDTH, layout.figure_height), dpi=_DPI, facecolor="white")
    _write_header(figure, finding, header, title=title)
    _draw_panels(figure, layout, preview, finding)
    _write(figure, layout.figure_height - 0.3, DISCLAIMER, size=_SMALL_SIZE, color=_GREY)
    return figure


def _lay_out(preview: Preview, finding: Finding, *, header_lines: int) -> _Layout:
    height, width = preview.mask.shape
    ratio = min(max(width / height, _PANEL_RATIOS[0]), _PANEL_RATIOS[1])
    photographs = 1 if finding.heatmap is None else 2
    room = _TEXT_WIDTH - (photographs + 1) * _GAP - _MIN_BARS_WIDTH
    image_height = min(_MAX_IMAGE_HEIGHT, room / (photographs * ratio + 1))
    bars_height = max(image_height, len(finding.probs) * _BAR_PITCH)
    title_lines = 1 if finding.heatmap is None else len(_heatmap_title(finding.heatmap, image_height * ratio))
    panels_top = 1.37 + header_lines * _TEXT_SIZE * _LINE_HEIGHT + title_lines * _TITLE_SIZE * _TITLE_LINE_HEIGHT
    return _Layout(image_height * ratio, image_height, bars_height, panels_top, panels_top + bars_height + 0.9)


def _header_lines(finding: Finding) -> list[str]:
    certainty, place = "  \N{MIDDLE DOT}  ".join(certainty_words(finding)), finding.localization
    outline = f"lesion outline: {outline_words(place.source, place.area_fraction)}"
    lines = [certainty, outline, *reason_words(place.reasons)]
    return [part for line in lines for part in wrap(line[:1].upper() + line[1:], _TEXT_WIDTH, size=_TEXT_SIZE)]


def _write_header(figure: Figure, finding: Finding, lines: Sequence[str], *, title: str) -> None:
    malignant = finding.diagnosis in finding.malignant
    answer = f"{_sign(malignant)}{name_with_code(finding.diagnosis)}   {percent(finding.confidence)}"
    _write(figure, 0.42, elide(printable(title), _TEXT_WIDTH, size=_TEXT_SIZE), color=_GREY)
    answer = elide(answer, _TEXT_WIDTH, size=_ANSWER_SIZE, bold=True)
    _write(figure, 0.86, answer, size=_ANSWER_SIZE, bold=True, color=_color(malignant))
    for number, line in enumerate(lines):
        # The first line holds the flag, which must not be missed under an answer that reads benign.
        _write(figure, 1.23 + number * _TEXT_SIZE * _LINE_HEIGHT, line, bold=number == 0 and finding.flagged is True)


def _draw_panels(figure: Figure, layout: _Layout, preview: Preview, finding: Finding) -> None:
    left, step = _MARGIN, layout.photograph_width + _GAP
    _draw_photograph(_add_panel(figure, layout, left, layout.photograph_width, "Photograph"), preview, finding)
    left += step
    _draw_crop(_add_panel(figure, layout, left, layout.image_height, "Crop"), finding.crop)
    left += layout.image_height + _GAP
    if finding.heatmap is not None:
        title = "\n".join(_heatmap_title(finding.heatmap, layout.photograph_width))
        _draw_heatmap(_add_panel(figure, layout, left, layout.photograph_width, title), preview, finding.heatmap)
        left += step
    width = _WIDTH - _MARGIN - left
    panel = _add_panel(figure, layout, left, width, "Probabilities", height=layout.bars_height)
    _draw_probabilities(panel, finding, width=width)


def _add_panel(figure: Figure, layout: _Layout, left: float, width: float, title: str, *, height: float | None = None) -> Axes:
    height = layout.image_height if height is None else height
    bottom = layout.figure_height - layout.panels_top - height
    fractions = left / _WIDTH, bottom / layout.figure_height, width / _WIDTH, height / layout.figure_height
    # A photograph that does not fill its panel hangs from the top, under its title.
    axes = figure.add_axes(fractions, anchor="NW", xticks=[], yticks=[])
    axes.set_title(title, loc="left", pad=7, **style(_TITLE_SIZE, bold=True))
    axes.spines[:].set_visible(False)
    return axes


def _draw_photograph(axes: Axes, preview: Preview, finding: Finding) -> None:
    axes.imshow(preview.image)
    _draw_outline(axes, preview.mask)
    box = preview.crop_box
    # A pixel's whole number is its centre, half a pixel from its edge.
    frame = Rectangle((box.left - 0.5, box.top - 0.5), box.width, box.height, fill=False, clip_on=False)
    frame.set(edgecolor=BOX_COLOR, linewidth=1.2, linestyle=(0, (5, 3)), path_effects=[_halo()])
    axes.add_patch(frame)
    _caption(axes, photograph_caption(finding.localization.source))


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


def _draw_crop(axes: Axes, crop: RgbImage) -> None:
    axes.imshow(crop)
    _caption(axes, CROP_CAPTION)


def _draw_heatmap(axes: Axes, preview: Preview, heatmap: Heatmap) -> None:
    values = heatmap_on_image(heatmap, preview.crop_box, *preview.mask.shape)
    axes.imshow(preview.image)
    axes.imshow(values, cmap=_COLORMAP, vmin=0, vmax=1, alpha=HEATMAP_OPACITY * values)
    _draw_outline(axes, preview.mask)
    _caption(axes, HEATMAP_CAPTION)


def _heatmap_title(heatmap: Heatmap, room: float) -> list[str]:
    return wrap(f"Heatmap: {printable(full_name(heatmap.diagnosis))}", room, size=_TITLE_SIZE, bold=True)


def _draw_probabilities(axes: Axes, finding: Finding, *, width: float) -> None:
    axes.set(xlim=(0, 1), ylim=(len(finding.probs), 0))
    for row, (code, prob) in enumerate(sorted(finding.probs.items(), key=lambda item: -item[1])):
        chosen, malignant = code == finding.diagnosis, code in finding.malignant
        name = elide(_sign(malignant) + printable(full_name(code)), width - _PERCENT_WIDTH, size=_SMALL_SIZE, bold=chosen)
        axes.text(0, row + 0.45, name, **style(_SMALL_SIZE, bold=chosen))
        axes.text(1, row + 0.45, percent(prob), horizontalalignment="right", **style(_SMALL_SIZE, bold=chosen))
        axes.barh(row + 0.7, 1, height=0.2, color=_TRACK)
        axes.barh(row + 0.7, prob, height=0.2, color=_color(malignant), alpha=1.0 if chosen else 0.5)
    if finding.malignant:
        _caption(axes, f"{MALIGNANT_SIGN} malignant")


def _sign(malignant: bool) -> str:
    return f"{MALIGNANT_SIGN} " if malignant else ""


def _color(malignant: bool) -> str:
    return _MALIGNANT if malignant else _OTHER


def _caption(axes: Axes, text: str) -> None:
    axes.set_xlabel(text, loc="left", labelpad=6, **style(_SMALL_SIZE, color=_GREY))


def _write(figure: Figure, top: float, text: str, *, size: float = _TEXT_SIZE, bold: bool = False, color: str = INK) -> None:
    figure.text(_MARGIN / _WIDTH, 1 - top / figure.get_figheight(), text, **style(size, bold=bold, color=color))
