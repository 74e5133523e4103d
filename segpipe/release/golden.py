"""Golden outputs written with a bundle, from generated images."""

from pathlib import Path

import numpy as np

from segpipe.bundle.card import SegmenterBundle
from segpipe.bundle.folder import load_bundle
from segpipe.data.synthetic.photo import make_image
from segpipe.inference.golden import classifier_golden, segmenter_golden, write_golden
from segpipe.inference.networks import ClassifierNetwork, SegmenterNetwork
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.types import RgbImage

_CODES = ("mel", "nv", "bcc", "df")
_SEED = 11


def write_segmenter_golden(folder: Path, network: SegmenterNetwork) -> None:
    """Write `golden.json` into the bundle of a segmenter.

    Args:
        folder: Folder of the bundle.
        network: Segmenter of the bundle.

    Raises:
        WriteError: The file cannot be written.
    """
    write_golden(folder, segmenter_golden(network, _draw_images()))


def write_classifier_golden(folder: Path, network: ClassifierNetwork) -> None:
    """Write `golden.json` into the bundle of a classifier; see `write_segmenter_golden`."""
    write_golden(folder, classifier_golden(network, _draw_images()))


def write_own_golden(folder: Path) -> None:
    """Write `golden.json` into a bundle of either kind, from PyTorch's outputs.

    Raises:
        BundleError: The bundle cannot be used.
        WriteError: The file cannot be written.
    """
    bundle = load_bundle(folder)
    if isinstance(bundle, SegmenterBundle):
        write_segmenter_golden(folder, TorchSegmenter(bundle, "cpu"))
    else:
        write_classifier_golden(folder, TorchClassifier(bundle, "cpu"))


def _draw_images() -> list[RgbImage]:
    rng = np.random.default_rng(_SEED)
    return [make_image(code, rng)[0] for code in _CODES]
