"""Reference data of a bundle: features of its training images.

They lie beside the weights as safetensors, without pickles: `gate.safetensors` of a segmenter, `similar.safetensors` of a
classifier.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from segpipe.bundle.card import Card, kind_of
from segpipe.bundle.file_formats import IDENTITY, read_bytes, read_header
from segpipe.errors import BundleError
from segpipe.io.files import one_line
from segpipe.io.run_files import CARD

MAX_BYTES = 3_000_000


@dataclass(frozen=True)
class Reference:
    """Reference data of a bundle.

    Attributes:
        arrays: Arrays by name.
        values: Plain values for JSON by name.
    """

    arrays: Mapping[str, NDArray[Any]]
    values: Mapping[str, Any]


def encode_reference(reference: Reference) -> bytes:
    """Encode reference data as a safetensors file.

    Raises:
        ValueError: They have more than `MAX_BYTES` bytes, or hold a number that is not finite.
    """
    for name, array in reference.arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
    arrays = {name: np.ascontiguousarray(array) for name, array in reference.arrays.items()}
    # A single entry: safetensors writes several in any order, and equal data must give equal files.
    content = save(arrays, {IDENTITY: json.dumps(reference.values, allow_nan=False)})
    if len(content) > MAX_BYTES:
        raise ValueError(f"reference data must have at most {MAX_BYTES:,} bytes, got {len(content):,}")
    return content


def read_reference(folder: Path, name: str, card: Card) -> Reference | None:
    """Read reference data of a bundle.

    Args:
        folder: Folder of the bundle.
        name: File name, one of `segpipe.io.run_files.REFERENCES`.
        card: Card of the bundle.

    Returns:
        Reference data; None where the card lists none, as in bundles of older versions.

    Raises:
        BundleError: The file is missing or damaged, or not the one on the card.
    """
    if name not in card.references:
        return None
    content = read_reference_bytes(folder, name, card)
    try:
        values = json.loads(read_header(content)["__metadata__"][IDENTITY])
        return Reference(load(content), values)
    except (SafetensorError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise BundleError(f"{folder}: {name} is damaged ({one_line(str(error))}); {_again(folder, card)}") from error


def read_reference_bytes(folder: Path, name: str, card: Card) -> bytes:
    """Read the file of reference data that a card lists; see `read_reference`."""
    content = read_bytes(folder / name, MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != card.references[name].sha256:
        raise BundleError(f"{folder}: {name} must have the SHA-256 in {CARD}, got another one; {_again(folder, card)}")
    return content


def _again(folder: Path, card: Card) -> str:
    return f"copy the whole bundle again, or export it with bundle.{kind_of(card)}={folder} output=DIR"
