"""Networks that ONNX Runtime runs, without torch."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from segpipe.bundle.card import Card, ClassifierCard, SegmenterCard
from segpipe.bundle.card_file import StoredModel, read_model
from segpipe.bundle.graphs import read_graph
from segpipe.errors import BundleError
from segpipe.inference.networks import Float32Array, SegmenterPass, Squares, require_finite_logits
from segpipe.inference.resources import available_cores
from segpipe.io.files import one_line
from segpipe.io.run_files import GRADCAM_GRAPH, MODEL_GRAPH
from segpipe.models.preprocessing import InputSpec

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ERRORS_ONLY = 3  # ONNX Runtime's log levels: 0 verbose to 4 fatal
_EXTERNAL_DATA_FOLDER = "session.model_external_initializers_file_folder_path"

Feeds = Mapping[str, NDArray[Any]]
Run = Callable[[Feeds], Sequence[Float32Array]]


class Graph(ABC):
    """A graph that its runtime loads when it is first needed. Thread-safe."""

    def __init__(self) -> None:
        self._loaded: Any = None
        self._threads = 0
        self._loading = threading.Lock()

    def load(self, threads: int) -> Any:
        """Return the graph, loaded for a number of cores.

        Args:
            threads: Number of cores, at which the graph is loaded again if it differs from the last call.

        Raises:
            BundleError: The graph cannot be loaded.
        """
        with self._loading:
            if self._loaded is None or threads != self._threads:
                self._loaded, self._threads = self._load(threads), threads
            return self._loaded

    @abstractmethod
    def _load(self, threads: int) -> Any: ...

    @abstractmethod
    def run(self, feeds: Feeds, *, threads: int) -> list[Float32Array]:
        """Compute all outputs from the inputs by name.

        Args:
            feeds: Inputs by name.
            threads: Number of cores, see `load`.

        Raises:
            BundleError: The graph cannot be loaded.
        """


class OnnxGraph(Graph):
    """A graph of ONNX Runtime.

    Args:
        folder: Folder of the bundle, with the weights.
        content: Graph, as bytes of an ONNX file that `read_graph` has checked.
        device: Device, `cpu` or one of CUDA.
    """

    def __init__(self, folder: Path, content: bytes, device: str) -> None:
        super().__init__()
        self._folder = folder
        self._content = content
        self._device = device

    def run(self, feeds: Feeds, *, threads: int) -> list[Float32Array]:
        """Compute all outputs from the inputs by name, see `Graph.run`."""
        outputs: list[Float32Array] = self.load(threads).run(None, dict(feeds))
        return outputs

    def _load(self, threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        # Planned memory is no faster, and a second copy of what the arena holds already: 190 MB for eight images of the U-Net.
        options.enable_mem_pattern = False
        options.add_session_config_entry(_EXTERNAL_DATA_FOLDER, str(self._folder))
        try:
            return onnxruntime.InferenceSession(self._content, options, providers=[_provider(self._device)])
        except Exception as error:  # of several types without a common base
            reason = one_line(str(error))
            raise BundleError(f"{self._folder}: ONNX Runtime cannot load its graph ({reason}); export it again") from error


def _provider(device: str) -> Any:
    kind, _, number = device.partition(":")
    return (_PROVIDERS[kind], {"device_id": number}) if number else _PROVIDERS[kind]


def list_devices() -> list[str]:
    """List kinds of devices that ONNX Runtime can use, fastest first."""
    installed = onnxruntime.get_available_providers()
    return [kind for kind, provider in reversed(_PROVIDERS.items()) if provider in installed]


class OnnxNetwork:
    """Graphs of a bundle and their cores.

    Attributes:
        runtime: `onnx`.
        precision: Precision of the convolutions.
        sha256: SHA-256 of the weights file.
    """

    runtime = "onnx"

    def __init__(self, folder: Path, model: StoredModel[Card], names: Sequence[str], device: str, precision: str) -> None:
        self.sha256 = model.sha256
        self.precision = precision
        self._graphs = [self._make_graph(folder / name, read_graph(folder, name, model.card), device) for name in names]
        self._threads = threading.local()
        self._preloading = False

    def _make_graph(self, path: Path, content: bytes, device: str) -> Graph:
        return OnnxGraph(path.parent, content, device)

    @property
    def threads(self) -> int:
        """Number of cores of a call from this thread."""
        return getattr(self._threads, "count", available_cores())

    def use_threads(self, count: int) -> None:
        """Set the number of cores of a call from this thread."""
        self._threads.count = count

    def preload(self) -> None:
        """Start to load the first graph in the background, once."""
        if self._preloading:
            return
        self._preloading = True
        threading.Thread(target=self._load_quietly, args=(self.threads,), daemon=True).start()

    def _load_quietly(self, threads: int) -> None:
        with suppress(BundleError):  # raised again by the run itself
            self._graphs[0].load(threads)

    def _run(self, number: int, feeds: Feeds) -> list[Float32Array]:
        return self._graphs[number].run(feeds, threads=self.threads)


class OnnxSegmenter(OnnxNetwork):
    """A U-Net of ONNX Runtime, see `segpipe.inference.networks.SegmenterNetwork`.

    Args:
        folder: Folder of the bundle.
        device: Device, `cpu` or one of CUDA.
        precision: Precision of the convolutions, `float32`.

    Raises:
        BundleError: The bundle is missing, damaged, foreign, or a classifier, or has no graph.
    """

    def __init__(self, folder: Path, device: str = "cpu", precision: str = "float32") -> None:
        model = read_model(folder, "segmenter", SegmenterCard)
        self.card = model.card
        super().__init__(folder, model, [MODEL_GRAPH], device, precision)

    def __call__(self, images: Squares) -> SegmenterPass:
        """Segment images of the network's input size."""
        logits, *features = self._run(0, {"images": normalize(images, self.card.input)})
        return SegmenterPass(require_finite_logits(logits[:, 0], "segmenter"), *features)


class OnnxClassifier(OnnxNetwork):
    """A classifier of ONNX Runtime, see `segpipe.inference.networks.ClassifierNetwork`.

    Args:
        folder: Folder of the bundle.
        device: Device, `cpu` or one of CUDA.
        precision: Precision of the convolutions, `float32`.

    Raises:
        BundleError: The bundle is missing, damaged, foreign, or a segmenter, or has no graph.
    """

    def __init__(self, folder: Path, device: str = "cpu", precision: str = "float32") -> None:
        model = read_model(folder, "classifier", ClassifierCard)
        self.card = model.card
        super().__init__(folder, model, [MODEL_GRAPH, GRADCAM_GRAPH], device, precision)

    def __call__(self, images: Squares, *, batch_size: int) -> "OnnxPass":
        """Classify images of the network's input size."""
        parts = [
            self._run(0, {"images": normalize(images[start : start + batch_size], self.card.input)})
            for start in range(0, len(images), batch_size)
        ]
        logits, features = (np.concatenate(outputs) for outputs in zip(*parts, strict=True))
        return OnnxPass(require_finite_logits(logits, "classifier"), features, partial(self._run, 1))


class OnnxPass:
    """A pass through a classifier of ONNX Runtime.

    Args:
        logits: Logits, shape (N, classes).
        features: Last feature maps, shape (N, C, h, w).
        run_gradcam: Function that runs the graph of Grad-CAM.
    """

    def __init__(self, logits: Float32Array, features: Float32Array, run_gradcam: Run) -> None:
        self.logits = logits
        self._maps = features
        self._run_gradcam = run_gradcam

    @property
    def features(self) -> Float32Array:
        """Mean of the last feature map over all positions, shape (N, C)."""
        means: Float32Array = self._maps.mean((2, 3))
        return means

    def maps(self, target: NDArray[np.int64]) -> Float32Array:
        """Compute Grad-CAM maps of one class per image, shape (N, h, w)."""
        (maps,) = self._run_gradcam({"features": self._maps, "target": target.astype(np.int64)})
        return maps


def normalize(images: Squares, spec: InputSpec) -> Float32Array:
    """Normalize images: `(pixels / 255 - mean) / std`.

    Args:
        images: RGB uint8, shape (N, size, size, 3).
        spec: Mean and std of the network.

    Returns:
        float32, shape (N, 3, size, size).
    """
    # Row by row, with the colors interleaved: broadcasting over the three colors alone takes three times as long.
    count, height, width, _ = images.shape
    mean, std = (np.tile(np.asarray(values, np.float32) * np.float32(255), width) for values in (spec.mean, spec.std))
    rows = images.reshape(count * height, width * 3).astype(np.float32)
    rows -= mean
    rows /= std
    return np.ascontiguousarray(rows.reshape(count, height, width, 3).transpose(0, 3, 1, 2))
