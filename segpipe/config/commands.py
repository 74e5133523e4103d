"""Typed schemas of the subcommands that compare, export and show trained models, and of the web page."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from segpipe.config.bounds import LARGEST_SEED, bounded
from segpipe.config.groups import BundleConfig, DataConfig, ExplainConfig, SegmenterBundleConfig, TtaConfig


@dataclass
class ModelsConfig:
    """A trained segmenter and one trained classifier on disk."""

    segmenter: str | None = None
    classifier: str | None = None


@dataclass
class AppConfig:
    """The web page, `segpipe/app/main.py`.

    Attributes:
        bundle: models that the page starts with; null takes the shipped ones.
        bundles: folder that is searched for more of them; null: `outputs`, where trainings write, if it is there.
        tta: views that are averaged where the page's switch is on.
        explain: the heatmap where the page's switch is on.
        max_files: photographs that are taken at once.
        max_pixels: refuse larger images (height x width).
    """

    bundle: BundleConfig = field(default_factory=BundleConfig)
    bundles: str | None = None
    localize: str = "unet"
    tta: TtaConfig = MISSING
    explain: ExplainConfig = MISSING
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = bounded(None, least=1)
    max_files: int = bounded(50, least=1)
    max_pixels: int = bounded(50_000_000, least=1)


@dataclass
class AppServerConfig(AppConfig):
    """`segpipe app`: the web page and its server.

    Attributes:
        address: Address of this machine that the page is served on.
        port: Port of the page.
    """

    address: str = "127.0.0.1"
    port: int = bounded(8501, least=1, most=65535)


@dataclass
class CompareConfig:
    """`segpipe compare`."""

    bundles: list[str] = MISSING
    titles: list[str] | None = None
    folder: str = MISSING
    labels: str = MISSING
    split: str | None = None
    part: str | None = None
    bundle: SegmenterBundleConfig = field(default_factory=SegmenterBundleConfig)
    localize: str = "unet"
    tta: TtaConfig = MISSING
    device: str = "auto"
    batch_size: int | None = bounded(None, least=1)
    output: str | None = None
    overwrite: bool = False


@dataclass
class AblationsConfig:
    """`segpipe ablations`."""

    runs: list[str] = MISSING
    titles: list[str] | None = None
    labels: str | None = None
    masks: str | None = None


@dataclass
class HeatmapsConfig:
    """`segpipe heatmaps`."""

    bundles: list[str] = MISSING
    titles: list[str] | None = None
    folder: str = MISSING
    split: str | None = None
    part: str | None = None
    bundle: SegmenterBundleConfig = field(default_factory=SegmenterBundleConfig)
    heatmap_sample: int = bounded(200, least=1)
    device: str = "auto"
    output: str | None = None


@dataclass
class ExportConfig:
    """`segpipe export`."""

    data: DataConfig = MISSING
    bundle: ModelsConfig = field(default_factory=ModelsConfig)
    split: str | None = None
    output: str = MISSING
    results: str | None = None


@dataclass
class CardConfig:
    """`segpipe card`."""

    bundle: ModelsConfig = field(default_factory=ModelsConfig)
    output: str | None = None


@dataclass
class SyntheticSamplesConfig:
    """`segpipe synthetic`."""

    output: str | None = None
    seed: int = bounded(3, least=0, most=LARGEST_SEED)
