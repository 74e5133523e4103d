"""Networks that PyTorch runs, on a CPU or an accelerator."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.inference.devices import choose_device
from segpipe.inference.folding import prepare_network
from segpipe.inference.gradcam import HeadPass
from segpipe.inference.networks import Float32Array, Squares, require_finite_logits
from segpipe.models.classifier import LesionClassifier
from segpipe.models.preprocessing import images_to_batch

_ACCELERATOR = threading.Lock()


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
        device: Device of the network, see `segpipe.inference.devices.choose_device`.
        precision: Precision of the network.
    """

    def __init__(self, bundle: SegmenterBundle, device: str = "auto", precision: str = "float32") -> None:
        super().__init__(device, precision)
        self.card, self.sha256 = bundle.card, bundle.sha256
        # No reference to the model as it was loaded is kept, so its memory is released.
        self.model = prepare_network(bundle.model, self._device, self._precision)

    @torch.inference_mode()
    def logits(self, images: Squares) -> Float32Array:
        """Compute the logits of lesion, shape (N, size, size)."""
        batch = images_to_batch(images, self.card.input, self._device)
        with self._running():
            logits = self.model(batch)[:, 0]
        return require_finite_logits(logits.float().cpu().numpy(), "segmenter")


class TorchClassifier(TorchNetwork):
    """A classifier of torch, see `segpipe.inference.networks.ClassifierNetwork`.

    Args:
        bundle: Bundle of the classifier.
        device: Device of the network, see `segpipe.inference.devices.choose_device`.
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

    @torch.inference_mode()
    def maps(self, target: NDArray[np.int64]) -> Float32Array:
        """Compute Grad-CAM maps of one class per image, shape (N, h, w)."""
        maps: Float32Array = self._head_pass.maps(torch.from_numpy(target).to(self._head_pass.logits.device)).cpu().numpy()
        return maps
