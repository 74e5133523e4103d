"""Grad-CAM on the last feature map: where the classifier looked, for little more than the price of the answer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Explained:
    """An answer and its reasons, from one pass through the head.

    Attributes:
        logits: shape (N, classes), no graph attached.
        maps: float32, shape (N, h, w), 0 or more, not scaled: large where the image speaks for the chosen class.
    """

    logits: Tensor
    maps: Tensor


def explain(head: Callable[[Tensor], Tensor], features: Tensor, choose_target: Callable[[Tensor], Tensor]) -> Explained:
    """Classify feature maps, then show which places of them speak for a class.

    Grad-CAM needs the gradient at the last feature map only. So the backbone runs without a graph, autograd sees nothing but
    the head, and the class may be chosen late, from the logits of this same pass: over all views of an image, for example::

        stacked = stack_views(batch, views)
        features = torch.cat([model.features(part) for part in stacked.split(batch_size)])

        def predicted(logits: Tensor) -> Tensor:
            probs = unstack((logits / temperature).softmax(1), views)
            return mean_probs(probs).argmax(1).repeat(len(views))

        explained = explain(model.head, features, predicted)
        heatmaps = scale_to_unit(mean_maps(explained.maps, views))

    It works inside `torch.no_grad()` and `torch.inference_mode()`, and leaves nothing behind: no hook, no gradient, no changed
    mode. Put the model into evaluation mode first, as for any answer. It must have been built outside `torch.inference_mode()`.

    Args:
        head: from feature maps to logits; each image's logits must depend on its own feature map alone.
        features: float, shape (N, C, h, w), in the dtype that `head` takes.
        choose_target: from logits, shape (N, classes), to the index of the class to explain for each image, int64, shape (N,).

    Returns:
        The logits, and per image `relu(sum_c w_c A_c)` with `w_c` the mean over the places of `d logit_target / d A_c`.

    Raises:
        ValueError: `choose_target` does not give one class index for each image.

    Reference:
        Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # Autograd refuses a tensor that was made in inference mode; only a copy made outside of it can carry a graph.
        leaf = (features.clone() if features.is_inference() else features.detach()).requires_grad_()
        logits = head(leaf)
        target = choose_target(logits.detach())
        _check_target(target, logits)
        # No image's logit depends on another's features, so one backward of the sum gives each its own gradient.
        (gradient,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), leaf)
    return Explained(logits.detach(), _weigh_channels(leaf.detach(), gradient))


def scale_to_unit(maps: Tensor) -> Tensor:
    """Scale each map by its maximum; a map of zeros stays so.

    Args:
        maps: float, shape (N, h, w), 0 or more.

    Returns:
        The same shape, in [0, 1].
    """
    peaks = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(peaks > 0, peaks, 1)


def _weigh_channels(features: Tensor, gradient: Tensor) -> Tensor:
    weights = gradient.float().mean((2, 3), keepdim=True)
    # The float32 weights lift half-precision features; an einsum would not do, because autocast runs it in half precision.
    return (weights * features).sum(1).relu()


def _check_target(target: Tensor, logits: Tensor) -> None:
    images, classes = logits.shape
    if target.shape != (images,):
        raise ValueError(f"target must hold one class index for each of {images} images, got shape {tuple(target.shape)}")
    if images and not 0 <= int(target.min()) <= int(target.max()) < classes:
        raise ValueError(f"target must be class indices from 0 to {classes - 1}, got {target.tolist()}")
