"""Metadata and hash of `model.safetensors`, without PyTorch.

The metadata repeat the kind of the model and its classes in order, which a card alone cannot prove, and hold a hash of the
tensors.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segpipe.errors import BundleError
from segpipe.io.files import one_line
from segpipe.io.run_files import CARD, WEIGHTS

IDENTITY = "segpipe"  # entry of the metadata of the weights, and of the graphs
LENGTH_BYTES = 8  # of the length of the header, before it


def read_header(content: bytes) -> dict[str, Any]:
    """Parse the header of a safetensors file with this content.

    Raises:
        ValueError: The content has no such header.
    """
    header = json.loads(content[LENGTH_BYTES : header_end(content)])
    if not isinstance(header, dict):
        raise ValueError(f"the header must be a JSON object, got {type(header).__name__}")
    return header


def header_end(content: bytes) -> int:
    """Return the position of the first byte of the tensors."""
    return LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")


def identity(outputs: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    """Return the metadata of weights with this content.

    Args:
        outputs: Kind and classes of the card, see `segpipe.bundle.card.outputs_of`.
        content: Bytes of a safetensors file, with or without metadata.
    """
    return {**outputs, "tensors": hashlib.sha256(memoryview(content)[header_end(content) :]).hexdigest()}


def check_identity(folder: Path, content: bytes, outputs: Mapping[str, Any]) -> None:
    """Check that the weights are undamaged and match the card.

    Weights of older versions have no metadata to check.

    Args:
        folder: Folder of the bundle, for messages.
        content: Bytes of its weights, a valid safetensors file.
        outputs: Kind and classes of the card, see `segpipe.bundle.card.outputs_of`.

    Raises:
        BundleError: They are damaged, or do not.
    """
    text = read_header(content).get("__metadata__", {}).get(IDENTITY)
    if text is None:
        return
    expected = identity(outputs, content)
    try:
        stored = json.loads(text)
        differing = {key: stored.get(key) for key in expected if stored.get(key) != expected[key]}
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
