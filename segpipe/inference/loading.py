"""Pipelines from plain values: the device, the bundles on disk, how they run."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch

from segpipe.bundle import SHIPPED, ClassifierBundle, load_classifier, load_segmenter
from segpipe.errors import BundleError, ConfigError
from segpipe.inference.namer import Namer
from segpipe.inference.pipeline import Locator, Pipeline
from segpipe.inference.settings import PipelineSettings
from segpipe.inference.tta import VIEWS
from segpipe.lesion.localizer import MaskSource

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Images at once: on a CPU larger batches are no faster and need more memory; an accelerator has more to keep busy.
_BATCH_SIZES = {"cpu": 8, "cuda": 32, "mps": 16}


def load_pipeline(settings: PipelineSettings) -> Pipeline:
    """Load the models that a pipeline needs.

    Raises:
        BundleError: a bundle cannot be used, or not beside another one, see `load_classifiers`.
        ConfigError: the device is not there, or the class to explain is none of the classifier's.
    """
    device, precision = choose_device(settings.device), PRECISIONS[settings.precision]
    start = MaskSource(settings.localize)
    folder = Path(settings.segmenter or SHIPPED / "segmenter")
    segmenter = load_segmenter(folder) if start is MaskSource.UNET else None
    namer = Namer(
        load_classifiers([Path(folder) for folder in settings.classifier] or [SHIPPED / "classifier"]),
        device=device,
        views=VIEWS[settings.views],
        explained=settings.explained,
        batch_size=settings.batch_size or default_batch_size(device.type),
        precision=precision,
    )
    return Pipeline(Locator(segmenter, device=device, start=start, precision=precision), namer)


def load_classifiers(folders: Sequence[Path]) -> list[ClassifierBundle]:
    """Load classifiers whose answers can be averaged.

    Raises:
        BundleError: a bundle cannot be used, it is there twice, or two differ in their classes or in which are malignant.
    """
    bundles = [load_classifier(folder) for folder in folders]
    for (folder, one), (other_folder, other) in combinations(zip(folders, bundles, strict=True), 2):
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
    return bundles


def default_batch_size(device: str) -> int:
    """Images at once that suit a kind of device, `cuda` for one."""
    return _BATCH_SIZES[device]


def choose_device(name: str) -> torch.device:
    """The device of a name: `auto` (CUDA, then Apple's MPS, then the CPU), `cpu`, `cuda`, `cuda:N`, or `mps`.

    Raises:
        ConfigError: the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}") from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise ConfigError(f"device={name} is not there on this machine; device=auto takes what is")
    return device
