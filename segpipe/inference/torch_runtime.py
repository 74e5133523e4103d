"""Networks that PyTorch runs, on a CPU or an accelerator, with Grad-CAM."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.inference.folding import prepare_network
from segpipe.inference.networks import Float32Array, SegmenterPass, Squares, require_finite_logits
from segpipe.inference.resources import choose_device
from segpipe.models.classifier import LesionClassifier
from segpipe.models.preprocessing import images_to_batch
from segpipe.models.unet import logits_and_features

_ACCELERATOR = threading.Lock()


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

    @property
    def features(self) -> Tensor:
        """Mean of the feature maps over all positions, shape (N, C)."""
        return self._leaf.detach().mean((2, 3))

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


class TorchNetwork:
    """Device, precision and threads of a network of torch.

    Attributes:
        runtime: `torch`.
        precision: Precision of the convolutions.
    """

    runtime = "torch"

    def __init__(self, device: str, precision: str) -> None:
        self._device = torch.device(choose_device(device))
        self._precision: torch.dtype = getattr(torch, precision)
        self.precision = precision

    @property
    def threads(self) -> int:
        """Number of cores of a call from this thread, on a CPU."""
        return torch.get_num_threads()

    def use_threads(self, count: int) -> None:
        """Set the number of cores of a call from this thread."""
        torch.set_num_threads(count)

    def preload(self) -> None:
        """Do nothing: the network is loaded already."""

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Set the precision, and lock an accelerator for one thread.

        Meanwhile, the other threads read and crop images.
        """
        lock = nullcontext() if self._device.type == "cpu" else _ACCELERATOR
        with lock, torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32):
            yield


class TorchSegmenter(TorchNetwork):
    """A U-Net of torch, see `segpipe.inference.networks.SegmenterNetwork`.

    Args:
        bundle: Bundle of the U-Net.
        device: Device of the network, see `segpipe.inference.resources.choose_device`.
        precision: Precision of the network.
    """

    def __init__(self, bundle: SegmenterBundle, device: str = "auto", precision: str = "float32") -> None:
        super().__init__(device, precision)
        self.card, self.sha256 = bundle.card, bundle.sha256
        # No reference to the model as it was loaded is kept, so its memory is released.
        self.model = prepare_network(bundle.model, self._device, self._precision)

    @torch.inference_mode()
    def __call__(self, images: Squares) -> SegmenterPass:
        """Segment images of the network's input size."""
        batch = images_to_batch(images, self.card.input, self._device)
        with self._running():
            logits, features = logits_and_features(self.model, batch)
        found = require_finite_logits(logits[:, 0].float().cpu().numpy(), "segmenter")
        return SegmenterPass(found, features.cpu().numpy())


class TorchClassifier(TorchNetwork):
    """A classifier of torch, see `segpipe.inference.networks.ClassifierNetwork`.

    Args:
        bundle: Bundle of the classifier.
        device: Device of the network, see `segpipe.inference.resources.choose_device`.
        precision: Precision of the backbone; the head runs in float32.
    """

    def __init__(self, bundle: ClassifierBundle, device: str = "auto", precision: str = "float32") -> None:
        super().__init__(device, precision)
        self.card, self.sha256 = bundle.card, bundle.sha256
        self.model = prepare_network(bundle.model, self._device, self._precision, run=LesionClassifier.features)

    @torch.inference_mode()
    def __call__(self, images: Squares, *, batch_size: int) -> "TorchPass":
        """Classify images of the network's input size."""
        with self._running():
            features = [
                self.model.features(images_to_batch(images[start : start + batch_size], self.card.input, self._device))
                for start in range(0, len(images), batch_size)
            ]
        return TorchPass(HeadPass(self.model.head, torch.cat(features).float()))


class TorchPass:
    """A pass through a classifier of torch.

    Attributes:
        logits: Logits, float32, shape (N, classes).
    """

    def __init__(self, head_pass: HeadPass) -> None:
        self._head_pass = head_pass
        self.logits: Float32Array = require_finite_logits(head_pass.logits.cpu().numpy(), "classifier")

    @property
    def features(self) -> Float32Array:
        """Mean of the last feature map over all positions, shape (N, C)."""
        features: Float32Array = self._head_pass.features.cpu().numpy()
        return features

    @torch.inference_mode()
    def maps(self, target: NDArray[np.int64]) -> Float32Array:
        """Compute Grad-CAM maps of one class per image, shape (N, h, w)."""
        maps: Float32Array = self._head_pass.maps(torch.from_numpy(target).to(self._head_pass.logits.device)).cpu().numpy()
        return maps
