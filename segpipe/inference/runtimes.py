"""Choice of the runtime of each bundle, and loading of its network."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

from segpipe.errors import BundleError, ConfigError, require_extra
from segpipe.inference.networks import ClassifierNetwork, SegmenterNetwork
from segpipe.inference.resources import choose_device, kind_of_device
from segpipe.io.run_files import MODEL_GRAPH

# `auto` is the precision that the metrics of the cards were measured in.
PRECISIONS = {"auto": "float32", "float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}
# Precisions of the runtimes that run graphs.
_GRAPH_PRECISIONS = {"onnx": ("float32",), "openvino": ("float32", "bfloat16")}


@dataclass(frozen=True)
class Runtime:
    """Runtime, device and precision of the networks of a pipeline.

    Attributes:
        name: `auto`, `torch`, `onnx` or `openvino`; `auto` takes onnx on a CPU for bundles with a graph, and torch otherwise.
        device: Device, see `segpipe.inference.resources.choose_device`, without `auto`.
        precision: `float32`, `bfloat16` or `float16`.
    """

    name: str
    device: str
    precision: str

    @classmethod
    def of(cls, name: str = "auto", *, device: str = "auto", precision: str = "auto") -> "Runtime":
        """Choose the device and the precision of a runtime.

        Raises:
            ConfigError: The device is not available, or the runtime cannot use it or the precision.
        """
        chosen = PRECISIONS[precision]
        if name not in _GRAPH_PRECISIONS:
            return cls(name, choose_device(device), chosen)
        if chosen not in (precisions := _GRAPH_PRECISIONS[name]):
            raise ConfigError(f"precision must be one of {', '.join(precisions)} with runtime={name}, got {chosen}")
        return cls(name, _device_for_graphs(name, device), chosen)

    def choose_for(self, folder: Path) -> str:
        """Choose the runtime of one bundle: `torch`, `onnx` or `openvino`.

        Raises:
            BundleError: The bundle has no graph for a runtime that needs one.
        """
        has_graph = (folder / MODEL_GRAPH).is_file()
        if self.name == "auto":
            return "onnx" if has_graph and self.device == "cpu" and self.precision == "float32" else self._require_torch(folder)
        if self.name == "torch":
            require_extra("torch", "runtime=torch")
            return "torch"
        if not has_graph:
            raise BundleError(
                f"{folder}: a bundle must have {MODEL_GRAPH} for runtime={self.name}, got none; segpipe export adds it, or take "
                "runtime=torch"
            )
        return self.name

    def _require_torch(self, folder: Path) -> str:
        if find_spec("torch") is None:
            raise BundleError(
                f"{folder}: PyTorch must be installed to run this bundle on {kind_of_device(self.device)}, and is not; pip "
                f'install "segpipe[torch]", or take a bundle with {MODEL_GRAPH} and runtime=onnx'
            )
        return "torch"

    def load_segmenter(self, folder: Path) -> SegmenterNetwork:
        """Load a segmenter.

        Raises:
            BundleError: The bundle cannot be used.
        """
        chosen = self.choose_for(folder)
        if chosen == "torch":
            from segpipe.bundle.folder import load_segmenter
            from segpipe.inference.torch_runtime import TorchSegmenter

            return TorchSegmenter(load_segmenter(folder), self.device, self.precision)
        if chosen == "openvino":
            from segpipe.inference.openvino_runtime import OpenVinoSegmenter

            return OpenVinoSegmenter(folder, self.device, self.precision)
        from segpipe.inference.onnx_runtime import OnnxSegmenter

        return OnnxSegmenter(folder, self.device, self.precision)

    def load_classifiers(self, folders: Sequence[Path]) -> list[ClassifierNetwork]:
        """Load classifiers whose probabilities can be averaged.

        Raises:
            BundleError: A bundle cannot be used or is listed twice, or two differ in their classes or malignant classes.
        """
        networks = [self._load_classifier(folder) for folder in folders]
        for (folder, one), (other_folder, other) in combinations(zip(folders, networks, strict=True), 2):
            _refuse_mix(folder, one, other_folder, other)
        return networks

    def _load_classifier(self, folder: Path) -> ClassifierNetwork:
        chosen = self.choose_for(folder)
        if chosen == "torch":
            from segpipe.bundle.folder import load_classifier
            from segpipe.inference.torch_runtime import TorchClassifier

            return TorchClassifier(load_classifier(folder), self.device, self.precision)
        if chosen == "openvino":
            from segpipe.inference.openvino_runtime import OpenVinoClassifier

            return OpenVinoClassifier(folder, self.device, self.precision)
        from segpipe.inference.onnx_runtime import OnnxClassifier

        return OnnxClassifier(folder, self.device, self.precision)


def _device_for_graphs(name: str, device: str) -> str:
    """Choose a device for a runtime that runs graphs."""
    if name == "openvino":
        require_extra("openvino", "runtime=openvino")
        usable = ["cpu"]
    else:
        from segpipe.inference.onnx_runtime import list_devices

        usable = list_devices()
    if device == "auto":
        return usable[0]
    if kind_of_device(str(device)) not in usable:
        raise ConfigError(
            f"device must be {' or '.join(usable)} for runtime={name} on this machine, got {device}; or leave it out"
        )
    return device


def _refuse_mix(folder: Path, one: ClassifierNetwork, other_folder: Path, other: ClassifierNetwork) -> None:
    """Refuse two classifiers whose probabilities cannot be averaged."""
    if (one.sha256, one.card) == (other.sha256, other.card):
        raise BundleError(
            f"bundle.classifier must name each model once, got the same one in {folder} and in {other_folder}; leave one "
            "out, it would only count double"
        )
    for name in ("classes", "malignant"):
        codes, other_codes = getattr(one.card, name), getattr(other.card, name)
        if codes != other_codes:
            raise BundleError(
                f"bundle.classifier must name models that agree in {name} and their order, got {', '.join(codes) or 'none'} "
                f"in {folder} and {', '.join(other_codes) or 'none'} in {other_folder}; leave one out"
            )
