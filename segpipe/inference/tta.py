"""Test-time augmentation: flipped and rotated crops of several margins, and their mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from segpipe.inference.heatmap import HeatmapArray
from segpipe.types import FloatArray

Array = TypeVar("Array", bound=NDArray[Any])


@dataclass(frozen=True)
class View:
    """A symmetry of the square, applied to one crop of the lesion.

    Attributes:
        rotations: Quarter turns counter-clockwise, 0 to 3.
        flip: True to mirror left and right before the rotation.
        margin_scale: Margin of the crop as a fraction of the one on the classifier's card; 1 is the card's own crop.
    """

    rotations: int
    flip: bool
    margin_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.rotations not in range(4):
            raise ValueError(f"rotations must be 0, 1, 2 or 3 quarter turns, got {self.rotations}")

    def apply(self, images: Array) -> Array:
        """Transform a batch of images to this view.

        Args:
            images: Shape (N, H, W, ...), usually (N, H, W, 3).

        Returns:
            The same shape and dtype; it may share memory with `images`.

        Raises:
            ValueError: The view has an odd number of quarter turns, and H and W differ.
        """
        self._check_shape(images)
        mirrored = images[:, :, ::-1] if self.flip else images
        turned: Array = np.rot90(mirrored, self.rotations, (1, 2))  # type: ignore[assignment]
        return turned

    def undo(self, maps: Array) -> Array:
        """Transform maps of this view back to the original image.

        Args:
            maps: Shape (N, h, w, ...).

        Returns:
            The same shape and dtype; it may share memory with `maps`.

        Raises:
            ValueError: The view has an odd number of quarter turns, and h and w differ.
        """
        self._check_shape(maps)
        upright: Array = np.rot90(maps, -self.rotations, (1, 2))
        return upright[:, :, ::-1] if self.flip else upright  # type: ignore[return-value]

    def _check_shape(self, batch: NDArray[Any]) -> None:
        height, width = batch.shape[1:3]
        if self.rotations % 2 and height != width:
            raise ValueError(
                f"a batch must be square for a quarter turn, got {height} x {width}; resize it, or use the views of 'flips'"
            )


IDENTITY = View(0, False)
_FLIPS = (IDENTITY, View(0, True), View(2, True), View(2, False))

# The card's margin and two closer ones: 0.5, 0.35 and 0.2 for a card with 0.5, as trainings zoom; wider ones mostly end at the
# image's border. Four flips of each instead of all eight symmetries keep the cost at 1.5 times that of `d4`.
_MARGIN_SCALES = (1.0, 0.7, 0.4)

# The identity comes first in each, so view 0 is the prediction without augmentation.
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (IDENTITY,),
    "flips": _FLIPS,
    "d4": (*_FLIPS, View(1, False), View(3, False), View(1, True), View(3, True)),
    "crops": tuple(replace(flip, margin_scale=scale) for scale in _MARGIN_SCALES for flip in _FLIPS),
}


def margin_scales(views: Sequence[View]) -> tuple[float, ...]:
    """Return the distinct margin scales of views, in order of first occurrence."""
    return tuple(dict.fromkeys(view.margin_scale for view in views))


def stack_views(crops: Mapping[float, Array], views: Sequence[View]) -> Array:
    """Stack all views of all images in one batch, view by view.

    Args:
        crops: Crops of the images for each of `margin_scales(views)`, shape (N, H, W, 3).
        views: Views, V of them, at least one.

    Returns:
        Shape (V * N, H, W, 3): all images in the first view, then all in the second, and so on.

    Raises:
        ValueError: A view has an odd number of quarter turns, and H and W differ.
    """
    return np.concatenate([view.apply(crops[view.margin_scale]) for view in views])  # type: ignore[return-value]


def unstack(stacked: Array, views: Sequence[View]) -> Array:
    """Split the output for a batch of `stack_views` into views.

    Args:
        stacked: Shape (V * N, ...), in the order of `stack_views`.
        views: The same V views.

    Returns:
        Shape (V, N, ...); no copy where `stacked` is contiguous.
    """
    return stacked.reshape(len(views), -1, *stacked.shape[1:])  # type: ignore[return-value]


def softmax(logits: FloatArray) -> FloatArray:
    """Compute probabilities of logits along the last axis."""
    exponentials: FloatArray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def mean_probs(probs: FloatArray) -> FloatArray:
    """Average probabilities over the views.

    Args:
        probs: Shape (V, N, classes), each row sums to 1.

    Returns:
        Shape (N, classes), each row sums to 1.
    """
    return np.asarray(probs.mean(0))


def spread(probs: FloatArray) -> FloatArray:
    """Measure the disagreement of the views.

    Args:
        probs: Shape (V, N, classes), in [0, 1].

    Returns:
        Shape (N,), in [0, 0.5]: for each image the largest population standard deviation of a class over the views; 0 for a
        single view.
    """
    return np.asarray(probs.std(0).max(1))


def mean_maps(maps: HeatmapArray, views: Sequence[View]) -> HeatmapArray:
    """Average the maps of each crop over its views, transformed back first.

    Args:
        maps: Shape (V * N, h, w), in the order of `stack_views`.
        views: The same V views.

    Returns:
        Shape (K, N, h, w) for the K `margin_scales(views)`, in the orientation of the crops.
    """
    maps_by_scale: dict[float, list[HeatmapArray]] = {scale: [] for scale in margin_scales(views)}
    for view, view_maps in zip(views, unstack(maps, views), strict=True):
        maps_by_scale[view.margin_scale].append(view.undo(view_maps))
    return np.stack([np.mean(upright, axis=0) for upright in maps_by_scale.values()])
