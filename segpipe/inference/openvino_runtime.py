"""Networks that OpenVINO runs on a CPU, in float32 or bfloat16."""

import threading
from functools import cache
from pathlib import Path
from typing import Any

import openvino

from segpipe.errors import BundleError
from segpipe.inference.networks import Float32Array
from segpipe.inference.onnx_runtime import Feeds, Graph, OnnxClassifier, OnnxNetwork, OnnxSegmenter
from segpipe.inference.resources import available_cores
from segpipe.io.files import one_line

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoGraph(Graph):
    """A graph of OpenVINO.

    Args:
        path: ONNX file that `read_graph` has checked; its weights lie beside it.
        precision: `float32` or `bfloat16`.
    """

    def __init__(self, path: Path, precision: str) -> None:
        super().__init__()
        self._path = path
        self._precision = precision
        self._local = threading.local()  # each thread has its own request

    def run(self, feeds: Feeds, *, threads: int) -> list[Float32Array]:
        """Compute all outputs from the inputs by name, see `Graph.run`."""
        compiled = self.load(threads)
        if getattr(self._local, "compiled", None) is not compiled:
            self._local.compiled, self._local.request = compiled, compiled.create_infer_request()
        found = self._local.request.infer(dict(feeds))
        return [found[output].copy() for output in compiled.outputs]

    def _load(self, threads: int) -> Any:
        cores = available_cores()
        properties = {
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "INFERENCE_NUM_THREADS": cores,
            "NUM_STREAMS": max(1, cores // threads),
        }
        try:
            return _core().compile_model(str(self._path), "CPU", properties)
        except RuntimeError as error:
            raise BundleError(f"{self._path}: OpenVINO cannot compile it ({one_line(str(error))}); export it again") from error


@cache
def _core() -> Any:
    """Return the only instance, which lives as long as the process.

    OpenVINO gives the thread that loads its CPU plugin a stack for signals, and frees it with the plugin: if another thread does
    that, the next signal ends the process.
    """
    return openvino.Core()


class OpenVinoNetwork(OnnxNetwork):
    """Graphs of a bundle in OpenVINO, in `float32` or `bfloat16`.

    Attributes:
        runtime: `openvino`.
    """

    runtime = "openvino"

    def _make_graph(self, path: Path, content: bytes, device: str) -> Graph:
        return OpenVinoGraph(path, self.precision)


class OpenVinoSegmenter(OpenVinoNetwork, OnnxSegmenter):
    """A U-Net of OpenVINO, see `OnnxSegmenter`."""


class OpenVinoClassifier(OpenVinoNetwork, OnnxClassifier):
    """A classifier of OpenVINO, see `OnnxClassifier`."""
