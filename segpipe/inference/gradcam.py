"""Grad-CAM on the last feature map."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot


class HeadPass:
    """One pass through a classifier's head, with Grad-CAM for any class.

    Grad-CAM needs the gradient at the last feature map only. So the backbone runs without a graph, autograd sees nothing but
    the head, and the class may be chosen late, from the logits of this same pass: over all views of an image, for example::

        features = torch.cat([model.features(part) for part in stacked.split(batch_size)])
        head_pass = HeadPass(model.head, features)
        predicted = head_pass.logits.softmax(1).unflatten(0, (views, -1)).mean(0).argmax(1)
        maps = head_pass.maps(predicted.repeat(views))

    It works inside `torch.no_grad()` and `torch.inference_mode()`, and leaves no hook, gradient or changed mode behind. The model
    must be in evaluation mode, as for any prediction, and must have been built outside `torch.inference_mode()`.

    Args:
        head: Function from feature maps to logits; each image's logits must depend on its own feature map alone.
        features: Feature maps, float, shape (N, C, h, w), in the dtype that `head` takes.

    Attributes:
        logits: Logits, shape (N, classes), without a graph.

    Reference:
        Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2.
    """

    def __init__(self, head: Callable[[Tensor], Tensor], features: Tensor) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            # Autograd refuses a tensor that was made in inference mode; only a copy made outside of it can carry a graph.
            self._leaf = (features.clone() if features.is_inference() else features.detach()).requires_grad_()
            self._output = head(self._leaf)
        self.logits = self._output.detach()

    def maps(self, target: Tensor) -> Tensor:
        """Compute Grad-CAM maps for one class per image.

        Args:
            target: Index of the class to explain for each image, int64, shape (N,).

        Returns:
            Float32, shape (N, h, w), 0 or more, not scaled: `relu(sum_c w_c A_c)` with `w_c` the mean over all positions of
            `d logit_target / d A_c`.

        Raises:
            ValueError: `target` is not one class index for each image.
        """
        _check_target(target, self.logits)
        with torch.inference_mode(False):
            chosen = one_hot(target, self.logits.shape[1]).to(self.logits)
            # No image's logit depends on another's features, so one backward pass gives each its own gradient.
            (gradient,) = torch.autograd.grad(self._output, self._leaf, chosen, retain_graph=True)
        return _weigh_channels(self._leaf.detach(), gradient)


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
