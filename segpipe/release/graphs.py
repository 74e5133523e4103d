"""Export of a bundle's network as ONNX graphs, compared with PyTorch."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.bundle.file_formats import IDENTITY, read_header
from segpipe.bundle.folder import load_bundle
from segpipe.bundle.graphs import graph_identity
from segpipe.bundle.records import GraphRecord
from segpipe.bundle.saving import save_graphs
from segpipe.errors import BundleError
from segpipe.inference.heatmap import scale_to_unit
from segpipe.inference.torch_runtime import HeadPass
from segpipe.io.files import one_line
from segpipe.io.run_files import GRADCAM_GRAPH, MODEL_GRAPH, WEIGHTS
from segpipe.models.preprocessing import normalize
from segpipe.models.unet import logits_and_features
from segpipe.release.external_weights import refer_to_weights, stored_tensors
from segpipe.release.tracing import INLINE_VALUES, trace_classifier, trace_gradcam, trace_segmenter

BATCH_SIZE = 8
LARGEST_DIFFERENCES = {MODEL_GRAPH: 1e-3, GRADCAM_GRAPH: 1e-2}  # of a probability or feature, and of a heatmap scaled to [0, 1]

Images = NDArray[np.uint8]
Array = NDArray[np.float32]
AnyBundle = SegmenterBundle | ClassifierBundle


@dataclass(frozen=True)
class Graphs:
    """ONNX graphs of a bundle, not yet in its folder.

    Attributes:
        contents: Content of each file by its name.
        records: Record of each for the card.
    """

    contents: Mapping[str, bytes]
    records: Mapping[str, GraphRecord]


def add_graphs(folder: Path, images: Images, *, source: str) -> Mapping[str, GraphRecord]:
    """Export the network of a bundle as graphs in its folder.

    Args:
        folder: Folder of the bundle.
        images: Inputs to measure the parity on, RGB uint8, shape (N, size, size, 3), one or more.
        source: Origin of these images, for the card.

    Returns:
        Records of the graphs by file name: `model.onnx`, and `gradcam.onnx` of a classifier.

    Raises:
        BundleError: The bundle cannot be loaded or exported, see `build_graphs`; nothing is written.
        ValueError: `images` are not inputs of the network.
        WriteError: The graphs cannot be written; the bundle is kept as it was.
    """
    graphs = build_graphs(folder, images, source=source)
    write_graphs(folder, graphs)
    return graphs.records


def write_graphs(folder: Path, graphs: Graphs) -> None:
    """Add graphs to a bundle with the same weights."""
    save_graphs(folder, replace(load_bundle(folder).card, graphs=graphs.records), graphs.contents)


def build_graphs(folder: Path, images: Images, *, source: str) -> Graphs:
    """Export the network of a bundle, and compare the graphs with PyTorch.

    Args:
        folder: Folder of the bundle.
        images: Inputs to measure the parity on, RGB uint8, shape (N, size, size, 3), one or more.
        source: Origin of these images, for the card.

    Raises:
        BundleError: The bundle cannot be loaded; or its network cannot be exported, has weights that are not stored as they are
            used, or differs too much in ONNX Runtime, see `LARGEST_DIFFERENCES`.
        ValueError: `images` are not inputs of the network.
    """
    bundle = load_bundle(folder)
    size = bundle.card.input.size
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3) or not len(images):
        raise ValueError(f"images must be uint8 of the shape (N, {size}, {size}, 3), got {images.dtype} {images.shape}")
    content = (folder / WEIGHTS).read_bytes()
    metadata = _metadata(folder, content, bundle)
    try:
        stored = stored_tensors(content)
        graphs = {
            name: refer_to_weights(trace(), stored, metadata, inline_values=INLINE_VALUES)
            for name, trace in _tracers(bundle).items()
        }
        with tempfile.TemporaryDirectory() as scratch:
            differences = _differences(_place(Path(scratch), folder, graphs), bundle, images)
    except Exception as error:  # of any kind, from torch, onnx and ONNX Runtime
        raise BundleError(f"{folder}: the network cannot be exported, {_reason(error)}; use runtime=torch") from error
    for name, difference in differences.items():
        if not difference <= LARGEST_DIFFERENCES[name]:
            raise BundleError(
                f"{folder}: {name} must differ from PyTorch by at most {LARGEST_DIFFERENCES[name]:g}, got {difference:.2g}; "
                "nothing is written, use runtime=torch"
            )
    records = {
        name: GraphRecord(hashlib.sha256(graph).hexdigest(), float(f"{differences[name]:.1e}"), len(images), source)
        for name, graph in graphs.items()
    }
    return Graphs(graphs, records)


def _metadata(folder: Path, content: bytes, bundle: AnyBundle) -> str:
    text = read_header(content).get("__metadata__", {}).get(IDENTITY)
    if text is None:
        raise BundleError(
            f"{folder}: {WEIGHTS} must have metadata, which older versions did not write; export it with output=DIR"
        )
    return json.dumps(graph_identity(bundle.card, json.loads(text)["tensors"]))


def _tracers(bundle: AnyBundle) -> dict[str, Callable[[], onnx.ModelProto]]:
    size = bundle.card.input.size
    if isinstance(bundle, SegmenterBundle):
        return {MODEL_GRAPH: lambda: trace_segmenter(bundle.model, size)}
    return {
        MODEL_GRAPH: lambda: trace_classifier(bundle.model, size),
        GRADCAM_GRAPH: lambda: trace_gradcam(bundle.model, size),
    }


def _reason(error: BaseException) -> str:
    """Return the innermost cause, which torch wraps in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(str(error)) or type(error).__name__


def _place(scratch: Path, folder: Path, graphs: Mapping[str, bytes]) -> Path:
    """Write graphs beside a copy of the weights, and check them."""
    shutil.copyfile(folder / WEIGHTS, scratch / WEIGHTS)
    for name, graph in graphs.items():
        (scratch / name).write_bytes(graph)
        onnx.checker.check_model(str(scratch / name), full_check=True)
    return scratch


def _session(path: Path) -> InferenceSession:
    options = SessionOptions()
    options.log_severity_level = 3  # errors
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])


@torch.no_grad()
def _differences(folder: Path, bundle: AnyBundle, images: Images) -> dict[str, float]:
    """Measure the largest difference between ONNX Runtime and PyTorch for each graph."""
    parts = torch.split(torch.from_numpy(images).permute(0, 3, 1, 2), BATCH_SIZE)
    batches = [normalize(part, bundle.card.input) for part in parts]
    session = _session(folder / MODEL_GRAPH)
    if isinstance(bundle, SegmenterBundle):
        return {MODEL_GRAPH: max(_segmenter_difference(session, bundle, batch) for batch in batches)}
    gradcam = _session(folder / GRADCAM_GRAPH)
    pairs = [_classifier_differences(session, gradcam, bundle, batch) for batch in batches]
    return {MODEL_GRAPH: max(pair[0] for pair in pairs), GRADCAM_GRAPH: max(pair[1] for pair in pairs)}


def _segmenter_difference(session: InferenceSession, bundle: SegmenterBundle, batch: torch.Tensor) -> float:
    """Compare the probabilities, and the features relative to the largest of them."""
    logits, features = map(torch.from_numpy, session.run(["logits", "features"], {"images": batch.contiguous().numpy()}))
    expected, expected_features = logits_and_features(bundle.model, batch)
    of_features = _largest(features, expected_features) / float(expected_features.abs().max())
    return max(_largest(torch.sigmoid(logits), torch.sigmoid(expected)), of_features)


def _classifier_differences(
    session: InferenceSession, gradcam: InferenceSession, bundle: ClassifierBundle, batch: torch.Tensor
) -> tuple[float, float]:
    """Compare the calibrated probabilities, and the heatmaps of the predicted class."""
    logits, features = session.run(["logits", "features"], {"images": batch.contiguous().numpy()})
    head_pass = HeadPass(bundle.model.head, bundle.model.features(batch))
    bias = torch.tensor(bundle.card.logit_bias or (0.0,), dtype=torch.float64)
    found, expected = (
        (values.double() / bundle.card.temperature + bias).softmax(1) for values in (torch.from_numpy(logits), head_pass.logits)
    )
    target = expected.argmax(1)
    (maps,) = gradcam.run(["maps"], {"features": features, "target": target.numpy()})
    heatmaps = (torch.from_numpy(scale_to_unit(values)) for values in (maps, head_pass.maps(target).numpy()))
    return _largest(found, expected), _largest(*heatmaps)


def _largest(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max())
