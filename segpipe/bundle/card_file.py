"""Reading and checking of the files of a bundle, without its network."""

import hashlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from segpipe.bundle.card import Card, outputs_of
from segpipe.bundle.file_formats import check_identity, read_bytes, read_header
from segpipe.errors import BundleError
from segpipe.io.files import one_line, read_json
from segpipe.io.run_files import BUNDLE, CARD, WEIGHTS

FORMAT = "segpipe-bundle-1"
SHIPPED = Path(__file__).parents[1] / "weights"

AnyCard = TypeVar("AnyCard", bound=Card)
Card_co = TypeVar("Card_co", bound=Card, covariant=True)

# Tensors that are no weights: statistics of batch normalization.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class StoredModel(Generic[Card_co]):
    """A bundle on disk whose network is not built.

    Attributes:
        card: Card of the network.
        sha256: SHA-256 of the weights file.
        weight_count: Number of trained values.
    """

    card: Card_co
    sha256: str
    weight_count: int


def read_model(folder: Path, kind: str, schema: type[AnyCard]) -> StoredModel[AnyCard]:
    """Read the card of a bundle, and check the weights.

    Args:
        folder: Folder of the bundle.
        kind: Expected kind, `segmenter` or `classifier`.
        schema: Card class of this kind.

    Raises:
        BundleError: The card or the weights are missing, damaged or foreign, or the card is of the other kind.
    """
    card = read_card(folder, kind, schema)
    content = read_bytes(folder / WEIGHTS)
    try:
        header = read_header(content)
        shapes = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
        weight_count = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_STATISTICS))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise BundleError(f"{folder}: {WEIGHTS} is damaged or no safetensors file ({one_line(str(error))})") from error
    check_identity(folder, content, outputs_of(card))
    return StoredModel(card, hashlib.sha256(content).hexdigest(), weight_count)


def read_card(folder: Path, kind: str, schema: type[AnyCard]) -> AnyCard:
    """Read the card of a bundle, without the weights.

    Args:
        folder: Folder of the bundle.
        kind: Expected kind, `segmenter` or `classifier`.
        schema: Card class of this kind.

    Raises:
        BundleError: The card is missing, damaged, foreign, or of the other kind.
    """
    return parse_card(folder, read_content(folder), kind, schema)


def read_content(folder: Path) -> Any:
    """Parse `card.json` of a bundle without checking its fields.

    Raises:
        BundleError: The card is missing or not JSON.
    """
    try:
        return read_json(folder / CARD)
    except OSError as error:
        raise BundleError(f"{folder}: a bundle must be a folder with {WEIGHTS} and {CARD}; {_why_no_card(folder)}") from error
    except ValueError as error:
        raise BundleError(f"{folder}: {CARD} is damaged, it is not JSON ({one_line(str(error))})") from error


def _why_no_card(folder: Path) -> str:
    if os.path.isfile(folder / BUNDLE / CARD):
        return f"the output of a training holds one in {folder / BUNDLE}"
    if os.path.isdir(folder):
        return f"{CARD} cannot be read"
    return "a file is not a bundle" if os.path.exists(folder) else "no such folder, check the path"


def parse_card(folder: Path, content: Any, kind: str, schema: type[AnyCard]) -> AnyCard:
    """Check the content of `card.json` and build the card.

    Args:
        folder: Folder of the bundle, for messages.
        content: Parsed `card.json`; the keys `format` and `kind` are removed from it.
        kind: Expected kind, `segmenter` or `classifier`.
        schema: Card class of this kind.

    Raises:
        BundleError: The content is damaged, foreign, or of the other kind.
    """
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise BundleError(f"{folder}: {CARD} is not that of a {FORMAT}; train or export the model with this version of segpipe")
    found = one_line(str(content.pop("kind", None)))
    if found != kind:
        raise BundleError(
            f"{folder}: must be the bundle of a {kind}, got that of a {found}; choose a {kind}, with bundle.{kind}= in a command"
        )
    _list_operating_point(content)
    try:
        card = msgspec.convert(content, schema)  # strict: no text or boolean for a number
        for key in _unknown_keys(content, card):
            raise msgspec.ValidationError(f"unknown key - at `$.{key}`")
    except msgspec.ValidationError as error:
        raise BundleError(f"{folder}: {CARD} is damaged, {one_line(_reason(error))}") from error
    return card


def _unknown_keys(content: Any, built: Any, key: str = "") -> Iterator[str]:
    """List the keys of a content that its dataclasses do not have."""
    if isinstance(built, tuple):
        for number, item in enumerate(built):
            yield from _unknown_keys(content[number], item, f"{key}{number}.")
    elif is_dataclass(built):
        known = {field.name for field in fields(built)}
        yield from (f"{key}{name}" for name in content if name not in known)
        for name in known & content.keys():
            yield from _unknown_keys(content[name], getattr(built, name), f"{key}{name}.")


def _reason(error: msgspec.ValidationError) -> str:
    """Write the dotted key of a refused value and the reason."""
    text, _, path = str(error).partition(" - at `$")
    missing = re.findall(r"missing required field `(\w+)`", text)
    key = ".".join([*re.findall(r"\w+", path), *missing])
    return f"{key}: {text}" if key else text


def _list_operating_point(content: dict[str, Any]) -> None:
    """Convert the single operating point of earlier cards to a list."""
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
