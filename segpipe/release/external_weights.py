"""Weights of ONNX graphs as external data in `model.safetensors`.

A graph holds operators only: each of its weights is found by its values among the tensors of that file, and replaced by a
reference to them, so that nothing is stored twice.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from segpipe.bundle.file_formats import IDENTITY, header_end, read_header
from segpipe.io.run_files import WEIGHTS

_NUMPY_TYPES = {"F32": np.float32, "F16": np.float16}


@dataclass(frozen=True)
class StoredTensor:
    """Position of a tensor in the weights file.

    Attributes:
        is_half: True for float16, False for float32.
        shape: Shape.
        transposed: True where the key is that of the transposed matrix.
        offset: Position of its first byte in the file.
        length: Number of bytes.
    """

    is_half: bool
    shape: tuple[int, ...]
    transposed: bool
    offset: int
    length: int


def stored_tensors(content: bytes) -> dict[bytes, StoredTensor]:
    """Index the floating-point tensors of a weights file by their float32 values.

    Matrices are also there transposed, as the exporter writes those of linear layers.

    Args:
        content: Bytes of the file.
    """
    start = header_end(content)
    stored: dict[bytes, StoredTensor] = {}
    for _, entry in sorted(read_header(content).items()):
        dtype = _NUMPY_TYPES.get(entry.get("dtype"))
        if dtype is not None:
            begin, end = entry["data_offsets"]
            values = np.frombuffer(content[start + begin : start + end], dtype).reshape(entry["shape"])
            found = StoredTensor(dtype is np.float16, values.shape, False, start + begin, end - begin)
            stored.setdefault(_key(values), found)
            if values.ndim == 2:
                stored.setdefault(_key(values.T), replace(found, transposed=True))
    return stored


def _key(values: NDArray[np.floating]) -> bytes:
    return hashlib.sha256(values.astype(np.float32).tobytes()).digest()


def refer_to_weights(model: onnx.ModelProto, stored: Mapping[bytes, StoredTensor], metadata: str, *, inline_values: int) -> bytes:
    """Move the weights out of a graph, and remove unused parts.

    Args:
        model: Graph with its weights; it is changed in place.
        stored: Tensors of the weights file, from `stored_tensors`.
        metadata: Metadata of the graph, see `segpipe.bundle.graphs.graph_identity`.
        inline_values: Largest number of values of a tensor that may stay in the graph.

    Returns:
        Content of the file, the same for the same graph.

    Raises:
        ValueError: A tensor of the graph with more than `inline_values` values is not one of the weights.
    """
    onnx.helper.set_model_props(model, {IDENTITY: metadata})
    for graph in _graphs_within(model.graph):
        for part in (graph, *graph.input, *graph.output, *graph.node, *graph.initializer):
            part.ClearField("doc_string")
            part.ClearField("metadata_props")
        del graph.value_info[:]
    for tensor in model.graph.initializer:
        _point_to_weights(model.graph, tensor, stored, inline_values)
    return bytes(model.SerializeToString(deterministic=True))


def _graphs_within(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs_within(inner)


def _point_to_weights(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, stored: Mapping[bytes, StoredTensor], inline_values: int
) -> None:
    """Replace an initializer by a reference to the weights file."""
    values = numpy_helper.to_array(tensor)
    found = stored.get(_key(values)) if tensor.data_type == onnx.TensorProto.FLOAT and values.size > 1 else None
    if found is None:
        if values.size > inline_values:
            raise ValueError(f"its constant {tensor.name} with {values.size:,} values is not a tensor of {WEIGHTS}")
        return
    # From the name in the graph back to the stored tensor: transposed, and cast. The runtime computes both once, on loading.
    name = tensor.name
    if found.transposed:
        graph.node.insert(0, onnx.helper.make_node("Transpose", [f"{name}.transposed"], [name], perm=[1, 0]))
        name = f"{name}.transposed"
    if found.is_half:
        graph.node.insert(0, onnx.helper.make_node("Cast", [f"{name}.float16"], [name], to=onnx.TensorProto.FLOAT))
        name = f"{name}.float16"
    dtype = onnx.TensorProto.FLOAT16 if found.is_half else onnx.TensorProto.FLOAT
    dims = found.shape if found.transposed else tensor.dims
    reference = onnx.TensorProto(name=name, dims=dims, data_type=dtype, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", WEIGHTS), ("offset", found.offset), ("length", found.length)):
        reference.external_data.add(key=key, value=str(value))
    tensor.CopyFrom(reference)
