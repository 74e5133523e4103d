"""Outlines of lesions as polygons, to be corrected by hand."""

import cv2
import numpy as np

from segpipe.types import BoolMask, FloatArray, require_mask

MAX_POINTS = 40  # of a simplified outline, so that a finger can drag each of them
MOST_CORNERS = 10_000  # of any outline
# Largest distance between outline and polygon, as a fraction of the longer side of the outline's box.
_TOLERANCE = 0.005
_SUBPIXEL_BITS = 8  # of OpenCV's fixed-point coordinates


def outline_polygon(mask: BoolMask, *, max_points: int = MAX_POINTS) -> FloatArray:
    """Simplify the outline of a mask to a polygon.

    Args:
        mask: Bool, shape (H, W). Of several pieces the largest is taken, without its holes.
        max_points: Largest number of corners.

    Returns:
        Corners (x, y) as fractions of width and height, float64 in [0, 1], shape (N, 2); N is 0 for an empty mask.
    """
    height, width = require_mask(mask).shape
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.empty((0, 2))
    outline = max(contours, key=cv2.contourArea)
    tolerance = _TOLERANCE * float(np.ptp(outline, axis=0).max())
    polygon = outline
    while tolerance and len(polygon := cv2.approxPolyDP(outline, tolerance, closed=True)) > max_points:
        tolerance *= 1.2
    return (polygon[:, 0] + 0.5) / (width, height)


def require_polygon(corners: object) -> FloatArray:
    """Check that a value holds the corners of a polygon.

    Args:
        corners: Sequence of pairs (x, y), fractions of width and height.

    Returns:
        Float64, shape (N, 2), moved into [0, 1].

    Raises:
        ValueError: It is no such sequence, or has fewer than 3 corners or more than `MOST_CORNERS`.
    """
    try:
        polygon = np.asarray(corners, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        polygon = np.empty(0)
    if polygon.ndim != 2 or polygon.shape[1] != 2 or not np.isfinite(polygon).all():
        raise ValueError("an outline must be a list of corners (x, y), got something else; draw it again")
    if not 3 <= len(polygon) <= MOST_CORNERS:
        raise ValueError(f"an outline must have 3 to {MOST_CORNERS} corners, got {len(polygon)}; draw it again")
    return polygon.clip(0, 1)


def fill_polygon(corners: FloatArray, height: int, width: int) -> BoolMask:
    """Fill a polygon.

    Args:
        corners: Corners (x, y) as fractions of width and height, shape (N, 2); parts beyond the image are cut off.
        height: Height of the mask, pixels.
        width: Width of the mask, pixels.

    Returns:
        Bool, shape (height, width). Where the polygon crosses itself, parts that it encloses twice are not filled.
    """
    centers = corners * (width, height) - 0.5
    fixed = np.rint(centers * 2**_SUBPIXEL_BITS).astype(np.int32)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [fixed], 1, shift=_SUBPIXEL_BITS)
    return mask.astype(np.bool_)
