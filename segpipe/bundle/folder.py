"""Bundles on disk: folders with `model.safetensors` and `card.json`, without pickles.

The card says what to build and how to feed it, so inference needs no configuration. Only segpipe's own builders can be named.
Graphs for ONNX Runtime may lie beside them, see `segpipe.bundle.graphs`.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from segpipe.bundle.card import Card, ClassifierBundle, ClassifierCard, SegmenterBundle, SegmenterCard, outputs_of
from segpipe.bundle.card_file import read_card, read_content
from segpipe.bundle.file_formats import check_identity
from segpipe.errors import BundleError
from segpipe.io.files import one_line
from segpipe.io.run_files import WEIGHTS
from segpipe.models.classifier import build_classifier
from segpipe.models.networks import load_weights, require_finite
from segpipe.models.unet import build_unet

MAX_HEADER_BYTES = 100_000_000  # limit of safetensors itself

AnyModel = TypeVar("AnyModel", bound=nn.Module)


def load_bundle(folder: str | Path) -> SegmenterBundle | ClassifierBundle:
    """Load a segmenter or a classifier with its card.

    Args:
        folder: Folder of the bundle, such as `OUTPUT/bundle` of a training.

    Returns:
        The model on the CPU in eval mode, its card, and the SHA-256 of its weights.

    Raises:
        BundleError: The bundle is missing, damaged or foreign.
        ValueError: `folder` is not a path.
    """
    if not isinstance(folder, str | Path):
        raise ValueError(f"folder must be the path of a bundle, got {type(folder).__name__}; a training writes OUTPUT/bundle")
    content = read_content(Path(folder))
    is_segmenter = isinstance(content, dict) and content.get("kind") == "segmenter"
    return load_segmenter(Path(folder)) if is_segmenter else load_classifier(Path(folder))


def load_segmenter(folder: Path) -> SegmenterBundle:
    """Load a U-Net.

    Raises:
        BundleError: The bundle is missing, damaged, foreign, or a classifier.
    """
    card = read_card(folder, "segmenter", SegmenterCard)
    model, sha256 = _load_model(folder, card, lambda: build_unet(**card.arguments))
    return SegmenterBundle(model, card, sha256)


def load_classifier(folder: Path) -> ClassifierBundle:
    """Load a classifier.

    Raises:
        BundleError: The bundle is missing, damaged, foreign, or a segmenter.
    """
    card = read_card(folder, "classifier", ClassifierCard)
    model, sha256 = _load_model(folder, card, lambda: build_classifier(classes=len(card.classes), **card.arguments))
    return ClassifierBundle(model, card, sha256)


def _load_model(folder: Path, card: Card, build: Callable[[], AnyModel]) -> tuple[AnyModel, str]:
    """Build a model with a bundle's weights; return their SHA-256 too."""
    with _refuse_mismatch(folder):
        model = build().eval()
    content = _read_weights(folder, model)
    try:
        state = load(content)
    except SafetensorError as error:
        raise BundleError(f"{folder}: {WEIGHTS} is damaged or no safetensors file ({one_line(str(error))})") from error
    check_identity(folder, content, outputs_of(card))
    with _refuse_mismatch(folder):
        load_weights(model, state)
        _check_output_shape(model, card)
    try:
        require_finite(model.state_dict())
    except ValueError as error:
        raise BundleError(f"{folder}: {WEIGHTS} cannot be used, {error}; train or copy it again") from error
    return model, hashlib.sha256(content).hexdigest()


@contextmanager
def _refuse_mismatch(folder: Path) -> Iterator[None]:
    """Convert any error about arguments or tensors to a BundleError."""
    try:
        yield
    except Exception as error:
        raise BundleError(f"{folder}: weights and card do not belong together ({one_line(str(error))})") from error


def _read_weights(folder: Path, model: nn.Module) -> bytes:
    """Read the weights file, up to the largest possible size."""
    limit = MAX_HEADER_BYTES + 8 * sum(tensor.numel() for tensor in model.state_dict().values())
    try:
        with (folder / WEIGHTS).open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise BundleError(f"{folder}: {WEIGHTS} cannot be read ({error.strerror})") from error
    if len(content) > limit:
        raise BundleError(f"{folder}: {WEIGHTS} must have at most {limit:,} bytes for the network of the card, got more")
    return content


@torch.no_grad()
def _check_output_shape(model: nn.Module, card: Card) -> None:
    """Run the network once at the input size of the card."""
    size = card.input.size
    expected = (1, len(card.classes)) if isinstance(card, ClassifierCard) else (1, 1, size, size)
    found = tuple(model(torch.zeros(1, 3, size, size)).shape)
    if found != expected:
        raise ValueError(f"the output of the network must have the shape {expected}, got {found}")
