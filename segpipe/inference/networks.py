"""Interface of the networks that a pipeline runs, whatever their runtime."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from segpipe.bundle.card import Card, ClassifierCard, SegmenterCard
from segpipe.errors import PredictionError

Item = TypeVar("Item")

# RGB uint8, shape (N, size, size, 3), in the input size of a network.
Squares = NDArray[np.uint8]
Float32Array = NDArray[np.float32]


class Network(Protocol):
    """A network with its runtime. Thread-safe.

    Attributes:
        sha256: SHA-256 of the weights file.
        runtime: Name of the runtime, `torch`, `onnx` or `openvino`.
        precision: Precision of the convolutions, such as `float32`.
    """

    sha256: str
    runtime: str
    precision: str

    @property
    def card(self) -> Card:
        """Card of the network."""

    @property
    def threads(self) -> int:
        """Number of cores of a call from this thread, on a CPU."""

    def use_threads(self, count: int) -> None:
        """Set the number of cores of a call from this thread."""

    def preload(self) -> None:
        """Start to load what the first call needs, without waiting for it."""


@dataclass(frozen=True)
class SegmenterPass:
    """One pass of a segmenter.

    Attributes:
        logits: Logits of lesion, float32, shape (N, size, size).
        features: Pooled features of the encoder, float32, shape (N, D), see `segpipe.models.unet.pool_stages`; None for a graph
            of an older version, which does not return them.
    """

    logits: Float32Array
    features: Float32Array | None = None


class SegmenterNetwork(Network, Protocol):
    """A segmenter with its runtime."""

    @property
    def card(self) -> SegmenterCard:
        """Card of the segmenter."""

    def __call__(self, images: Squares) -> SegmenterPass:
        """Segment images of the network's input size.

        Raises:
            PredictionError: A logit is not finite.
        """


class ClassifierPass(Protocol):
    """One pass of a classifier, from which any class can be explained.

    Attributes:
        logits: Logits, shape (N, classes).
    """

    logits: Float32Array

    @property
    def features(self) -> Float32Array:
        """Mean of the last feature map over all positions, shape (N, C)."""

    def maps(self, target: NDArray[np.int64]) -> Float32Array:
        """Compute Grad-CAM maps of one class per image.

        Args:
            target: Index of the class to explain for each image, shape (N,).

        Returns:
            Shape (N, h, w), 0 or more, not scaled; see `segpipe.inference.torch_runtime.HeadPass`.
        """


class ClassifierNetwork(Network, Protocol):
    """A classifier with its runtime."""

    @property
    def card(self) -> ClassifierCard:
        """Card of the classifier."""

    def __call__(self, images: Squares, *, batch_size: int) -> ClassifierPass:
        """Classify images.

        Args:
            images: Images in the input size of the network.
            batch_size: Largest number of images in one pass through the backbone.

        Raises:
            PredictionError: A logit is not finite.
        """


def require_finite_logits(logits: Float32Array, role: str) -> Float32Array:
    """Check the output of a network and return it.

    Args:
        logits: Logits of any shape.
        role: Role of the network for the message, such as `segmenter`.

    Raises:
        PredictionError: A logit is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        raise PredictionError(f"the {role} gave a number that is not finite; use precision=float32, or another bundle")
    return logits


def sigmoid(logits: Float32Array) -> Float32Array:
    """Compute probabilities of logits; without overflow, unlike `1 / (1 + exp(-x))`."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), dtype=np.float32)


def is_out_of_memory(error: Exception) -> bool:
    """Return True where an error means that memory ran out."""
    # By name, because torch need not be there; it has a type for accelerators only.
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    reasons = ("can't allocate memory", "Failed to allocate memory", "bad allocation")
    return isinstance(error, MemoryError) or named or any(reason in str(error) for reason in reasons)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Split items into lists of `size`; the last may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
