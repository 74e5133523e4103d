"""Typed schemas of the subcommands for trained models and web page."""

from dataclasses import dataclass
from functools import partial

from omegaconf import MISSING

from segpipe.config.fields import LARGEST_SEED, setting
from segpipe.config.groups import PARTS, BundleConfig, DataConfig, ExplainConfig, ModelsConfig, SegmenterBundleConfig, TtaConfig

# Settings that several commands have.
DATED = "null: outputs/<date>/<time>"
device_setting = partial(setting, "auto", "Device: auto, cpu, cuda, cuda:N or mps")
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
max_pixels_setting = partial(setting, text="Largest accepted image, height x width in pixels", least=1)
folder_setting = partial(setting, text="Folder of images, searched with its subfolders; a data set's root will do", path="any")
labels_setting = partial(setting, path="existing", text="CSV of the true diagnoses, with lesion ids where they are known")
split_setting = partial(setting, None, "CSV that lists the images to use; null: all", path="existing")
part_setting = partial(setting, None, "Part of split to use; null: all parts", choices=PARTS)
bundles_setting = partial(setting, path="folder")
titles_setting = partial(setting, None, "Names in the table, as [A,B]; null: names of the folders")
config_group = partial(setting, MISSING)


@dataclass
class AppConfig:
    """The web page, `segpipe/app/main.py`."""

    bundle: BundleConfig = setting(BundleConfig, "Models that the page starts with")
    bundles: str | None = bundles_setting(None, "Folder that is searched for trained models; null: outputs, if it exists")
    localize: str = localize_setting()
    tta: TtaConfig = config_group("Test-time augmentation where the page's switch is on")
    explain: ExplainConfig = config_group("Heatmap where the page's switch is on")
    device: str = device_setting()
    precision: str = precision_setting()
    batch_size: int | None = batch_size_setting()
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
    masks: str | None = setting(None, "Folder of the true masks, named after the images", path="existing")


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
    device: str = device_setting()
    output: str | None = setting(None, "JSON file for the metrics in full precision; null: none", path="any")


@dataclass
class ExportConfig:
    """`segpipe export`."""

    data: DataConfig = config_group("Data set of both trainings")
    bundle: ModelsConfig = setting(ModelsConfig, "Models; without them the copies in output are scored again")
    split: str | None = setting(
        None, "split.csv that both models were trained on; null: the one beside bundle.classifier, or in output", path="existing"
    )
    output: str = setting(MISSING, "Folder of the copies: segmenter/, classifier/, split.csv, test/plots/", path="any")
    results: str | None = setting(None, "Folder for the run over the test split, with metrics.json; null: not kept", path="any")


@dataclass
class CardConfig:
    """`segpipe card`."""

    bundle: ModelsConfig = setting(ModelsConfig, "Models")
    output: str | None = setting(None, "File to write; null: stdout", path="any")


@dataclass
class SyntheticSamplesConfig:
    """`segpipe synthetic`."""

    output: str | None = setting(None, f"Folder of synthetic_<code>.jpg, masks/ and labels.csv; {DATED}", path="any")
    seed: int = setting(3, "Seed of the random numbers", least=0, most=LARGEST_SEED)
