"""A heatmap in the coordinates of the photograph: how much of it lies on the lesion, and what several of them say together."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.lesion.crop import frame_of
from segpipe.lesion.localizer import Localization
from segpipe.types import Box


@dataclass(frozen=True)
class ClassMap:
    """Grad-CAM on the grid of the network's features, averaged over the classifiers and over the views.

    Attributes:
        values: float32 in [0, 1], shape of the feature map (h, w); it covers the network's square, see
            `segpipe.lesion.crop.frame_of`. The peak of a single classifier is 1; that of several is 1 only where all of them have
            theirs.
        diagnosis: code of the class it explains.
        border: method by which the crop became square, see `segpipe.lesion.crop.CropRule`.
    """

    values: NDArray[np.float32]
    diagnosis: str
    border: str = "squeeze"


def heatmap_on_image(class_map: ClassMap, crop_box: Box, height: int, width: int) -> NDArray[np.float32]:
    """Lay a class map back on the photograph that its crop was cut from.

    Args:
        class_map: map of the crop; what it says of a reflected border is left out.
        crop_box: what the classifier saw, in pixels of the image.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        float32 in [0, 1], shape (height, width); 0 outside `crop_box`.

    Raises:
        ValueError: `crop_box` is empty or lies outside the image.
    """
    _require_inside(crop_box, height, width)
    canvas = np.zeros((height, width), dtype=np.float32)
    canvas[crop_box.top : crop_box.bottom, crop_box.left : crop_box.right] = _enlarge(class_map, crop_box)
    return canvas


def heatmap_in_lesion(class_map: ClassMap, localization: Localization, crop_box: Box) -> float | None:
    """The share of the heatmap's mass that lies on the lesion.

    A share near the lesion's share of the crop is what a network that looks everywhere would reach; it says nothing by itself.

    Args:
        class_map: map of the crop; what it says of a reflected border is left out.
        localization: its mask has the size of the image.
        crop_box: what the classifier saw, in pixels of the image.

    Returns:
        A share in [0, 1]; None where the map is zero everywhere in `crop_box`.

    Raises:
        ValueError: `crop_box` is empty or lies outside the mask.
    """
    _require_inside(crop_box, *localization.mask.shape)
    inside = localization.mask[crop_box.top : crop_box.bottom, crop_box.left : crop_box.right]
    mass = _enlarge(class_map, crop_box)
    total = float(cv2.sumElems(mass)[0])
    mass[~inside] = 0
    return float(cv2.sumElems(mass)[0]) / total if total > 0 else None


def mean_heatmap(maps: Sequence[NDArray[np.float32]], boxes: Sequence[Box]) -> NDArray[np.float32]:
    """The mean of several heatmaps of one image, of classifiers or of views, in the frame of the first.

    A cell of the first map takes from each other one the mean over the cell's own area, as far as that one reaches: where it
    saw nothing, only the others count.

    Args:
        maps: float32, 0 or more, each of any shape (h, w).
        boxes: what each map covers, in pixels of the image.

    Returns:
        float32, shape of the first map; it covers the first box. Maps of one shape and box give their plain mean.
    """
    rows, columns = _edges(boxes[0], maps[0])
    total, seen = np.zeros(maps[0].shape), np.zeros(maps[0].shape)
    for values, box in zip(maps, boxes, strict=True):
        their_rows, their_columns = _edges(box, values)
        down, across = _shares(rows, their_rows), _shares(columns, their_columns)
        total += down @ values @ across.T
        seen += np.outer(down.sum(1), across.sum(1))
    return np.asarray(total / seen, dtype=np.float32)


def _edges(box: Box, values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the rows and the columns of a map begin and end, in pixels of the image."""
    height, width = values.shape
    return np.linspace(box.top, box.bottom, height + 1), np.linspace(box.left, box.right, width + 1)


def _shares(cells: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which share of each cell lies in each cell of another grid, by their edges along one axis; shape (cells, others)."""
    shared = np.minimum(cells[1:, None], others[1:]) - np.maximum(cells[:-1, None], others[:-1])
    return np.asarray(np.maximum(shared, 0) / np.diff(cells)[:, None])


def _enlarge(class_map: ClassMap, box: Box) -> NDArray[np.float32]:
    frame, (height, width) = frame_of(box, class_map.border), class_map.values.shape
    down = _cubic_weights(height, frame.height)[box.top - frame.top : box.bottom - frame.top]
    across = _cubic_weights(width, frame.width)[box.left - frame.left : box.right - frame.left]
    enlarged = down @ np.asarray(class_map.values, dtype=np.float32) @ across.T
    # Cubic interpolation shows no facets between the few cells of the map, but overshoots.
    return np.asarray(np.clip(enlarged, 0.0, 1.0, out=enlarged), dtype=np.float32)


def _cubic_weights(cells: int, pixels: int) -> NDArray[np.float32]:
    """The weight of each cell in each pixel along one axis, shape (pixels, cells); both axes together are a cubic resize."""
    unit = np.eye(cells, dtype=np.float32)
    return np.asarray(cv2.resize(unit, (cells, pixels), interpolation=cv2.INTER_CUBIC), dtype=np.float32).reshape(pixels, cells)


def _require_inside(box: Box, height: int, width: int) -> None:
    if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
        raise ValueError(f"crop_box must lie in the image of {height} x {width} pixels, got {box}")
