"""Typed schemas of the subcommands for trained models and web page."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from segpipe.config.fields import LARGEST_SEED, MISSING, setting
from segpipe.config.groups import DataConfig
from segpipe.config.prediction import (
    DATED,
    BundleConfig,
    ConformalConfig,
    ExplainConfig,
    ModelsConfig,
    SegmenterBundleConfig,
    SimilarConfig,
    TtaConfig,
    batch_size_setting,
    config_group,
    device_setting,
    gate_setting,
    labels_setting,
    localize_setting,
    masks_setting,
    max_pixels_setting,
    mm_per_pixel_setting,
    part_setting,
    precision_setting,
    runtime_setting,
    split_setting,
)
from segpipe.language import language_codes

folder_setting = partial(setting, text="Folder of images, searched with its subfolders; a data set's root will do", path="any")
bundles_setting = partial(setting, path="folder")
titles_setting = partial(setting, None, "Names in the table, as [A,B]; null: names of the folders")


@dataclass
class AppConfig:
    """The web page, `segpipe/app/main.py`."""

    bundle: BundleConfig = setting(BundleConfig, "Models that the page starts with")
    bundles: str | None = bundles_setting(None, "Folder that is searched for trained models; null: outputs, if it exists")
    localize: str = localize_setting()
    tta: TtaConfig = config_group("Test-time augmentation where the page's switch is on")
    explain: ExplainConfig = config_group("Heatmap where the page's switch is on")
    gate: str = gate_setting()
    conformal: ConformalConfig = setting(ConformalConfig, "Prediction sets")
    similar: SimilarConfig = setting(SimilarConfig, "Similar cases")
    mm_per_pixel: float | None = mm_per_pixel_setting()
    runtime: str = runtime_setting()
    device: str = device_setting()
    precision: str = precision_setting()
    batch_size: int | None = batch_size_setting()
    language: str = setting(
        "auto", "Language at the start", choices={"auto": "that of the browser"} | dict.fromkeys(language_codes(), "")
    )
    max_files: int = setting(50, "Largest number of images per upload", least=1)
    max_pixels: int = max_pixels_setting(50_000_000)


@dataclass
class AppServerConfig(AppConfig):
    """`segpipe app`: the web page and its server."""

    address: str = setting("127.0.0.1", "Address of this machine that the page is served on; 127.0.0.1: this machine alone")
    port: int = setting(8501, "Port of the page", least=1, most=65535)


@dataclass
class CompareConfig:
    """`segpipe compare`."""

    bundles: list[str] = bundles_setting(
        MISSING, text="Folders of two or more trained classifiers with the same classes, as [a,b]"
    )
    titles: list[str] | None = titles_setting()
    folder: str = folder_setting(MISSING)
    labels: str = labels_setting(MISSING)
    split: str | None = split_setting()
    part: str | None = part_setting()
    bundle: SegmenterBundleConfig = setting(SegmenterBundleConfig, "Segmenter that all share")
    localize: str = localize_setting()
    tta: TtaConfig = config_group("Test-time augmentation")
    runtime: str = runtime_setting()
    device: str = device_setting()
    batch_size: int | None = batch_size_setting()
    output: str | None = setting(
        None, f"Folder of the table, the pictures and the runs; {DATED}. A later call with the same folder resumes", path="any"
    )
    overwrite: bool = setting(False, "True to repeat the runs")


@dataclass
class AblationsConfig:
    """`segpipe ablations`."""

    runs: list[str] = bundles_setting(
        MISSING, text="Folders with results.csv of segpipe predict or of a training's test; the first is the reference"
    )
    titles: list[str] | None = titles_setting()
    labels: str | None = labels_setting(None)
    masks: str | None = masks_setting("Folder of the true masks, named after the images, or file of COCO, Label Studio or CVAT")


@dataclass
class HeatmapsConfig:
    """`segpipe heatmaps`."""

    bundles: list[str] = bundles_setting(MISSING, text="Folders of one or more trained classifiers, as [a,b]")
    titles: list[str] | None = titles_setting()
    folder: str = folder_setting(MISSING)
    split: str | None = split_setting()
    part: str | None = part_setting()
    bundle: SegmenterBundleConfig = setting(SegmenterBundleConfig, "Segmenter that all share")
    heatmap_sample: int = setting(200, "Largest number of images", least=1)
    runtime: str = runtime_setting()
    device: str = device_setting()
    output: str | None = setting(None, "JSON file for the metrics in full precision; null: none", path="any")


@dataclass
class ExportConfig:
    """`segpipe export`."""

    data: DataConfig = config_group("Data set of both trainings")
    bundle: ModelsConfig = setting(ModelsConfig, "Models; null: the copies in output are scored again")
    split: str | None = setting(
        None, "split.csv that both models were trained on; null: the one beside bundle.classifier, or in output", path="existing"
    )
    output: str | None = setting(
        None,
        "Folder of the copies: segmenter/, classifier/, split.csv, test/plots/; null: add graphs to the models where they are",
        path="any",
    )
    results: str | None = setting(None, "Folder for the run over the test split, with metrics.json; null: not kept", path="any")


@dataclass
class CardConfig:
    """`segpipe card`."""

    bundle: ModelsConfig = setting(ModelsConfig, "Models")
    output: str | None = setting(None, "File to write; null: stdout", path="any")


@dataclass
class SelfTestConfig:
    """`segpipe selftest`."""

    bundle: ModelsConfig = setting(ModelsConfig, "Models")


@dataclass
class AuditGateConfig:
    """`segpipe audit gate`."""

    data: DataConfig = config_group("Data set of the training")
    outside: Any = setting(None, "Folder of other images, or a list of folders as [a,b]", path="folder")
    bundle: SegmenterBundleConfig = setting(SegmenterBundleConfig, "Segmenter with its gate")
    split: str | None = setting(None, "split.csv that it was trained on; null: the one beside bundle.segmenter", path="existing")
    images: int = setting(500, "Largest number of changed images of a kind, and of outside images", least=1)
    runtime: str = runtime_setting()
    device: str = device_setting()
    output: str | None = setting(None, "Folder for gate.json, the numbers in full precision; null: none", path="any")


@dataclass
class AnnotationsConfig:
    """`segpipe annotations`."""

    run: str | None = setting(
        None,
        "Folder of a run of segpipe predict, whose masks and diagnoses are converted; give either run or masks",
        path="folder",
        extra="annotations",
    )
    masks: str | None = setting(
        None, "Folder of masks, or file of COCO, Label Studio or CVAT, to convert", path="existing", extra="annotations"
    )
    folder: str | None = setting(None, "With a folder of masks: folder of their images, for the names", path="folder")
    labels: str | None = labels_setting(None, text="Labels, as for segpipe predict; null: those of run or masks")
    format: str = setting(
        "coco",
        "Form of the output",
        choices={
            "coco": "JSON file for instances",
            "label_studio": "JSON file of tasks; masks of a run are predictions",
            "cvat": "XML file, CVAT for images 1.1",
            "masks": "folder of masks/*.png and labels.csv",
        },
    )
    shape: str = setting(
        "rle",
        "Shape of the outlines in a file",
        choices={"rle": "every pixel, run-length encoded", "polygon": "simplified, without holes"},
    )
    images_url: str = setting(
        "/data/local-files/?d=", "With format=label_studio: text before the path of each image that makes it a URL for the server"
    )
    output: str = setting(MISSING, "File to write, or folder with format=masks", path="any")
    overwrite: bool = setting(False, "True to replace an existing output")


@dataclass
class AuditLabelsConfig:
    """`segpipe audit labels`."""

    predictions: str = setting(MISSING, "out_of_fold.csv of a cross-validation, or results.csv of a run", path="existing")
    labels: str | None = labels_setting(None, text="Labels to check, as for segpipe predict; null: those in out_of_fold.csv")
    folder: str | None = folder_setting(None, text="Folder of the images, for the contact sheet; null: no sheet")
    shown: int = setting(20, "Number of images on the contact sheet", least=1, most=200)
    output: str | None = setting(None, f"Folder for label_errors.csv and label_errors.png; {DATED}", path="any")


@dataclass
class SyntheticSamplesConfig:
    """`segpipe synthetic`."""

    output: str | None = setting(None, f"Folder of synthetic_<code>.jpg, masks/ and labels.csv; {DATED}", path="any")
    seed: int = setting(3, "Seed of the random numbers", least=0, most=LARGEST_SEED)
