"""Records on the card of a trained model: training, graphs and versions."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segpipe import __version__

# Import names of the libraries whose versions are recorded, by distribution.
LIBRARIES = {
    "torch": "torch",
    "timm": "timm",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "lightning": "lightning",
    "onnxruntime": "onnxruntime",
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
}


def library_versions() -> dict[str, str]:
    """Return the versions of segpipe, Python and the imported numerical libraries."""
    loaded = {name: sys.modules[module] for name, module in LIBRARIES.items() if module in sys.modules}
    return {"segpipe": __version__, "python": platform.python_version()} | {
        name: str(module.__version__).partition("+")[0] for name, module in loaded.items()
    }


@dataclass(frozen=True)
class Training:
    """Record of a model's training.

    Attributes:
        dataset: Name of the data set's folder.
        dataset_hash: SHA-256 of the image ids of the data set.
        split_hash: SHA-256 of the split, see `segpipe.data.splits.split_hash`.
        images: Number of training images.
        counts: Number of images of each class in each part; empty in the cards of older versions.
        epochs: Number of epochs trained.
        best_epoch: Epoch of the saved weights, counted from 0; where `start` was kept, the best of the others.
        settings: Resolved configuration of the training.
        leaks_allowed: True where `allow_leak=true` permitted starting weights or test crops from a model that saw test lesions.
        seen: Fingerprints of all images and lesions that went into the weights, starting weights included, see
            `segpipe.data.duplicates`; empty in the cards of older versions.
        changes: Settings that changed where the training resumed: `epoch` (the first with the new value), `key`, `before` and
            `after` of each.
        start: Starting weights of a fine-tuning: `scores`, their metrics on the validation images; `kept`, true where they are
            the saved weights; `p_value`, that of the smaller losses after the best epoch, see
            `segpipe.training.fine_tuning.keep_better`, None where its score is not better. Empty for other trainings.
    """

    dataset: str
    dataset_hash: str
    split_hash: str
    images: int
    epochs: int
    best_epoch: int
    settings: Mapping[str, Any]
    leaks_allowed: bool = False
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[Mapping[str, Any], ...] = ()
    start: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphRecord:
    """Record of an ONNX graph of a bundle.

    Attributes:
        sha256: SHA-256 of the file.
        largest_difference: Largest absolute difference between ONNX Runtime and PyTorch: of a probability for `model.onnx` (of a
            segmenter also of a feature, as a fraction of the largest one), of a heatmap scaled to [0, 1] for `gradcam.onnx`.
        images: Number of images that it was measured on.
        source: Origin of these images.
    """

    sha256: str
    largest_difference: float
    images: int
    source: str


@dataclass(frozen=True)
class ReferenceRecord:
    """Record of the reference data of a bundle, see `segpipe.bundle.references`.

    Attributes:
        sha256: SHA-256 of the file.
        images: Number of images that they were made from.
        source: Origin of these images.
    """

    sha256: str
    images: int
    source: str
