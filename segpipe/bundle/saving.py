"""Saving of bundles: weights, card, graphs and reference data, written at once."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from safetensors.torch import load, save
from torch import nn

from segpipe.bundle.card import Card, ClassifierBundle, ClassifierCard, SegmenterBundle, SegmenterCard, kind_of, outputs_of
from segpipe.bundle.card_file import FORMAT, parse_card
from segpipe.bundle.file_formats import IDENTITY, identity
from segpipe.bundle.graphs import read_graph
from segpipe.bundle.records import ReferenceRecord
from segpipe.bundle.references import Reference, encode_reference, read_reference_bytes
from segpipe.errors import BundleError, WriteError
from segpipe.io.files import encode_json, parse_json
from segpipe.io.run_files import CARD, GRAPHS, REFERENCES, WEIGHTS
from segpipe.models.classifier import build_classifier
from segpipe.models.networks import load_weights, require_finite
from segpipe.models.unet import build_unet

AnyModel = TypeVar("AnyModel", bound=nn.Module)
AnyCard = TypeVar("AnyCard", bound=Card)


def save_bundle(folder: Path, model: nn.Module, card: Card, *, half: bool = False) -> None:
    """Write a bundle atomically, replacing an existing one.

    Graphs and reference data that the card lists are kept where the existing bundle holds them and the weights stay the same;
    others are removed.

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
    same = _holds(folder, weights)
    graphs, references = (_fitting_graphs(folder, card), _fitting_references(folder, card)) if same else ({}, {})
    card = replace(card, graphs=card.graphs if graphs else {})
    _write_bundle(folder, _with_references(card, references), weights, graphs | references)


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
    references = _fitting_references(folder, card)
    _write_bundle(folder, _with_references(card, references), (folder / WEIGHTS).read_bytes(), {**graphs, **references})


def save_reference(folder: Path, name: str, card: AnyCard, reference: Reference, *, images: int, source: str) -> AnyCard:
    """Add reference data to an existing bundle and its card, atomically.

    Args:
        folder: Folder of the bundle.
        name: File name, one of `segpipe.io.run_files.REFERENCES`.
        card: Card of the bundle.
        reference: Reference data.
        images: Number of images that they were made from.
        source: Origin of these images.

    Returns:
        Card with the record of the reference data.

    Raises:
        WriteError: The bundle cannot be written; the existing one is kept.
    """
    content = encode_reference(reference)
    record = ReferenceRecord(hashlib.sha256(content).hexdigest(), images, source)
    references = _fitting_references(folder, card)
    changed = replace(card, references={**_with_references(card, references).references, name: record})
    files = _fitting_graphs(folder, card) | references | {name: content}
    _write_bundle(folder, changed, (folder / WEIGHTS).read_bytes(), files)
    return changed


def _holds(folder: Path, weights: bytes) -> bool:
    """Return True if the bundle on disk has these weights."""
    try:
        return (folder / WEIGHTS).read_bytes() == weights
    except OSError:
        return False


def _fitting_graphs(folder: Path, card: Card) -> dict[str, bytes]:
    """Return the graphs of a card, or none if one is unfit."""
    try:
        return {name: read_graph(folder, name, card) for name in card.graphs}
    except BundleError:
        return {}


def _fitting_references(folder: Path, card: Card) -> dict[str, bytes]:
    """Return the reference data of a card, without those that are unfit."""
    contents = {}
    for name in card.references:
        with suppress(BundleError):
            contents[name] = read_reference_bytes(folder, name, card)
    return contents


def _with_references(card: AnyCard, contents: Mapping[str, bytes]) -> AnyCard:
    """Drop the records of reference data that are not among the contents."""
    return replace(card, references={name: record for name, record in card.references.items() if name in contents})


def _encode_card(folder: Path, card: Card) -> bytes:
    """Encode a card that can be read again."""
    kind = kind_of(card)
    text = encode_json({"format": FORMAT, "kind": kind} | asdict(card))
    parse_card(folder, parse_json(text), kind, type(card))
    return text


def _write_bundle(folder: Path, card: Card, weights: bytes, extras: Mapping[str, bytes]) -> None:
    text = _encode_card(folder, card)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            new = Path(temporary, "new")
            new.mkdir()
            for name, content in {WEIGHTS: weights, CARD: text, **extras}.items():
                (new / name).write_bytes(content)
            for name in card.graphs:
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
        if path.name not in (WEIGHTS, CARD, *GRAPHS, *REFERENCES):
            path.replace(folder / path.name)
