"""Files `model.safetensors` and `model.onnx`, parsed without PyTorch and onnx.

The metadata of the weights repeat the kind of the model and its classes in order, which a card alone cannot prove, and hold a
hash of the tensors. Protobuf's wire format is read without a library, whose import would take longer than the whole check. Fields
that segpipe does not write, such as functions, sparse tensors and training graphs, are refused, so that nothing reaches a runtime
unchecked.

Reference:
    Protocol buffers, "Encoding"; field numbers from onnx.proto of ONNX 1.23.
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

_VARINT, _BYTES, _FLOAT = 0, 2, 5  # wire types
_NUMBER, _TEXT, _IGNORED = "number", "text", "ignored"  # kinds of fields beside messages
# Kind of each field of a message by its number. Those that are ignored hold names and values, which need no check.
_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": {1: _NUMBER, 2: _IGNORED, 3: _IGNORED, 7: "graph", 8: "opset", 14: "entry"},
    "opset": {1: _TEXT, 2: _NUMBER},
    "entry": {1: _TEXT, 2: _TEXT},
    "graph": {1: "node", 2: _IGNORED, 5: "tensor", 11: _IGNORED, 12: _IGNORED},
    "node": {1: _IGNORED, 2: _IGNORED, 3: _IGNORED, 4: _IGNORED, 5: "attribute", 7: _TEXT},
    "attribute": {
        **{1: _IGNORED, 2: "float", 3: _NUMBER, 4: _IGNORED, 7: "float", 8: _NUMBER, 9: _IGNORED, 20: _NUMBER},
        **{5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    },
    "tensor": {1: _NUMBER, 2: _NUMBER, 4: _IGNORED, 5: _IGNORED, 7: _IGNORED, 8: _IGNORED, 9: _IGNORED, 13: "entry", 14: _NUMBER},
}
_WIRE_TYPES = {_NUMBER: _VARINT, "float": _FLOAT}
# Number and kind of each field by its tag, for each message.
_TAGS = {
    name: {number << 3 | _WIRE_TYPES.get(kind, _BYTES): (number, kind) for number, kind in fields.items()}
    for name, fields in _MESSAGES.items()
}

# Values of each field by its number: parsed messages, texts as bytes, and numbers.
Message = dict[int, list[Any]]


def read_bytes(path: Path, limit: int = -1) -> bytes:
    """Read a file of a bundle.

    Args:
        path: File to read.
        limit: Largest number of bytes; -1 for no limit.

    Raises:
        BundleError: The file cannot be read, or is longer.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1 if limit >= 0 else -1)
    except OSError as error:
        raise BundleError(f"{path.parent}: {path.name} cannot be read ({error.strerror}); copy the whole bundle again") from error
    if 0 <= limit < len(content):
        raise BundleError(f"{path.parent}: {path.name} must have at most {limit:,} bytes, got more")
    return content


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


def parse_model(content: bytes) -> Message:
    """Parse the content of an ONNX file.

    Args:
        content: Bytes of the file.

    Returns:
        Values of each field of the model by its number, without names and values of tensors.

    Raises:
        ValueError: The content is damaged, or holds a field that segpipe does not write.
    """
    try:
        return _parse(content, 0, len(content), "model")
    except IndexError as error:
        raise ValueError("it ends too early") from error
    except RecursionError as error:
        raise ValueError("its graphs are nested too deeply") from error


def _parse(content: bytes, position: int, end: int, kind: str) -> Message:
    """Parse a message between two positions."""
    tags = _TAGS[kind]
    message: Message = {}
    while position < end:
        tag, position = _varint(content, position)
        if tag not in tags:
            raise ValueError(f"field {tag >> 3} of a {kind} must not occur")
        number, inner = tags[tag]
        value: Any = None
        if tag & 7 == _BYTES:
            length, start = _varint(content, position)
            position = start + length
            if position > end:
                raise IndexError
            if inner == _TEXT:
                value = content[start:position]
            elif inner != _IGNORED:
                value = _parse(content, start, position, inner)
        elif inner == _NUMBER:
            value, position = _varint(content, position)
        else:
            position += 4
        if inner != _IGNORED:
            message.setdefault(number, []).append(value)
    if position > end:
        raise IndexError
    return message


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = content[position]
    position += 1
    if value < 0x80:
        return value, position
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number has more than ten bytes")
