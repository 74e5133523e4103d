"""ONNX graphs of a bundle: checks before a runtime loads them.

A graph holds operators only; its weights are external data in `model.safetensors`. Bundles may come from anywhere, so a graph may
contain nothing but operators of the ONNX standard and tensors of that one file.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segpipe.bundle.card import Card, kind_of, outputs_of
from segpipe.bundle.file_formats import IDENTITY, LENGTH_BYTES, Message, header_end, parse_model, read_bytes, read_header
from segpipe.errors import BundleError
from segpipe.io.files import MAX_BYTES, one_line
from segpipe.io.run_files import CARD, WEIGHTS

_STANDARD = (b"", b"ai.onnx")  # names of the domain of the standard operators
_MAX_HEADER_BYTES = 100_000_000  # limit of safetensors itself


def read_graph(folder: Path, name: str, card: Card) -> bytes:
    """Read and check a graph of a bundle.

    The tensors themselves are checked by `segpipe.bundle.card_file.read_model`.

    Args:
        folder: Folder of the bundle.
        name: File name of the graph, `model.onnx` or `gradcam.onnx`.
        card: Card of the bundle.

    Returns:
        Content of the file, for a runtime that finds the external data in `folder`.

    Raises:
        BundleError: The graph is missing or not the one on the card, or is damaged, or holds anything but standard operators and
            tensors of the weights, or it was exported for other weights or another card.
    """
    if name not in card.graphs:
        listed = ", ".join(card.graphs) or "no graph"
        raise BundleError(f"{folder}: {CARD} must list {name}, got {listed}; {_again(folder, card)}")
    content = read_bytes(folder / name, MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != card.graphs[name].sha256:
        raise BundleError(f"{folder}: {name} must have the SHA-256 in {CARD}, got another one; {_again(folder, card)}")
    try:
        _check_model(parse_model(content), card, *_read_weights_header(folder))
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise BundleError(f"{folder}: {name} cannot be used, {one_line(str(error))}; {_again(folder, card)}") from error
    return content


def graph_identity(card: Card, tensors: str) -> dict[str, Any]:
    """Return the metadata of a graph.

    Args:
        card: Card of the bundle.
        tensors: Hash of the tensors, from the metadata of the weights.

    Returns:
        Plain values: `kind`, `classes`, `size`, `mean`, `std` and `tensors`.
    """
    spec = card.input
    return {**outputs_of(card), "size": spec.size, "mean": list(spec.mean), "std": list(spec.std), "tensors": tensors}


def _again(folder: Path, card: Card) -> str:
    return f"run segpipe export bundle.{kind_of(card)}={folder}"


def _read_weights_header(folder: Path) -> tuple[str, set[tuple[str, str]]]:
    """Read the hash of the tensors, and their offsets and lengths.

    Raises:
        ValueError: The header is damaged, or has no hash.
    """
    try:
        with (folder / WEIGHTS).open("rb") as file:
            start = file.read(LENGTH_BYTES)
            size = min(header_end(start), LENGTH_BYTES + _MAX_HEADER_BYTES)
            content = start + file.read(size - LENGTH_BYTES)
            file_size = file.seek(0, 2)
    except OSError as error:
        raise BundleError(f"{folder}: {WEIGHTS} cannot be read ({error.strerror}); copy the whole bundle again") from error
    header = read_header(content)
    tensors = json.loads(header.pop("__metadata__", {}).get(IDENTITY, "{}")).get("tensors")
    if not isinstance(tensors, str):
        raise ValueError(f"{WEIGHTS} has no hash of its tensors")
    ranges = [entry["data_offsets"] for entry in header.values()]
    if not all(0 <= begin <= end <= file_size - size for begin, end in ranges):
        raise ValueError(f"{WEIGHTS} is shorter than its header says")
    return tensors, {(str(size + begin), str(end - begin)) for begin, end in ranges}


def _check_model(model: Message, card: Card, tensors: str, spans: set[tuple[str, str]]) -> None:
    """Check a parsed graph against the card and the weights.

    Raises:
        ValueError: It does not fit, or holds something that is not allowed.
    """
    if len(model.get(7, [])) != 1:
        raise ValueError("it must hold one graph")
    graph = model[7][0]
    for opset in model.get(8, []):
        _check_domains(opset.get(1, []))
    for inner in _graphs_within(graph):
        for node in inner.get(1, []):
            _check_domains(node.get(7, []))
        for tensor in _tensors_of(inner):
            _check_tensor(tensor, spans)
    stored = _entries(model.get(14, []))
    if stored.keys() != {IDENTITY}:
        raise ValueError(f"its metadata must be the entry {IDENTITY}, got {', '.join(stored) or 'none'}")
    said, expected = json.loads(stored[IDENTITY]), graph_identity(card, tensors)
    differing = sorted(key for key in expected.keys() | said.keys() if said.get(key) != expected.get(key))
    if differing:
        raise ValueError(f"it was exported for another model: {', '.join(differing)} must be that of {CARD} and {WEIGHTS}")


def _check_domains(domains: list[Any]) -> None:
    for domain in domains:
        if domain not in _STANDARD:
            raise ValueError(f"all operators must be of the ONNX standard, got the domain {domain!r}")


def _graphs_within(graph: Message) -> Iterator[Message]:
    """Yield a graph and all graphs in attributes of its nodes."""
    yield graph
    for node in graph.get(1, []):
        for attribute in node.get(5, []):
            for inner in (*attribute.get(6, []), *attribute.get(11, [])):
                yield from _graphs_within(inner)


def _tensors_of(graph: Message) -> Iterator[Message]:
    """Yield the initializers and the tensors in attributes of the nodes."""
    yield from graph.get(5, [])
    for node in graph.get(1, []):
        for attribute in node.get(5, []):
            yield from (*attribute.get(5, []), *attribute.get(10, []))


def _check_tensor(tensor: Message, spans: set[tuple[str, str]]) -> None:
    """Check that external data are one of the tensors of the weights."""
    entries = _entries(tensor.get(13, []))
    if not entries and tensor.get(14, [0]) == [0]:
        return
    if entries.keys() != {"location", "offset", "length"} or entries["location"] != WEIGHTS:
        raise ValueError(f"external data must have location={WEIGHTS}, offset and length, got {entries}")
    if (entries["offset"], entries["length"]) not in spans:
        raise ValueError(f"external data must be a tensor of {WEIGHTS}, got {entries}")


def _entries(messages: list[Message]) -> Mapping[str, str]:
    """Convert entries to a dictionary.

    Raises:
        ValueError: A key occurs twice, or an entry does not have one key and one value.
    """
    pairs = []
    for message in messages:
        ((key,), (value,)) = (message.get(number, []) for number in (1, 2))
        pairs.append((key.decode(), value.decode()))
    if len(dict(pairs)) != len(pairs):
        raise ValueError("an entry occurs twice")
    return dict(pairs)
