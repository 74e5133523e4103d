"""Findings written by hand, and canvases that check the figures of findings."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe.bundle.references import Reference
from segpipe.diagnosis import CODES, known_malignant
from segpipe.inference.evidence import ADVICE, GateResult
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap
from segpipe.inference.similar import SimilarIndex, pack_points
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.metrics.conformal import ConformalSets
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.metrics.trust import TrustRules
from segpipe.report.canvas import GRAY, INK, Area, Color, Stroke
from segpipe.report.png_canvas import PngCanvas
from segpipe.types import BoolMask, Box, FloatArray, Photograph, RgbImage, mask_box

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

BAD_TITLES = [
    "$x_1$.jpg",
    "a_b^c\\frac{1}{2}$.jpg",
    "two\nlines\x07.jpg",
    "\udcff\ud800.jpg",
    "\U0001f9ec 写真.jpg",
    "W" * 400,
    "",
]
SEEN = np.array([1, 0], np.float32)  # features
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


def similar_index(codes: tuple[str, ...] = CODES, *, agreeing: int = 3) -> SimilarIndex:
    """Return an index of eight cases near `SEEN`, of which the nearest have the first class, and a farther one."""
    classes, angles = [0] * agreeing + [1] * (8 - agreeing) + [2], [0.7 + 0.03 * step for step in range(1, 9)] + [1.0]
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    arrays = {
        "mean": np.zeros(2, np.float32),
        "components": np.eye(2, dtype=np.float16),
        "points": pack_points(points),
        "diagnoses": np.array(classes, np.uint8),
    }
    names = [f"ISIC_{number}" for number in range(9)]
    values = {"classes": codes, "lesions": names, "images": [[name] for name in names], "bandwidth": 0.1}
    return SimilarIndex(Reference(arrays, values), codes)


def add_evidence(finding: Finding, *, agreeing: int = 3, possible: int = 2, gate: tuple[str, ...] = ()) -> Finding:
    """Add gate, prediction set and similar cases, and rules that accept any heatmap.

    Args:
        finding: Finding of the first of its classes.
        agreeing: Number of the eight similar cases that agree.
        possible: Number of diagnoses in the prediction set.
        gate: Reasons of the gate.
    """
    codes = tuple(finding.probabilities)
    thresholds = {code: float(number < possible) for number, code in enumerate(codes)}
    return replace(
        finding,
        gate=GateResult(gate, 0.5, tuple(ADVICE[code] for code in gate)),
        conformal=ConformalSets(0.9, thresholds, dict.fromkeys(codes, 20)),
        find_similar=partial(similar_index(codes, agreeing=agreeing).find, SEEN),
        rules=TrustRules(min_in_lesion=0, red_from=3),
    )


def without_evidence(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as an older version wrote it."""
    added = ("gate", "prediction_set", "similar", "abcd_", "skin_ita", "trust")
    return {name: value for name, value in row.items() if not name.startswith(added)}


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


@dataclass(frozen=True)
class Written:
    """Arguments of `Canvas.write`."""

    left: float
    baseline: float
    text: str
    size: float
    bold: bool = False
    color: Color = INK
    align: str = "left"


@dataclass
class RecordingCanvas:
    """Canvas that keeps what is drawn on it."""

    width: float
    height: float
    texts: list[Written] = field(default_factory=list)
    images: list[tuple[Area, RgbImage]] = field(default_factory=list)
    bars: list[Area] = field(default_factory=list)
    outlines: list[tuple[FloatArray, Stroke]] = field(default_factory=list)

    def write(self, left: float, baseline: float, text: str, **style: Any) -> None:
        self.texts.append(Written(left, baseline, text, **style))

    def draw_image(self, area: Area, image: RgbImage) -> None:
        self.images.append((area, image))

    def fill(self, area: Area, color: Color, *, opacity: float = 1.0) -> None:
        self.bars.append(area)

    def outline(self, points: FloatArray, stroke: Stroke) -> None:
        self.outlines.append((points, stroke))

    @property
    def shown(self) -> str:
        """All texts, one a line."""
        return "\n".join(text.text for text in self.texts)

    @property
    def titles(self) -> list[str]:
        """Titles of the panels."""
        texts = [text.text for text in self.texts]
        first = self.texts[texts.index("Image")]
        return [text.text for text in self.texts[texts.index("Image") :] if text.bold and text.size == first.size]

    @property
    def classes(self) -> list[Written]:
        """Names and probabilities in the panel of bars."""
        first = [text.text for text in self.texts].index("Probabilities") + 1
        return self.texts[first : first + len(self.bars)]

    def caption(self, panel: int) -> str:
        """Caption of an image, its lines joined by blanks."""
        area = self.images[panel][0]
        below = [text for text in self.texts if text.left == area.left and text.baseline > area.bottom and text.color == GRAY]
        return " ".join(text.text for text in below)


class InkCanvas(PngCanvas):
    """Canvas that fails where a text meets anything else or comes near the edge.

    Attributes:
        margin: Pixels that no text may touch, from each edge; set it before drawing.
    """

    margin = 0

    def __init__(self, width: float, height: float) -> None:
        super().__init__(width, height)
        self._written, self._drawn = (np.zeros(self.pixels.shape[:2], dtype=np.bool_) for _ in range(2))

    def write(self, left: float, baseline: float, text: str, **style: Any) -> None:
        before = self.pixels.copy()
        super().write(left, baseline, text, **style)
        ink = self._changed(before)
        assert ink.any() or not text.strip()
        assert not (ink & (self._written | self._drawn)).any(), text
        inside = ink[self.margin : -self.margin or None, self.margin : -self.margin or None]
        assert inside.sum() == ink.sum() and not (ink[[0, -1]].any() or ink[:, [0, -1]].any()), text
        self._written |= ink

    def draw_image(self, area: Area, image: RgbImage) -> None:
        before = self.pixels.copy()
        super().draw_image(area, image)
        self._keep(before)

    def fill(self, area: Area, color: Color, *, opacity: float = 1.0) -> None:
        before = self.pixels.copy()
        super().fill(area, color, opacity=opacity)
        self._keep(before)

    def outline(self, points: FloatArray, stroke: Stroke) -> None:
        before = self.pixels.copy()
        super().outline(points, stroke)
        self._keep(before)

    def _changed(self, before: RgbImage) -> BoolMask:
        red, green, blue = np.moveaxis(self.pixels != before, 2, 0)
        return red | green | blue

    def _keep(self, before: RgbImage) -> None:
        changed = self._changed(before)
        assert not (changed & self._written).any()
        self._drawn |= changed


def texts_of(figure: "Figure") -> list["Text"]:
    """Return all visible texts."""
    from matplotlib.text import Text

    return [text for text in figure.findobj(Text) if text.get_text().strip()]


def check_texts(figure: "Figure", *, margin: float = 0) -> None:
    """Check that texts do not overlap and keep a margin."""
    figure.draw_without_rendering()
    boxes = {text: text.get_window_extent() for text in texts_of(figure)}
    inside = figure.bbox.padded(-margin * figure.dpi)
    for text, box in boxes.items():
        assert box.x0 >= inside.x0 and box.y0 >= inside.y0 and box.x1 <= inside.x1 and box.y1 <= inside.y1, text.get_text()
    for (text, box), (other, other_box) in combinations(boxes.items(), 2):
        # A text box is up to a pixel larger than its glyphs.
        assert not box.padded(-1).overlaps(other_box.padded(-1)), (text.get_text(), other.get_text())
