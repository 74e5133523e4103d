"""Outlines of lesions, kept as COCO's run-length encoding."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.types import BoolMask, FloatArray

_FEWEST_CORNERS = 3
# Tolerance of polygons: a fraction of the lesion's diameter, and its minimum in pixels.
_TOLERANCE, _LEAST_TOLERANCE = 1 / 500, 0.5
# Six bits in each character; the last character of a number lacks the bit of 32.
_COUNTS = re.compile(rb"([P-o]*[0-O])*")
_MOST_PIXELS = 2**28  # far above any photograph; a wrong size must not fill the memory

Counts = str | Sequence[int]


@dataclass(frozen=True)
class Outline:
    """Mask of a lesion in COCO's compressed run-length encoding.

    Attributes:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        counts: Lengths of the runs of skin and lesion along the columns, as pycocotools writes them.
    """

    height: int
    width: int
    counts: bytes

    @classmethod
    def of_mask(cls, mask: BoolMask) -> "Outline":
        """Encode a mask, bool (H, W)."""
        from pycocotools import mask as coco

        return cls._of(coco.encode(np.asfortranarray(mask, np.uint8)))

    @classmethod
    def of_counts(cls, counts: Counts, height: int, width: int) -> "Outline":
        """Read COCO's run-length encoding.

        Args:
            counts: Lengths of the runs, or their compressed form.
            height: Height of the image, pixels.
            width: Width of the image, pixels.

        Raises:
            ValueError: The runs do not fill the image.
        """
        from pycocotools import mask as coco

        check_size(height, width)
        lengths = list(_decompress(counts) if isinstance(counts, str) else counts)
        if sum(lengths) != height * width or min(lengths) < 0:
            raise ValueError(
                f"the runs of an outline must fill its image of {height} x {width} pixels, got {sum(lengths)} pixels"
            )
        return cls._of(coco.frPyObjects({"counts": lengths, "size": [height, width]}, height, width))

    @classmethod
    def of_polygons(cls, polygons: Sequence[FloatArray], height: int, width: int) -> "Outline":
        """Fill polygons; their union is the lesion.

        Args:
            polygons: Corners of each polygon, float (N, 2): x and y in pixels from the upper left corner of the image, so that
                the center of the first pixel is (0.5, 0.5). Parts beyond the image are moved to its border.
            height: Height of the image, pixels.
            width: Width of the image, pixels.

        Raises:
            ValueError: A polygon has fewer than three corners, or a corner is not finite.
        """
        from pycocotools import mask as coco

        check_size(height, width)
        for polygon in polygons:
            if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < _FEWEST_CORNERS or not np.isfinite(polygon).all():
                raise ValueError(f"a polygon must have three or more corners of finite x and y, got {polygon.size} numbers")
        inside = [np.clip(polygon, 0, (width, height)).ravel().tolist() for polygon in polygons]
        return cls._of(coco.merge(coco.frPyObjects(inside, height, width)))

    @classmethod
    def unite(cls, outlines: Sequence["Outline"]) -> "Outline":
        """Unite outlines of one image.

        Raises:
            ValueError: They are of images of different sizes.
        """
        from pycocotools import mask as coco

        sizes = {(outline.height, outline.width) for outline in outlines}
        if len(sizes) > 1:
            (height, width), (other_height, other_width) = sorted(sizes)[:2]
            raise ValueError(
                f"all outlines of an image must have its size, got {height} x {width} and {other_height} x {other_width} pixels"
            )
        return outlines[0] if len(outlines) == 1 else cls._of(coco.merge([outline._encoded for outline in outlines]))

    @classmethod
    def _of(cls, encoded: Any) -> "Outline":
        height, width = map(int, encoded["size"])
        return cls(height, width, bytes(encoded["counts"]))

    @property
    def _encoded(self) -> dict[str, Any]:
        return {"size": [self.height, self.width], "counts": self.counts}

    @property
    def area(self) -> int:
        """Number of pixels of the lesion."""
        from pycocotools import mask as coco

        return int(coco.area(self._encoded))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, width and height of the lesion, pixels; else 0."""
        from pycocotools import mask as coco

        left, top, width, height = map(float, coco.toBbox(self._encoded))
        return left, top, width, height

    def mask(self) -> BoolMask:
        """Decode to bool (H, W)."""
        from pycocotools import mask as coco

        return np.ascontiguousarray(coco.decode(self._encoded), bool)

    def polygons(self) -> list[FloatArray]:
        """Trace the outer borders, simplified and without holes.

        Returns:
            Corners of each polygon, float (N, 2), see `of_polygons`; empty for an empty mask.
        """
        if not self.area:
            return []
        left, top, width, height = (int(side) for side in self.box)
        crop = self.mask()[top : top + height, left : left + width].astype(np.uint8)
        # OpenCV traces the centers of border pixels; at twice the resolution these lie closer to the border itself.
        borders, _ = cv2.findContours(_twice(crop), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        tolerance = 2 * max(_LEAST_TOLERANCE, _TOLERANCE * float(np.hypot(width, height)))
        simple = [_simplified(border, tolerance) for border in borders]
        return [(corners + 0.5) / 2 + (left, top) for corners in simple if len(corners) >= _FEWEST_CORNERS]


@dataclass(frozen=True)
class AnnotatedImage:
    """Image in an annotation file.

    Attributes:
        name: Name of the image, see `segpipe.data.identity`.
        height: Height, pixels; None where the file does not say it.
        width: Width, pixels; likewise.
        labels: Distinct labels of the image and of its outlines, in the order of the file.
        outline: Union of its outlines; None without any.
        lesion_id: Lesion id; None if unknown.
        skipped: Kinds of its annotations that are no outlines, such as `box`.
        predicted: True for an outline by a model, to be corrected.
        confidence: Confidence of a predicted label, 0 to 1; None for others.
    """

    name: str
    height: int | None = None
    width: int | None = None
    labels: tuple[str, ...] = ()
    outline: Outline | None = None
    lesion_id: str | None = None
    skipped: tuple[str, ...] = ()
    predicted: bool = False
    confidence: float | None = None


def check_size(height: int, width: int) -> None:
    """Refuse a size that no image has.

    Raises:
        ValueError: A side is below 1, or there are too many pixels.
    """
    if min(height, width) < 1 or height * width > _MOST_PIXELS:
        raise ValueError(
            f"an image must have sides of 1 or more and at most {_MOST_PIXELS:,} pixels, got {height} x {width} pixels"
        )


def _decompress(counts: str) -> Iterator[int]:
    """Decompress the lengths of runs, each relative to the last but one.

    Raises:
        ValueError: The text holds other characters, or ends within a number.
    """
    code = counts.encode()
    if not _COUNTS.fullmatch(code):
        raise ValueError(f"compressed counts of an outline must be those of pycocotools, got {counts[:20]!r}")
    known: list[int] = []
    number = shift = 0
    for character in code:
        bits = character - 48
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            signed = number - (1 << shift) if bits & 16 else number
            known.append(signed + known[-2] if len(known) > 2 else signed)
            yield known[-1]
            number = shift = 0


def _twice(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return mask.repeat(2, axis=0).repeat(2, axis=1)


def _simplified(border: NDArray[Any], tolerance: float) -> FloatArray:
    """Simplify a closed border; small ones stay as they are."""
    simple = cv2.approxPolyDP(border, tolerance, closed=True)
    return np.asarray((simple if len(simple) >= _FEWEST_CORNERS else border)[:, 0], np.float64)
