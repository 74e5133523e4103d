"""Bundles on disk: folders with `model.safetensors` and `card.json`, without pickles.

The card says what to build and how to feed it, so inference needs no configuration. Only segpipe's own builders can be named.
Graphs for ONNX Runtime may lie beside them, see `segpipe.bundle.graphs`.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from segpipe.bundle.card import Card, ClassifierBundle, ClassifierCard, SegmenterBundle, SegmenterCard, kind_of, outputs_of
from segpipe.bundle.card_file import FORMAT, parse_card, read_card, read_content
from segpipe.bundle.file_formats import IDENTITY, check_identity, identity
from segpipe.bundle.graphs import read_graph
from segpipe.errors import BundleError, WriteError
from segpipe.io.files import encode_json, one_line, parse_json
from segpipe.io.run_files import CARD, GRAPHS, WEIGHTS
from segpipe.models.classifier import build_classifier
from segpipe.models.networks import load_weights, require_finite
from segpipe.models.unet import build_unet

MAX_HEADER_BYTES = 100_000_000  # limit of safetensors itself

AnyModel = TypeVar("AnyModel", bound=nn.Module)


def save_bundle(folder: Path, model: nn.Module, card: Card, *, half: bool = False) -> None:
    """Write a bundle atomically, replacing an existing one.

    Graphs that the card lists are kept where the existing bundle holds them and the weights stay the same; others are removed.

    Args:
        folder: Folder of the bundle; its parent must exist.
        model: Network, built from `card.arguments`.
        card: Card of a segmenter or a classifier.
        half: True to store float16 instead of float32, at half the size.

    Raises:
        BundleError: The card could not be read again, or a weight is not finite; nothing is written.
        WriteError: The bundle cannot be written; an existing one is kept.
    """
    _encode_card(folder, card)
    try:
        weights = _encode_weights(model, card, half=half)
    except ValueError as error:
        raise BundleError(f"{folder}: the bundle is not written, its weight {error}; train the model again") from error
    graphs = _fitting_graphs(folder, weights, card)
    _write_bundle(folder, replace(card, graphs=card.graphs if graphs else {}), weights, graphs)


def save_graphs(folder: Path, card: Card, graphs: Mapping[str, bytes]) -> None:
    """Add graphs to an existing bundle and its card, atomically.

    Args:
        folder: Folder of the bundle.
        card: Card of the bundle with the records of these graphs.
        graphs: Content of each graph by file name.

    Raises:
        BundleError: A graph could not be read again, see `segpipe.bundle.graphs.read_graph`; nothing is written.
        WriteError: The bundle cannot be written; the existing one is kept.
    """
    _write_bundle(folder, card, (folder / WEIGHTS).read_bytes(), graphs)


def _fitting_graphs(folder: Path, weights: bytes, card: Card) -> dict[str, bytes]:
    """Return the graphs of a card, or none if one is unfit."""
    try:
        if not card.graphs or (folder / WEIGHTS).read_bytes() != weights:
            return {}
        return {name: read_graph(folder, name, card) for name in card.graphs}
    except (OSError, BundleError):
        return {}


def _encode_card(folder: Path, card: Card) -> bytes:
    """Encode a card that can be read again."""
    kind = kind_of(card)
    text = encode_json({"format": FORMAT, "kind": kind} | asdict(card))
    parse_card(folder, parse_json(text), kind, type(card))
    return text


def _write_bundle(folder: Path, card: Card, weights: bytes, graphs: Mapping[str, bytes]) -> None:
    text = _encode_card(folder, card)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            new = Path(temporary, "new")
            new.mkdir()
            for name, content in {WEIGHTS: weights, CARD: text, **graphs}.items():
                (new / name).write_bytes(content)
            for name in graphs:
                read_graph(new, name, card)
            _replace_folder(new, folder, old=Path(temporary, "old"))
    except OSError as error:
        raise WriteError(f"{folder}: the bundle cannot be written ({error.strerror})") from error


def _encode_weights(model: nn.Module, card: Card, *, half: bool = False) -> bytes:
    """Encode the weights file of a bundle.

    Raises:
        ValueError: A weight is not finite.
    """
    state = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    require_finite(state)
    # A single entry: safetensors writes several in any order, and equal weights must give equal files.
    return save(state, {IDENTITY: json.dumps(identity(outputs_of(card), save(state)))})


def bundle_segmenter(model: nn.Module, card: SegmenterCard) -> SegmenterBundle:
    """Copy a trained U-Net into a bundle, as if saved and loaded."""
    copy, sha256 = _copy_weights(model, card, build_unet(**card.arguments))
    return SegmenterBundle(copy, card, sha256)


def bundle_classifier(model: nn.Module, card: ClassifierCard) -> ClassifierBundle:
    """Copy a trained classifier into a bundle, as if saved and loaded."""
    copy, sha256 = _copy_weights(model, card, build_classifier(classes=len(card.classes), **card.arguments))
    return ClassifierBundle(copy, card, sha256)


def _copy_weights(model: nn.Module, card: Card, copy: AnyModel) -> tuple[AnyModel, str]:
    try:
        weights = _encode_weights(model, card)
    except ValueError as error:
        raise BundleError(f"the trained model cannot be used, its weight {error}; train the model again") from error
    load_weights(copy, load(weights))
    return copy.eval(), hashlib.sha256(weights).hexdigest()


def _replace_folder(new: Path, folder: Path, *, old: Path) -> None:
    """Move a new bundle into place; restore the old one on failure.

    Other files of the folder are kept.
    """
    if not folder.exists():
        new.replace(folder)
        return
    folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    for path in old.iterdir() if old.is_dir() else ():
        if path.name not in (WEIGHTS, CARD, *GRAPHS):
            path.replace(folder / path.name)


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
