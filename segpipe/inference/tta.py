"""Test-time augmentation: the flips and quarter turns of a batch, and what their answers say together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class View:
    """One of the eight ways to lay a square on itself: first mirrored or not, then turned.

    Attributes:
        rotations: quarter turns counter-clockwise, 0 to 3.
        flip: mirror left and right before the turn.
    """

    rotations: int
    flip: bool

    def __post_init__(self) -> None:
        if self.rotations not in range(4):
            raise ValueError(f"rotations must be 0, 1, 2 or 3 quarter turns, got {self.rotations}")

    def apply(self, batch: Tensor) -> Tensor:
        """Turn a batch of images into this view.

        Args:
            batch: shape (..., H, W), usually (N, 3, H, W).

        Returns:
            The same shape and dtype.

        Raises:
            ValueError: an odd number of quarter turns, and H and W differ.
        """
        self._check_shape(batch)
        mirrored = batch.flip(-1) if self.flip else batch
        return torch.rot90(mirrored, self.rotations, (-2, -1))

    def undo(self, maps: Tensor) -> Tensor:
        """Turn maps that were made from this view back, so that they lie on the original image again.

        Args:
            maps: shape (..., h, w), for example (N, h, w) or (N, C, h, w).

        Returns:
            The same shape and dtype.

        Raises:
            ValueError: an odd number of quarter turns, and h and w differ.
        """
        self._check_shape(maps)
        turned = torch.rot90(maps, -self.rotations, (-2, -1))
        return turned.flip(-1) if self.flip else turned

    def _check_shape(self, batch: Tensor) -> None:
        height, width = batch.shape[-2:]
        if self.rotations % 2 and height != width:
            raise ValueError(
                f"a batch must be square for a quarter turn, got {height} x {width}; resize it, or use the views of 'flips'"
            )


IDENTITY = View(0, False)
_FLIPS = (IDENTITY, View(0, True), View(2, True), View(2, False))

# The identity comes first in each, so the plain answer is always at hand as view 0.
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (IDENTITY,),
    "flips": _FLIPS,
    "d4": (*_FLIPS, View(1, False), View(3, False), View(1, True), View(3, True)),
}


def stack_views(batch: Tensor, views: Sequence[View]) -> Tensor:
    """All views of all images as one batch, view by view.

    Args:
        batch: float, shape (N, 3, H, W).
        views: V views, at least one.

    Returns:
        Shape (V * N, 3, H, W): all images in the first view, then all in the second, and so on.

    Raises:
        ValueError: a view makes a quarter turn, and H and W differ.
    """
    return torch.cat([view.apply(batch) for view in views])


def unstack(stacked: Tensor, views: Sequence[View]) -> Tensor:
    """What a model said of the views of `stack_views`, with the views as an axis of their own.

    Args:
        stacked: shape (V * N, ...), in the order of `stack_views`.
        views: the same V views.

    Returns:
        Shape (V, N, ...); no copy where `stacked` is contiguous.
    """
    return stacked.reshape(len(views), -1, *stacked.shape[1:])


def mean_probs(probs: Tensor) -> Tensor:
    """The answer over all views.

    Args:
        probs: float, shape (V, N, classes), each row sums to 1.

    Returns:
        Shape (N, classes), each row sums to 1.
    """
    return probs.mean(0)


def spread(probs: Tensor) -> Tensor:
    """How far the views disagree.

    Args:
        probs: float, shape (V, N, classes), in [0, 1].

    Returns:
        Shape (N,), in [0, 0.5]: of each image the largest population standard deviation of a class over the views; 0 for one.
    """
    return probs.std(0, correction=0).amax(1)


def mean_maps(maps: Tensor, views: Sequence[View]) -> Tensor:
    """The map over all views, each turned back first.

    Args:
        maps: shape (V * N, h, w), in the order of `stack_views`.
        views: the same V views.

    Returns:
        Shape (N, h, w), laid out as the original images are.
    """
    pairs = zip(views, unstack(maps, views), strict=True)
    return torch.stack([view.undo(of_one_view) for view, of_one_view in pairs]).mean(0)
