"""A trained model on disk: a folder with `model.safetensors` and `card.json`. Nothing in it is pickled.

The card says what to build and how to feed it, so inference needs no configuration. Only segpipe's own builders can be named.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from segpipe.card import Card, ClassifierCard, SegmenterCard
from segpipe.errors import BundleError, OutputError
from segpipe.models.classifier import LesionClassifier, build_classifier
from segpipe.models.unet import build_unet

FORMAT = "segpipe-bundle-1"
WEIGHTS = "model.safetensors"
CARD = "card.json"
SHIPPED = Path(__file__).parent / "weights"

AnyCard = TypeVar("AnyCard", bound=Card)
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
        OutputError: the bundle cannot be written.
    """
    kind = "segmenter" if isinstance(card, SegmenterCard) else "classifier"
    state = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    text = json.dumps({"format": FORMAT, "kind": kind} | asdict(card), indent=2, ensure_ascii=False, default=dict)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as workshop:
            fresh = Path(workshop, "fresh")
            fresh.mkdir()
            # Not save_file, whose files nobody else may read.
            (fresh / WEIGHTS).write_bytes(save(state))
            (fresh / CARD).write_text(text + "\n", encoding="utf-8")
            if folder.exists():
                folder.replace(Path(workshop, "old"))
            fresh.replace(folder)
    except OSError as error:
        raise OutputError(f"{folder}: the bundle cannot be written ({error.strerror})") from error


def load_segmenter(folder: Path) -> SegmenterBundle:
    """Load a U-Net.

    Raises:
        BundleError: the bundle is missing, damaged, foreign, or a classifier.
    """
    card = read_card(folder, "segmenter", SegmenterCard)
    model, sha256 = _load_weights(folder, lambda: build_unet(**card.arguments))
    return SegmenterBundle(model, card, sha256)


def load_classifier(folder: Path) -> ClassifierBundle:
    """Load a classifier.

    Raises:
        BundleError: the bundle is missing, damaged, foreign, or a segmenter.
    """
    card = read_card(folder, "classifier", ClassifierCard)
    model, sha256 = _load_weights(folder, lambda: build_classifier(classes=len(card.classes), **card.arguments))
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
    try:
        content: Any = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{folder}: a bundle must be a folder with {WEIGHTS} and {CARD}; {CARD} cannot be read") from error
    except ValueError as error:
        raise BundleError(f"{folder}: {CARD} is damaged, it is not JSON") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise BundleError(f"{folder}: {CARD} is not that of a {FORMAT}; train or ship the model with this version of segpipe")
    found = content.pop("kind", None)
    if found != kind:
        raise BundleError(
            f"{folder}: must be the bundle of a {kind}, got that of a {found}; name the one that bundle.{kind}= needs"
        )
    _list_operating_point(content)
    try:
        return TypeAdapter(schema).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{folder}: {CARD} is damaged, {where}: {first['msg']}") from error


def _list_operating_point(content: dict[str, Any]) -> None:
    """Bring the one operating point of earlier cards, with its test metrics, into the list that it is now."""
    point = content.pop("operating_point", None)
    if point is None or content.get("operating_points"):
        return
    if isinstance(point, dict) and "diagnosis" in point:
        metrics = content.get("metrics")
        values = metrics.get("metrics") if isinstance(metrics, dict) else None
        known = values if isinstance(values, dict) else {}
        names = {name: f"{name}_flagged" for name in ("sensitivity", "specificity")}
        point = {
            **{key: value for key, value in point.items() if key != "diagnosis"},
            "target": point["diagnosis"],
            "test": {name: known[key] for name, key in names.items() if key in known},
        }
    content["operating_points"] = [point]


def _load_weights(folder: Path, build: Callable[[], AnyModel]) -> tuple[AnyModel, str]:
    """Build a model, in eval mode, with the weights of a bundle; and the SHA-256 of these."""
    try:
        content = (folder / WEIGHTS).read_bytes()
        state = load(content)
    except OSError as error:
        raise BundleError(f"{folder}: {WEIGHTS} cannot be read ({error.strerror})") from error
    except SafetensorError as error:
        raise BundleError(f"{folder}: {WEIGHTS} is damaged or no safetensors file ({error})") from error
    try:
        model = build()
        model.load_state_dict(state)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:  # whatever arguments a damaged card may name
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"{folder}: weights and card do not belong together ({reason})") from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values()):
        raise BundleError(f"{folder}: {WEIGHTS} holds values that are not finite; train or copy it again")
    return model.eval(), hashlib.sha256(content).hexdigest()
