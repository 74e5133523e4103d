"""Grad-CAM heatmaps: resampling, averaging, and overlap with the lesion."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.types import BoolMask, Box, FloatArray

HeatmapArray = NDArray[np.float32]


@dataclass(frozen=True)
class ClassMap:
    """Grad-CAM on the feature grid, averaged over classifiers and views.

    Attributes:
        values: float32 in [0, 1], shape of the feature map (h, w); it covers the network's square, see `frame_of`. The peak of a
            single classifier is 1; that of several is 1 only where all of them have theirs.
        diagnosis: Code of the explained class.
        border: Method that made the crop square, see `segpipe.lesion.crop.CropRule`.
    """

    values: HeatmapArray
    diagnosis: str
    border: str = "squeeze"


def frame_of(box: Box, border: str) -> Box:
    """Return the area of an image that the network's square covers.

    Args:
        box: Part of the image that was cropped.
        border: Method that made the crop square, see `segpipe.lesion.crop.CropRule`.

    Returns:
        `box` itself with `squeeze`; with `reflect` the square of its longer side around it, which may reach beyond the image.
    """
    if border == "squeeze":
        return box
    side = max(box.height, box.width)
    top, left = box.top - (side - box.height) // 2, box.left - (side - box.width) // 2
    return Box(top, left, top + side, left + side)


def heatmap_on_image(class_map: ClassMap, crop_box: Box, height: int, width: int) -> HeatmapArray:
    """Resample a class map to the photograph of its crop.

    Args:
        class_map: Map of the crop; the part on a reflected border is dropped.
        crop_box: Area that the classifier saw, in pixels of the image.
        height: Height of the image, pixels.
        width: Width of the image, pixels.

    Returns:
        float32 in [0, 1], shape (height, width); 0 outside `crop_box`.

    Raises:
        ValueError: `crop_box` is empty or lies outside the image.
    """
    crop_box.check_inside(height, width, name="crop_box")
    canvas = np.zeros((height, width), dtype=np.float32)
    canvas[crop_box.slices()] = _enlarge(class_map, crop_box)
    return canvas


def heatmap_in_lesion(class_map: ClassMap, mask: BoolMask, crop_box: Box) -> float | None:
    """Compute the fraction of the heatmap's mass that lies on the lesion.

    A network that looks everywhere reaches the lesion's fraction of the crop, so a value near that carries no information.

    Args:
        class_map: Map of the crop; the part on a reflected border is dropped.
        mask: Lesion mask, bool, shape (H, W) of the image.
        crop_box: Area that the classifier saw, in pixels of the image.

    Returns:
        Fraction in [0, 1]; None where the map is zero everywhere in `crop_box`.

    Raises:
        ValueError: `crop_box` is empty or lies outside the mask.
    """
    crop_box.check_inside(*mask.shape, name="crop_box")
    inside = mask[crop_box.slices()]
    mass = _enlarge(class_map, crop_box)
    total = float(cv2.sumElems(mass)[0])
    mass[~inside] = 0
    return float(cv2.sumElems(mass)[0]) / total if total > 0 else None


def mean_heatmap(maps: Sequence[HeatmapArray], boxes: Sequence[Box]) -> HeatmapArray:
    """Average heatmaps of one image in the frame of the first.

    Each cell of the first map is averaged with the area means of the other maps over that cell. Maps that do not reach a cell
    do not count there.

    Args:
        maps: Heatmaps of several classifiers or views, float32, 0 or more, each of any shape (h, w).
        boxes: Area that each map covers, in pixels of the image.

    Returns:
        float32, shape of the first map; it covers the first box. Maps of one shape and box give their plain mean.
    """
    rows, columns = _edges(boxes[0], maps[0])
    total, weight = np.zeros(maps[0].shape), np.zeros(maps[0].shape)
    for values, box in zip(maps, boxes, strict=True):
        other_rows, other_columns = _edges(box, values)
        down, across = _overlaps(rows, other_rows), _overlaps(columns, other_columns)
        total += down @ values @ across.T
        weight += np.outer(down.sum(1), across.sum(1))
    return np.asarray(total / weight, dtype=np.float32)


def scale_to_unit(maps: HeatmapArray) -> HeatmapArray:
    """Scale each map by its maximum; a map of zeros stays unchanged.

    Args:
        maps: Shape (N, h, w), 0 or more.

    Returns:
        The same shape, in [0, 1].
    """
    peaks = maps.max(axis=(1, 2), keepdims=True)
    return np.asarray(maps / np.where(peaks > 0, peaks, 1), dtype=np.float32)


def _edges(box: Box, values: HeatmapArray) -> tuple[FloatArray, FloatArray]:
    """Return the edges of rows and columns, in pixels of the image."""
    height, width = values.shape
    return np.linspace(box.top, box.bottom, height + 1), np.linspace(box.left, box.right, width + 1)


def _overlaps(cells: FloatArray, others: FloatArray) -> FloatArray:
    """Compute overlaps of two grids along one axis.

    Args:
        cells: Edges of the cells.
        others: Edges of the other grid.

    Returns:
    Fraction of each cell that each other cell covers, shape (cells, others).
    """
    shared = np.minimum(cells[1:, None], others[1:]) - np.maximum(cells[:-1, None], others[:-1])
    return np.asarray(np.maximum(shared, 0) / np.diff(cells)[:, None])


def _enlarge(class_map: ClassMap, box: Box) -> HeatmapArray:
    frame, (height, width) = frame_of(box, class_map.border), class_map.values.shape
    down = _cubic_weights(height, frame.height)[box.top - frame.top : box.bottom - frame.top]
    across = _cubic_weights(width, frame.width)[box.left - frame.left : box.right - frame.left]
    enlarged = down @ np.asarray(class_map.values, dtype=np.float32) @ across.T
    # Cubic interpolation shows no facets between the few cells of the map, but overshoots.
    return np.asarray(np.clip(enlarged, 0.0, 1.0, out=enlarged), dtype=np.float32)


def _cubic_weights(cells: int, pixels: int) -> HeatmapArray:
    """Compute cubic resize weights along one axis, shape (pixels, cells)."""
    unit = np.eye(cells, dtype=np.float32)
    return np.asarray(cv2.resize(unit, (cells, pixels), interpolation=cv2.INTER_CUBIC), dtype=np.float32).reshape(pixels, cells)
