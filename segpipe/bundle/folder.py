"""A trained model on disk: a folder with `model.safetensors` and `card.json`. Nothing in it is pickled.

The card says what to build and how to feed it, so inference needs no configuration. Only segpipe's own builders can be named.
The weights repeat in their metadata what kind of model they are of and its classes in order, which a card alone cannot prove, and
hold a hash of their tensors.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from segpipe.bundle.card import CARD, FORMAT, AnyCard, Card, ClassifierCard, SegmenterCard, kind_of, parse_card
from segpipe.errors import BundleError, WriteError, one_line
from segpipe.io.strict_json import encode_json, parse_json, read_json
from segpipe.models.classifier import LesionClassifier, build_classifier
from segpipe.models.unet import build_unet
from segpipe.models.weights import hash_tensors, load_weights, read_metadata, require_finite

WEIGHTS = "model.safetensors"
IDENTITY = "segpipe"  # entry of the metadata of the weights
LONGEST_HEADER = 100_000_000  # bytes, as safetensors itself has it
SHIPPED = Path(__file__).parents[1] / "weights"

AnyModel = TypeVar("AnyModel", bound=nn.Module)


@dataclass(frozen=True)
class SegmenterBundle:
    """A U-Net that was loaded.

    Attributes:
        model: float32, in eval mode, on the CPU.
        card: what it says of itself.
        sha256: of its weights file.
    """

    model: nn.Module
    card: SegmenterCard
    sha256: str


@dataclass(frozen=True)
class ClassifierBundle:
    """A classifier that was loaded; the fields are those of `SegmenterBundle`."""

    model: LesionClassifier
    card: ClassifierCard
    sha256: str


def save_bundle(folder: Path, model: nn.Module, card: Card, *, half: bool = False) -> None:
    """Write a bundle, whole or not at all; one that stands there is replaced.

    Args:
        folder: of the bundle; the folder above it must exist.
        model: built as `card.arguments` say.
        card: a segmenter's or a classifier's.
        half: store float16 instead of float32, half the size.

    Raises:
        BundleError: the card could not be read again, or a weight is not finite, so that nothing is written.
        WriteError: the bundle cannot be written; one that stood there is still there.
    """
    state = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    kind = kind_of(card)
    text = encode_json({"format": FORMAT, "kind": kind} | asdict(card))
    parse_card(folder, parse_json(text), kind, type(card))
    try:
        require_finite(state)
    except ValueError as error:
        raise BundleError(f"{folder}: the bundle is not written, its weight {error}; train the model again") from error
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as workshop:
            fresh = Path(workshop, "fresh")
            fresh.mkdir()
            # Not save_file, whose files nobody else may read.
            # One entry: safetensors would write several in any order, and the same weights must give the same file.
            (fresh / WEIGHTS).write_bytes(save(state, {IDENTITY: json.dumps(_identity(card, save(state)))}))
            (fresh / CARD).write_bytes(text)
            _put_in_place(fresh, folder, old=Path(workshop, "old"))
    except OSError as error:
        raise WriteError(f"{folder}: the bundle cannot be written ({error.strerror})") from error


def _put_in_place(fresh: Path, folder: Path, *, old: Path) -> None:
    """Let a fresh bundle take the place of an old one, which is put back if that fails; other files in the folder stay."""
    if not folder.exists():
        fresh.replace(folder)
        return
    folder.replace(old)
    try:
        fresh.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    for path in old.iterdir() if old.is_dir() else ():
        if path.name not in (WEIGHTS, CARD):
            path.replace(folder / path.name)


def load_bundle(folder: str | Path) -> SegmenterBundle | ClassifierBundle:
    """Load a segmenter or a classifier, whichever a bundle holds.

    Args:
        folder: folder of the bundle, as a training writes it to `OUTPUT/bundle`.

    Returns:
        The model on the CPU in eval mode, its card, and the SHA-256 of its weights.

    Raises:
        BundleError: the bundle is missing, damaged or foreign.
        ValueError: `folder` is not a path.
    """
    if not isinstance(folder, str | Path):
        raise ValueError(f"folder must be the path of a bundle, got {type(folder).__name__}; a training writes OUTPUT/bundle")
    content = _read_content(Path(folder))
    is_segmenter = isinstance(content, dict) and content.get("kind") == "segmenter"
    return load_segmenter(Path(folder)) if is_segmenter else load_classifier(Path(folder))


def load_segmenter(folder: Path) -> SegmenterBundle:
    """Load a U-Net.

    Raises:
        BundleError: the bundle is missing, damaged, foreign, or a classifier.
    """
    card = read_card(folder, "segmenter", SegmenterCard)
    model, sha256 = _load_weights(folder, card, lambda: build_unet(**card.arguments))
    return SegmenterBundle(model, card, sha256)


def load_classifier(folder: Path) -> ClassifierBundle:
    """Load a classifier.

    Raises:
        BundleError: the bundle is missing, damaged, foreign, or a segmenter.
    """
    card = read_card(folder, "classifier", ClassifierCard)
    model, sha256 = _load_weights(folder, card, lambda: build_classifier(classes=len(card.classes), **card.arguments))
    return ClassifierBundle(model, card, sha256)


def read_card(folder: Path, kind: str, schema: type[AnyCard]) -> AnyCard:
    """Read what a bundle says of itself, without its weights.

    Args:
        folder: of the bundle.
        kind: `segmenter` or `classifier`.
        schema: the card of this kind.

    Raises:
        BundleError: the card is missing, damaged, foreign, or of the other kind.
    """
    return parse_card(folder, _read_content(folder), kind, schema)


def _read_content(folder: Path) -> Any:
    try:
        return read_json(folder / CARD)
    except OSError as error:
        raise BundleError(f"{folder}: a bundle must be a folder with {WEIGHTS} and {CARD}; {_why_no_card(folder)}") from error
    except ValueError as error:
        raise BundleError(f"{folder}: {CARD} is damaged, it is not JSON ({one_line(str(error))})") from error


def _why_no_card(folder: Path) -> str:
    if os.path.isfile(folder / "bundle" / CARD):
        return f"the output of a training holds one in {folder / 'bundle'}"
    if os.path.isdir(folder):
        return f"{CARD} cannot be read"
    return "a file is no bundle" if os.path.exists(folder) else "no such folder, check the path"


def _identity(card: Card, content: bytes) -> dict[str, Any]:
    """What the metadata of weights hold, the file of which is `content`: kind, classes in order, and a hash of the tensors."""
    classes = list(card.classes) if isinstance(card, ClassifierCard) else None
    return {"kind": kind_of(card), "classes": classes, "tensors": hash_tensors(content)}


def _load_weights(folder: Path, card: Card, build: Callable[[], AnyModel]) -> tuple[AnyModel, str]:
    """Build a model, in eval mode, with the weights of a bundle; and the SHA-256 of these."""
    with _refuse_unlike(folder):
        model = build().eval()
    content = _read_weights(folder, model)
    try:
        state = load(content)
    except SafetensorError as error:
        raise BundleError(f"{folder}: {WEIGHTS} is damaged or no safetensors file ({one_line(str(error))})") from error
    _compare_identity(folder, content, card)
    with _refuse_unlike(folder):
        load_weights(model, state)
        _try_out(model, card)
    try:
        require_finite(model.state_dict())
    except ValueError as error:
        raise BundleError(f"{folder}: {WEIGHTS} cannot be used, {error}; train or copy it again") from error
    return model, hashlib.sha256(content).hexdigest()


@contextmanager
def _refuse_unlike(folder: Path) -> Iterator[None]:
    """Turn whatever a library makes of arguments or tensors that a damaged bundle may name into a BundleError."""
    try:
        yield
    except Exception as error:
        raise BundleError(f"{folder}: weights and card do not belong together ({one_line(str(error))})") from error


def _read_weights(folder: Path, model: nn.Module) -> bytes:
    """The file of the weights, as far as it is no longer than those of this model can be."""
    most = LONGEST_HEADER + 8 * sum(tensor.numel() for tensor in model.state_dict().values())
    try:
        with (folder / WEIGHTS).open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise BundleError(f"{folder}: {WEIGHTS} cannot be read ({error.strerror})") from error
    if len(content) > most:
        raise BundleError(f"{folder}: {WEIGHTS} must have at most {most:,} bytes for the network of the card, got more")
    return content


@torch.no_grad()
def _try_out(model: nn.Module, card: Card) -> None:
    """See that a network answers an image of the size that its card names, which not every network does for every size."""
    size = card.input.size
    expected = (1, len(card.classes)) if isinstance(card, ClassifierCard) else (1, 1, size, size)
    found = tuple(model(torch.zeros(1, 3, size, size)).shape)
    if found != expected:
        raise ValueError(f"the network's answer must have the shape {expected}, got {found}")


def _compare_identity(folder: Path, content: bytes, card: Card) -> None:
    """See that weights are whole and of the model that a card describes, as far as they say so; older ones do not."""
    text = read_metadata(content).get(IDENTITY)
    if text is None:
        return
    expected = _identity(card, content)
    try:
        said = json.loads(text)
        differing = {key: said.get(key) for key in expected if said.get(key) != expected[key]}
    except (ValueError, AttributeError, RecursionError) as error:
        raise BundleError(f"{folder}: {WEIGHTS} is damaged, its metadata are none of segpipe's; copy it again") from error
    if "tensors" in differing:
        raise BundleError(f"{folder}: {WEIGHTS} is damaged, its tensors are not those that were saved; copy it again")
    if differing:
        got = {key: expected[key] for key in differing}
        raise BundleError(
            f"{folder}: weights and card do not belong together ({CARD} must say {one_line(str(differing))} as the weights do, "
            f"got {one_line(str(got))}); copy both files again"
        )
