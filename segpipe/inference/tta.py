"""Test-time augmentation: flipped and rotated crops of several margins, and their mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


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

    def apply(self, batch: Tensor) -> Tensor:
        """Transform a batch of images to this view.

        Args:
            batch: Shape (..., H, W), usually (N, 3, H, W).

        Returns:
            The same shape and dtype.

        Raises:
            ValueError: The view has an odd number of quarter turns, and H and W differ.
        """
        self._check_shape(batch)
        mirrored = batch.flip(-1) if self.flip else batch
        return torch.rot90(mirrored, self.rotations, (-2, -1))

    def undo(self, maps: Tensor) -> Tensor:
        """Transform maps of this view back to the original image.

        Args:
            maps: Shape (..., h, w), for example (N, h, w) or (N, C, h, w).

        Returns:
            The same shape and dtype.

        Raises:
            ValueError: The view has an odd number of quarter turns, and h and w differ.
        """
        self._check_shape(maps)
        upright = torch.rot90(maps, -self.rotations, (-2, -1))
        return upright.flip(-1) if self.flip else upright

    def _check_shape(self, batch: Tensor) -> None:
        height, width = batch.shape[-2:]
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


def stack_views(crops: Mapping[float, Tensor], views: Sequence[View]) -> Tensor:
    """Stack all views of all images in one batch, view by view.

    Args:
        crops: Crops of the images for each of `margin_scales(views)`, float, shape (N, 3, H, W).
        views: Views, V of them, at least one.

    Returns:
        Shape (V * N, 3, H, W): all images in the first view, then all in the second, and so on.

    Raises:
        ValueError: A view has an odd number of quarter turns, and H and W differ.
    """
    return torch.cat([view.apply(crops[view.margin_scale]) for view in views])


def unstack(stacked: Tensor, views: Sequence[View]) -> Tensor:
    """Split the output for a batch of `stack_views` into views.

    Args:
        stacked: Shape (V * N, ...), in the order of `stack_views`.
        views: The same V views.

    Returns:
        Shape (V, N, ...); no copy where `stacked` is contiguous.
    """
    return stacked.reshape(len(views), -1, *stacked.shape[1:])


def mean_probs(probs: Tensor) -> Tensor:
    """Average probabilities over the views.

    Args:
        probs: Float, shape (V, N, classes), each row sums to 1.

    Returns:
        Shape (N, classes), each row sums to 1.
    """
    return probs.mean(0)


def spread(probs: Tensor) -> Tensor:
    """Measure the disagreement of the views.

    Args:
        probs: Float, shape (V, N, classes), in [0, 1].

    Returns:
        Shape (N,), in [0, 0.5]: for each image the largest population standard deviation of a class over the views; 0 for a
        single view.
    """
    return probs.std(0, correction=0).amax(1)


def mean_maps(maps: Tensor, views: Sequence[View]) -> Tensor:
    """Average the maps of each crop over its views, transformed back first.

    Args:
        maps: Shape (V * N, h, w), in the order of `stack_views`.
        views: The same V views.

    Returns:
        Shape (K, N, h, w) for the K `margin_scales(views)`, in the orientation of the crops.
    """
    maps_by_scale: dict[float, list[Tensor]] = {scale: [] for scale in margin_scales(views)}
    for view, view_maps in zip(views, unstack(maps, views), strict=True):
        maps_by_scale[view.margin_scale].append(view.undo(view_maps))
    return torch.stack([torch.stack(upright).mean(0) for upright in maps_by_scale.values()])
