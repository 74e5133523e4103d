"""Loading of pipelines from plain values: device, bundles and options."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch

from segpipe.bundle.card import ClassifierBundle
from segpipe.bundle.folder import SHIPPED, load_classifier, load_segmenter
from segpipe.errors import BundleError, ConfigError
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.localizer import Localizer
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.settings import BundlePath, PipelineSettings, bundle_path, list_bundles
from segpipe.inference.tta import VIEWS
from segpipe.lesion.localization import MaskSource

# `auto` is the precision that the metrics of the cards were measured in.
PRECISIONS = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Images in one pass: on a CPU larger batches are no faster and need more memory; an accelerator needs them to be busy.
_BATCH_SIZES = {"cpu": 8, "cuda": 32, "mps": 16}


def load_pipeline(
    classifier: BundlePath | Sequence[BundlePath] | None = None,
    segmenter: BundlePath | None = None,
    *,
    tta: str = "d4",
    explain: str = "gradcam",
    localize: str = "unet",
    device: str = "auto",
    precision: str = "auto",
    explain_diagnosis: str | None = None,
    batch_size: int | None = None,
) -> Pipeline:
    """Load a segmenter and one or more classifiers from disk.

    The options and their defaults are those of `segpipe predict`.

    Args:
        classifier: Folder of a trained bundle, such as `outputs/mine/bundle`, or a list of folders, whose probabilities are
            averaged; None for the shipped one.
        segmenter: Folder of a trained bundle; None for the shipped one.
        tta: Views of the crop that are averaged: `none`, `flips` (4), `d4` (8, flips and quarter turns) or `crops` (12, the flips
            of three crops, with the margin of the card and with 0.7 and 0.4 of it).
        explain: Method of the heatmap: `gradcam` or `none`.
        localize: First mask source: `unet`, `contour` or `whole_image`; the later ones are its fallbacks.
        device: `auto` (CUDA, then Apple's MPS, then the CPU), `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto`, which is float32, the precision of the cards' metrics; `float32`, `bfloat16` or `float16`.
        explain_diagnosis: Code of the class that the heatmap explains, such as `mel`; None for the predicted one.
        batch_size: Number of images, and of images x views, in one pass through a network; None for the device's default.

    Raises:
        BundleError: A bundle cannot be used, or not combined with another one, see `load_classifiers`.
        ConfigError: An option has an invalid value, the device is not available, or the class to explain is unknown to the
            classifier.
    """
    settings = PipelineSettings(
        classifier=list_bundles(classifier),
        segmenter=None if segmenter is None else bundle_path("segmenter", segmenter),
        tta=tta,
        explain=explain,
        localize=localize,
        device=device,
        precision=precision,
        explain_diagnosis=explain_diagnosis,
        batch_size=batch_size,
    )
    chosen, dtype, start = choose_device(device), PRECISIONS[precision], MaskSource(localize)
    classifiers = load_classifiers([Path(folder) for folder in settings.classifier or (SHIPPED / "classifier",)])
    ensemble = ClassifierEnsemble(
        classifiers,
        device=chosen,
        views=VIEWS[tta],
        explained=None if explain == "none" else explain_diagnosis or "predicted",
        batch_size=batch_size or default_batch_size(chosen.type),
        precision=dtype,
    )
    bundle = load_segmenter(Path(settings.segmenter or SHIPPED / "segmenter")) if start is MaskSource.UNET else None
    return Pipeline(Localizer(bundle, device=chosen, start=start, precision=dtype), ensemble)


def load_classifiers(folders: Sequence[Path]) -> list[ClassifierBundle]:
    """Load classifiers whose probabilities can be averaged.

    Raises:
        BundleError: A bundle cannot be used or is listed twice, or two differ in their classes or malignant classes.
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
    """Return the default batch size of a device type, such as `cuda`."""
    return _BATCH_SIZES[device]


def choose_device(name: str) -> torch.device:
    """Choose a device by its name.

    Args:
        name: `auto` (CUDA, then Apple's MPS, then the CPU), `cpu`, `cuda`, `cuda:N`, or `mps`.

    Raises:
        ConfigError: The name is unknown, or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name if isinstance(name, str) else "")
    except RuntimeError as error:
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}; auto takes what is there") from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise ConfigError(f"device={name} is not there on this machine; device=auto takes what is")
    return device
