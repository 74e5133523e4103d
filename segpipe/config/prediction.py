"""Typed schema of `segpipe predict`, its groups, and shared settings."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from segpipe.config.fields import MISSING, setting

VIEWS = {"none": "", "flips": "4 views", "d4": "8, flips and quarter turns", "crops": "12, flips of crops with three margins"}
PARTS = ("train", "val", "test")
NO_REPORT, HTML, PDF, CONTACT_SHEET = ("none", "html", "pdf", "contact_sheet")

_SEGMENTER = "Folder of a trained segmenter; null: the shipped one"
_CLASSIFIER = "Folder of a trained classifier; null: the shipped one"
_segmenter = partial(setting, None, _SEGMENTER, path="existing")

# Settings that several commands have.
DATED = "null: outputs/<date>/<time>"
device_setting = partial(setting, "auto", "Device: auto, cpu, cuda, cuda:N or mps")
runtime_setting = partial(
    setting,
    "auto",
    "Runtime of the networks",
    choices={
        "auto": "onnx on a CPU for bundles with a graph, torch otherwise",
        "torch": "PyTorch; needs segpipe[torch]",
        "onnx": "ONNX Runtime",
        "openvino": "OpenVINO, for precision=bfloat16 on a CPU; needs segpipe[openvino]",
    },
)
precision_setting = partial(
    setting,
    "auto",
    "Numeric precision; the metrics of the cards were measured in float32",
    choices={"auto": "float32", "float32": "", "bfloat16": "", "float16": ""},
)
localize_setting = partial(
    setting, "unet", "First mask source; the later ones are its fallbacks", choices=("unet", "contour", "whole_image")
)
batch_size_setting = partial(setting, None, "Images, or views of images, per forward pass; null: suited to the device", least=1)
gate_setting = partial(
    setting,
    "warn",
    "Input gate, which judges whether an image is of the kind that the models know",
    choices={"warn": "says so beside the result", "refuse": "no result, the image is listed in failures.csv", "off": "no gate"},
)
mm_per_pixel_setting = partial(
    setting, None, "Side of a pixel of the photographs on the skin, in millimeters, for abcd_diameter_mm; null: unknown", above=0
)
max_pixels_setting = partial(setting, text="Largest accepted image, height x width in pixels", least=1)
labels_setting = partial(
    setting,
    path="existing",
    text="CSV of the true diagnoses, with lesion ids where they are known, or file of COCO, Label Studio or CVAT",
    extra="metrics",
)
masks_setting = partial(setting, None, path="existing", extra="metrics")
split_setting = partial(setting, None, "CSV that lists the images to use; null: all", path="existing", extra="metrics")
part_setting = partial(setting, None, "Part of split to use; null: all parts", choices=PARTS)
config_group = partial(setting, MISSING)


@dataclass
class SegmenterBundleConfig:
    """Trained segmenter on disk."""

    segmenter: str | None = _segmenter()


@dataclass
class ModelsConfig(SegmenterBundleConfig):
    """Trained segmenter and one trained classifier on disk."""

    classifier: str | None = setting(None, _CLASSIFIER, path="existing")


@dataclass
class BundleConfig(SegmenterBundleConfig):
    """Trained segmenter and one or several trained classifiers on disk."""

    classifier: Any = setting(
        None, f"{_CLASSIFIER}. The probabilities of several classifiers, [a,b,c], are averaged", path="existing"
    )


@dataclass
class TtaConfig:
    """Test-time augmentation, see `segpipe.inference.tta.VIEWS`."""

    views: str = setting(MISSING, "Views of the crop whose predictions are averaged", choices=VIEWS)


@dataclass
class ExplainConfig:
    """Explanation of a diagnosis."""

    method: str = setting(MISSING, "Heatmap of the image regions that a diagnosis rests on", choices=("gradcam", "none"))
    diagnosis: str | None = setting(None, "Class that the heatmap explains, such as mel; null: the predicted class")


@dataclass
class ConformalConfig:
    """Prediction sets, see `segpipe.metrics.conformal`."""

    coverage: float | None = setting(
        None, "Probability with which a prediction set holds the true diagnosis; null: that of the card", above=0, below=1
    )


@dataclass
class SimilarConfig:
    """Similar cases."""

    root: str | None = setting(
        None,
        "Folder of the classifier's training images, for pictures of similar cases",
        path="folder",
    )


@dataclass
class RunPipelineConfig:
    """`segpipe predict`."""

    image: Any = setting(None, "Image, or a list of images as [a.jpg,b.jpg]; give either image or folder", path="any")
    folder: str | None = setting(None, "Folder of images, searched with its subfolders", path="any")
    output: str | None = setting(None, f"Folder of the results; {DATED}", path="any")
    overwrite: bool = setting(False, "True to replace the results of an earlier run in output")
    resume: bool = setting(False, "True to resume an earlier run in output, if there is one; no image is processed twice")
    shard: str | None = setting(None, "k/n, for example 0/8: part k of n of the folder, for n runs side by side; k counts from 0")
    bundle: BundleConfig = setting(BundleConfig, "Trained models")
    localize: str = localize_setting()
    tta: TtaConfig = config_group("Test-time augmentation")
    explain: ExplainConfig = config_group("Heatmap of the image regions that a diagnosis rests on")
    gate: str = gate_setting()
    conformal: ConformalConfig = setting(ConformalConfig, "Prediction sets")
    mm_per_pixel: float | None = mm_per_pixel_setting()
    runtime: str = runtime_setting()
    device: str = device_setting()
    precision: str = precision_setting()
    engine: str = setting("local", "Engine", choices={"local": "this machine", "ray": "several machines; needs segpipe[ray]"})
    workers: int | None = setting(
        None,
        "With engine=local: threads beside the main thread, null: one per core. With engine=ray: actors, null: one per GPU, or "
        "without GPUs one per node and at least two",
        least=0,
    )
    batch_size: int | None = batch_size_setting()
    max_pixels: int = max_pixels_setting(150_000_000)
    labels: str | None = labels_setting(
        None,
        text="CSV of the true diagnoses (HAM10000, ISIC, or image,label) or file of COCO, Label Studio or CVAT: scores the run",
    )
    masks: str | None = masks_setting(
        "Folder of the true masks, named after the images, or file of COCO, Label Studio or CVAT: scores the run"
    )
    given_masks: str | None = setting(
        None,
        "Folder of masks, named after the images, to use in place of found ones; or the mask file of a single image",
        path="existing",
    )
    heatmap_sample: int = setting(
        200, "With labels or masks and explain=gradcam: number of images whose heatmaps are tested; 0: no test", least=0
    )
    split: str | None = split_setting()
    part: str | None = part_setting()
    figures: str = setting(
        "auto", "Summary picture of each image", choices={"auto": "for up to 20 images", "true": "", "false": ""}
    )
    crops: bool = setting(False, "True to write the crops")
    heatmaps: bool = setting(False, "True to write the heatmaps as pictures of their own")
    similar: SimilarConfig = setting(SimilarConfig, "Similar cases")
    report: str = setting(
        NO_REPORT,
        "Report, with the truth where labels or masks are given",
        choices={
            NO_REPORT: "",
            HTML: "report.html, a table of all images with a page for each",
            PDF: "report.pdf, an overview and a page for each image; needs segpipe[plots]",
            CONTACT_SHEET: "report.pdf, the overview alone, 20 images on a page; needs segpipe[plots]",
        },
    )
