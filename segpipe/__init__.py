"""Locate, crop and classify skin lesions in dermoscopic images. Not a medical device."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from segpipe.bundle.folder import load_bundle
    from segpipe.inference.finding import Finding
    from segpipe.inference.loading import load_pipeline
    from segpipe.inference.pipeline import Pipeline
    from segpipe.io.images import read_image
    from segpipe.types import Box
    from segpipe.workflows.prediction import predict_folder
    from segpipe.workflows.training import train_classifier, train_segmenter

# ONNX Runtime sends usage data and keeps an identifier of the machine, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Box",
    "Finding",
    "Pipeline",
    "__version__",
    "load_bundle",
    "load_pipeline",
    "predict_folder",
    "read_image",
    "train_classifier",
    "train_segmenter",
]

# Modules of the public names, imported at first use because importing torch takes seconds.
_MODULES = {
    "Box": "segpipe.types",
    "Finding": "segpipe.inference.finding",
    "Pipeline": "segpipe.inference.pipeline",
    "load_bundle": "segpipe.bundle.folder",
    "load_pipeline": "segpipe.inference.loading",
    "predict_folder": "segpipe.workflows.prediction",
    "read_image": "segpipe.io.images",
    "train_classifier": "segpipe.workflows.training",
    "train_segmenter": "segpipe.workflows.training",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(__all__))}")
    try:
        return getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        from segpipe.errors import as_missing_extra

        missing = as_missing_extra(error)
        if missing is None:
            raise
        raise missing from error


def __dir__() -> list[str]:
    return sorted(__all__)
