"""Findings written by hand, and checks of the figures of findings."""

from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from segpipe.diagnosis import CODES, known_malignant
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap
from segpipe.lesion.crop import mask_box
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.types import Box, Photograph, RgbImage

BAD_TITLES = [
    "$x_1$.jpg",
    "a_b^c\\frac{1}{2}$.jpg",
    "two\nlines\x07.jpg",
    "\udcff\ud800.jpg",
    "\U0001f9ec 写真.jpg",
    "W" * 400,
    "",
]
LONG_CODES = ("akiec", "nv", "a class of a foreign bundle with a name that goes on and on and on until it fits nowhere", "W" * 90)


def drawn_mask(height: int, width: int) -> np.ndarray:
    """Return a mask from a quarter to the half of both sides."""
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[height // 4 : height // 2, width // 4 : width // 2] = True
    return mask


def plain_photograph(height: int, width: int) -> Photograph:
    """Return a uniform light gray photograph."""
    return Photograph(np.full((height, width, 3), 200, dtype=np.uint8), height, width)


def drawn_finding(
    height: int,
    width: int,
    *,
    codes: tuple[str, ...] = CODES,
    malignant: tuple[str, ...] | None = None,
    source: MaskSource = MaskSource.UNET,
    reasons: tuple[str, ...] = (),
    heatmap: bool = True,
    image: RgbImage | None = None,
) -> Finding:
    """Return a finding of the first class with a known crop."""
    mask = drawn_mask(height, width)
    weights = np.arange(2 * len(codes), len(codes), -1)
    return Finding(
        photograph=plain_photograph(height, width) if image is None else Photograph(image, height, width),
        localization=Localization(mask, mask_box(mask), source, reasons),
        window=Box(height // 8, width // 8, height * 5 // 8, width * 5 // 8),
        crop=np.full((32, 32, 3), 120, dtype=np.uint8),
        probabilities=dict(zip(codes, (weights / weights.sum()).tolist(), strict=True)),
        malignant=known_malignant(codes) if malignant is None else malignant,
        operating_points=(OperatingPoint(codes[0], 0.0),),
        tta_spread=0.034,
        class_map=ClassMap(np.eye(7, dtype=np.float32), codes[0]) if heatmap else None,
    )


def whole_image_finding(height: int, width: int) -> Finding:
    """Return a finding without a lesion, of the only class `benign`."""
    mask = np.ones((height, width), dtype=np.bool_)
    return Finding(
        photograph=plain_photograph(height, width),
        localization=Localization(mask, mask_box(mask), MaskSource.WHOLE_IMAGE, ()),
        window=Box(0, 0, height, width),
        crop=np.zeros((32, 32, 3), dtype=np.uint8),
        probabilities={"benign": 1.0},
        malignant=(),
        operating_points=(),
        tta_spread=None,
        class_map=ClassMap(np.ones((7, 7), dtype=np.float32), "benign"),
    )


def texts_of(figure: Figure) -> list[Text]:
    """Return all visible texts."""
    return [text for text in figure.findobj(Text) if text.get_text().strip()]


def check_texts(figure: Figure, *, margin: float = 0) -> None:
    """Check that texts do not overlap and keep a margin."""
    figure.draw_without_rendering()
    boxes = {text: text.get_window_extent() for text in texts_of(figure)}
    inside = figure.bbox.padded(-margin * figure.dpi)
    for text, box in boxes.items():
        assert box.x0 >= inside.x0 and box.y0 >= inside.y0 and box.x1 <= inside.x1 and box.y1 <= inside.y1, text.get_text()
    for (text, box), (other, other_box) in combinations(boxes.items(), 2):
        # A text box is up to a pixel larger than its glyphs.
        assert not box.padded(-1).overlaps(other_box.padded(-1)), (text.get_text(), other.get_text())
