"""Loading of pipelines from plain values: runtime, device, bundles and options."""

from collections.abc import Sequence
from pathlib import Path

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.card_file import SHIPPED
from segpipe.bundle.references import read_reference
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.gate import Gate
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.resources import default_batch_size
from segpipe.inference.runtimes import Runtime
from segpipe.inference.settings import BundlePath, PipelineSettings, bundle_path, list_bundles
from segpipe.inference.similar import SimilarIndex
from segpipe.inference.stages import Localizer
from segpipe.inference.tta import VIEWS
from segpipe.io.run_files import GATE, SIMILAR
from segpipe.lesion.localization import MaskSource


def load_pipeline(
    classifier: BundlePath | Sequence[BundlePath] | None = None,
    segmenter: BundlePath | None = None,
    *,
    tta: str = "d4",
    explain: str = "gradcam",
    localize: str = "unet",
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    gate: str = "warn",
    coverage: float | None = None,
    mm_per_pixel: float | None = None,
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
        runtime: `auto` (ONNX Runtime on a CPU for bundles with a graph, else PyTorch), `torch`, `onnx` or `openvino`.
        device: `auto` (CUDA, then Apple's MPS, then the CPU), `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto`, which is float32, the precision of the cards' metrics; `float32`, `bfloat16` or `float16`.
        gate: Effect of the input gate on an image of a kind that the models do not know: `warn` (says so in the finding),
            `refuse` (raises ImageError) or `off`.
        coverage: Probability with which a prediction set holds the true diagnosis, in (0, 1); None for that of the card.
        mm_per_pixel: Side of a pixel of the photographs on the skin, millimeters, for the diameter in millimeters; None if
            unknown.
        explain_diagnosis: Code of the class that the heatmap explains, such as `mel`; None for the predicted one.
        batch_size: Number of images, and of images x views, in one pass through a network; None for the device's default.

    Raises:
        BundleError: A bundle cannot be used, or not combined with another one, see `Runtime.load_classifiers`.
        ConfigError: An option has an invalid value, the device is not available, or the class to explain is unknown to the
            classifier.
    """
    settings = PipelineSettings(
        classifier=list_bundles(classifier),
        segmenter=None if segmenter is None else bundle_path("segmenter", segmenter),
        tta=tta,
        explain=explain,
        localize=localize,
        runtime=runtime,
        device=device,
        precision=precision,
        gate=gate,
        coverage=coverage,
        mm_per_pixel=mm_per_pixel,
        explain_diagnosis=explain_diagnosis,
        batch_size=batch_size,
    )
    chosen, start = Runtime.of(runtime, device=device, precision=precision), MaskSource(localize)
    classifiers = [Path(folder) for folder in settings.classifier or (SHIPPED / "classifier",)]
    ensemble = ClassifierEnsemble(
        chosen.load_classifiers(classifiers),
        views=VIEWS[tta],
        explained=None if explain == "none" else explain_diagnosis or "predicted",
        batch_size=batch_size or default_batch_size(chosen.device),
        coverage=coverage,
    )
    segmenter_folder = Path(settings.segmenter or SHIPPED / "segmenter")
    localizer = Localizer(chosen.load_segmenter(segmenter_folder) if start is MaskSource.UNET else None, start=start)
    return Pipeline(
        localizer,
        ensemble,
        gate=None if gate == "off" else load_gate(segmenter_folder, localizer),
        refuse=gate == "refuse",
        index=load_index(classifiers[0], ensemble.networks[0].card),
        mm_per_pixel=mm_per_pixel,
    )


def load_gate(folder: Path, localizer: Localizer) -> Gate:
    """Load the input gate of a segmenter.

    Args:
        folder: Folder of its bundle; without reference data there, the gate has its rules alone.
        localizer: Localizer with the segmenter, or without one.

    Raises:
        BundleError: The reference data are damaged.
    """
    return Gate(None if localizer.network is None else read_reference(folder, GATE, localizer.network.card))


def load_index(folder: Path, card: ClassifierCard) -> SimilarIndex | None:
    """Load the training cases of a classifier; None without reference data.

    Args:
        folder: Folder of its bundle.
        card: Card of the bundle.

    Raises:
        BundleError: The reference data are damaged.
    """
    reference = read_reference(folder, SIMILAR, card)
    return None if reference is None else SimilarIndex(reference, card.classes)
