"""Faithfulness of heatmaps as arithmetic on arrays; docs/heatmaps.md defines each metric."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import Weights
from segpipe.types import FloatArray, RgbImage

FloatMap = NDArray[np.floating]

_KEPT, _REVERSED = slice(None), slice(None, None, -1)
# ImageRows and columns of a turned image. Each turn is its own inverse, and none of them keeps a corner where it is.
TURNS = {
    "half turn": (_REVERSED, _REVERSED),
    "mirror left and right": (_KEPT, _REVERSED),
    "mirror up and down": (_REVERSED, _KEPT),
}
STEPS = 6  # of deletion and insertion
CURVES = ("deletion", "insertion", "deletion_center", "insertion_center", "random_order")
COPIES = 2 + len(CURVES) * (STEPS - 1)
_CENTER_SIGMA = 0.25  # of the centered map, as a fraction of the side
_TIE_BREAKER = 1e-4


def turn(pixels: NDArray, name: str) -> NDArray:  # type: ignore[type-arg]
    """Turn an image, a mask or a heatmap.

    Args:
        pixels: Any array of shape (H, W, ...).
        name: Key of `TURNS`.

    Returns:
        Contiguous array of the same shape.
    """
    return np.ascontiguousarray(pixels[TURNS[name]])


def correlate(one: FloatMap, other: FloatMap) -> float:
    """Compute Pearson's correlation of two maps over their cells.

    Args:
        one: Map of shape (h, w).
        other: Map of the same shape.

    Returns:
        Number in [-1, 1]; 0 where a map has no contrast.

    Raises:
        ValueError: The shapes differ.
    """
    if one.shape != other.shape:
        raise ValueError(f"maps must have one shape, got {one.shape} and {other.shape}")
    first, second = (np.asarray(cells, np.float64).ravel() - np.mean(cells, dtype=np.float64) for cells in (one, other))
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.clip(first @ second / lengths, -1, 1)) if lengths > 1e-12 else 0.0


def score_turns(heatmap: FloatMap, turned: Mapping[str, FloatMap]) -> dict[str, float]:
    """Compare the heatmap of a photograph with those of its turned copies.

    Args:
        heatmap: Heatmap of the photograph, shape (h, w).
        turned: Heatmap of each turned photograph, in its own coordinates, by key of `TURNS`.

    Returns:
        Mean correlations over the turns: `follow` (turned map brought back to the photograph), `stay` (turned map as it is) and
        `symmetry` (heatmap and the same heatmap turned, which both approach where a map is symmetric).
    """
    pairs: dict[str, Callable[[str], tuple[FloatMap, FloatMap]]] = {
        "follow": lambda name: (heatmap, turn(turned[name], name)),
        "stay": lambda name: (heatmap, turned[name]),
        "symmetry": lambda name: (heatmap, turn(heatmap, name)),
    }
    return {score: float(np.mean([correlate(*pair(name)) for name in turned])) for score, pair in pairs.items()}


def center_map(size: int) -> FloatArray:
    """Draw a centered Gaussian whose sigma is a quarter of the side."""
    distances = (np.arange(size) + 0.5) / size - 0.5
    profile = np.exp(-(distances**2) / (2 * _CENTER_SIGMA**2))
    return np.outer(profile, profile)


def first_pixels(heatmap: FloatMap, size: int) -> NDArray[np.bool_]:
    """Select the pixels of an image that a heatmap ranks highest.

    Args:
        heatmap: Map of shape (h, w), enlarged to the image by linear interpolation; among equal values those nearer to high ones
            come first.
        size: Side of the image, pixels.

    Returns:
        Bool, shape (STEPS - 1, size, size): the first 1/STEPS of all pixels, the first 2/STEPS, and so on.
    """
    enlarged = cv2.resize(np.asarray(heatmap, np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    around = cv2.GaussianBlur(enlarged, (0, 0), size / 8)
    order = np.argsort(-(enlarged + _TIE_BREAKER * around).ravel(), kind="stable")
    ranks = np.empty(size * size, np.intp)
    ranks[order] = np.arange(size * size)
    ends = np.arange(1, STEPS) * size * size // STEPS
    return np.asarray(ranks.reshape(size, size) < ends[:, None, None])


def alter_pixels(pixels: RgbImage, heatmap: FloatMap, *, seed: int) -> NDArray[np.uint8]:
    """Remove and insert the pixels of a crop step by step.

    They are taken in the order of the heatmap and of two other maps: `center_map`, and a random map of the heatmap's shape. A
    removed pixel has the mean color of the crop.

    Args:
        pixels: Crop, RGB uint8, shape (size, size, 3).
        heatmap: Map of the crop, shape (h, w).
        seed: Seed of the random map.

    Returns:
        RGB uint8, shape (COPIES, size, size, 3): the crop, the mean color alone, then `STEPS - 1` copies for each of `CURVES`.
    """
    size = len(pixels)
    empty = np.broadcast_to(np.rint(pixels.mean((0, 1))).astype(np.uint8), pixels.shape)
    random = np.random.default_rng(seed).random(heatmap.shape)
    copies: list[NDArray[np.uint8]] = [pixels[None], empty[None]]
    for ranking in (heatmap, center_map(size)):
        first = first_pixels(ranking, size)[..., None]
        copies += [np.where(first, empty, pixels), np.where(first, pixels, empty)]
    copies.append(np.where(first_pixels(random, size)[..., None], empty, pixels))
    return np.concatenate(copies)


def areas_under(probs: FloatArray) -> dict[str, float]:
    """Compute the areas under the curves of deletion and insertion.

    Args:
        probs: Probability of the explained class for each copy of `alter_pixels`, shape (COPIES,).

    Returns:
        Area of each of `CURVES`, in [0, 1], by the trapezoidal rule over the fraction of pixels removed or inserted. A random
        order has one area: removing in a random order is inserting in another one.
    """
    whole, empty, inner = float(probs[0]), float(probs[1]), probs[2:].reshape(len(CURVES), STEPS - 1)
    return {name: float((inner[row].sum() + (whole + empty) / 2) / STEPS) for row, name in enumerate(CURVES)}


def score_heatmaps(columns: Mapping[str, FloatArray], explained: Sequence[str], weights: Weights) -> dict[str, float | None]:
    """Compute the metrics of the heatmaps of several images.

    Args:
        columns: Values of N images, each of shape (N,), NaN where one does not exist: those of `score_turns` and `areas_under`
            (the latter may be absent), `energy` (fraction of the heatmap's sum in the lesion) and `even` (fraction of the crop's
            area in the lesion).
        explained: Code of the class that each heatmap is for, N of them.
        weights: Number of times that each image counts, shape (N,).

    Returns:
        Metrics by name, see docs/heatmaps.md; None for a metric that is undefined for all images.
    """
    mean = partial(_mean, weights=weights)
    scores: dict[str, float | None] = {name: _median(columns[name], weights) for name in ("follow", "stay", "symmetry")}
    scores["stays_more"] = mean((columns["stay"] > columns["follow"]).astype(np.float64))
    gain = columns["energy"] - columns["even"]
    known = ~np.isnan(gain)
    scores |= {"energy_in_mask": mean(columns["energy"]), "energy_even": mean(np.where(known, columns["even"], np.nan))}
    scores["energy_gain"] = mean(gain)
    codes = np.asarray(explained)
    for code in sorted(set(explained)):
        scores[f"energy_gain_{code}"] = mean(np.where(codes == code, gain, np.nan))
        scores[f"images_{code}"] = int(weights[known & (codes == code)].sum())
    return scores | {name: mean(values) for name, values in _removal_columns(columns)}


def _removal_columns(columns: Mapping[str, FloatArray]) -> Iterator[tuple[str, FloatArray]]:
    """List the areas, and the gains of the heatmap over other maps."""
    if not columns.keys() >= set(CURVES):
        return
    yield from ((name, columns[name]) for name in CURVES)
    for name, other in (("center", "{}_center"), ("random", "random_order")):
        yield f"deletion_gain_over_{name}", columns[other.format("deletion")] - columns["deletion"]
        yield f"insertion_gain_over_{name}", columns["insertion"] - columns[other.format("insertion")]


def _mean(values: FloatArray, weights: Weights) -> float | None:
    known = ~np.isnan(values)
    total = int(weights[known].sum())
    return float(values[known] @ weights[known]) / total if total else None


def _median(values: FloatArray, weights: Weights) -> float:
    return float(np.median(np.repeat(values, weights)))
