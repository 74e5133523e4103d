"""Typed schemas under the yaml of conf/: a misspelt key or a wrong type stops before anything heavy is imported.

Here are those of the trainings and of a run over images; those of the other subcommands are in `segpipe.config.commands`, the
groups that they consist of in `segpipe.config.groups`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from segpipe.config.bounds import LARGEST_SEED, bounded
from segpipe.config.commands import (
    AblationsConfig,
    AppConfig,
    AppServerConfig,
    CardConfig,
    CompareConfig,
    ExportConfig,
    HeatmapsConfig,
    SyntheticSamplesConfig,
)
from segpipe.config.groups import (
    AugmentConfig,
    BceDiceConfig,
    BundleConfig,
    ClassifierConfig,
    CosineConfig,
    CropConfig,
    CsvConfig,
    DataConfig,
    ExplainConfig,
    FocalConfig,
    FoldersConfig,
    Isic2019Config,
    LoggerConfig,
    LogitAdjustedConfig,
    LossConfig,
    MlflowConfig,
    OptimizerConfig,
    SchedulerConfig,
    SegmenterBundleConfig,
    SegmenterConfig,
    SyntheticConfig,
    ThresholdConfig,
    TrainerConfig,
    TtaConfig,
    UnfreezeConfig,
    WandbConfig,
)


@dataclass
class TrainConfig:
    """What both trainings share."""

    data: DataConfig = MISSING
    augment: AugmentConfig = MISSING
    loss: LossConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    scheduler: SchedulerConfig = MISSING
    logger: dict[str, LoggerConfig] = field(default_factory=dict)
    trainer: TrainerConfig = MISSING
    split: str | None = None
    seed: int = bounded(0, least=0, most=LARGEST_SEED)
    batch_size: int = bounded(least=1)
    workers: int = bounded(0, least=0)
    ckpt_path: str | None = None
    allow_change: list[str] = field(default_factory=list)
    allow_leak: bool = False
    output: str | None = None
    overwrite: bool = False


@dataclass
class TrainSegConfig(TrainConfig):
    """`train_seg.py`."""

    segmenter: SegmenterConfig = MISSING


@dataclass
class DistillConfig:
    """Bundles of classifiers that teach the one in training, null for none; see `segpipe.losses.distillation`.

    `views` is the set of views of a crop that the predictions of the teachers are averaged over.
    """

    teacher: Any = None
    temperature: float = bounded(2.0, least=0.1, most=100)
    label_weight: float = bounded(0.3, least=0, most=1)
    views: str = "d4"


@dataclass
class TrainClsConfig(TrainConfig):
    """`train_cls.py`."""

    crop: CropConfig = MISSING
    classifier: ClassifierConfig = MISSING
    sampler: str = "none"
    unfreeze: UnfreezeConfig = MISSING
    distill: DistillConfig = field(default_factory=DistillConfig)
    tta: TtaConfig = MISSING
    calibration: str = "temperature"
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    heatmap_sample: int = bounded(200, least=0)
    bundle: SegmenterBundleConfig = field(default_factory=SegmenterBundleConfig)


@dataclass
class RunPipelineConfig:
    """`run_pipeline.py`."""

    image: Any = None
    folder: str | None = None
    output: str | None = None
    overwrite: bool = False
    resume: bool = False
    shard: str | None = None
    bundle: BundleConfig = field(default_factory=BundleConfig)
    localize: str = "unet"
    tta: TtaConfig = MISSING
    explain: ExplainConfig = MISSING
    device: str = "auto"
    precision: str = "auto"
    engine: str = "local"
    workers: int | None = bounded(None, least=0)
    batch_size: int | None = bounded(None, least=1)
    max_pixels: int = bounded(150_000_000, least=1)
    labels: str | None = None
    masks: str | None = None
    heatmap_sample: int = bounded(200, least=0)
    split: str | None = None
    part: str | None = None
    figures: str = "auto"
    crops: bool = False
    heatmaps: bool = False
    report: str = "none"


def register_schemas() -> None:
    """Make the schemas known to Hydra under the names that the yaml files put below their values."""
    store = ConfigStore.instance()
    for group, name, schema in _SCHEMAS:
        store.store(group=group, name=f"{name}_schema", node=schema)


_SCHEMAS: tuple[tuple[str | None, str, type], ...] = (
    (None, "train_seg", TrainSegConfig),
    (None, "train_cls", TrainClsConfig),
    (None, "run_pipeline", RunPipelineConfig),
    (None, "app", AppConfig),
    (None, "app_server", AppServerConfig),
    (None, "compare", CompareConfig),
    (None, "heatmaps", HeatmapsConfig),
    (None, "ablations", AblationsConfig),
    (None, "export", ExportConfig),
    (None, "card", CardConfig),
    (None, "synthetic", SyntheticSamplesConfig),
    ("data", "ham10000", DataConfig),
    ("data", "synthetic", SyntheticConfig),
    ("data", "folders", FoldersConfig),
    ("data", "csv", CsvConfig),
    ("data", "isic2019", Isic2019Config),
    ("augment", "augment", AugmentConfig),
    ("crop", "crop", CropConfig),
    ("segmenter", "segmenter", SegmenterConfig),
    ("classifier", "classifier", ClassifierConfig),
    ("loss", "bce_dice", BceDiceConfig),
    ("loss", "focal", FocalConfig),
    ("loss", "logit_adjusted", LogitAdjustedConfig),
    ("optimizer", "optimizer", OptimizerConfig),
    ("scheduler", "cosine", CosineConfig),
    ("scheduler", "constant", SchedulerConfig),
    ("unfreeze", "unfreeze", UnfreezeConfig),
    ("trainer", "trainer", TrainerConfig),
    ("logger", "tensorboard", LoggerConfig),
    ("logger", "wandb", WandbConfig),
    ("logger", "mlflow", MlflowConfig),
    ("tta", "tta", TtaConfig),
    ("explain", "explain", ExplainConfig),
)


def register_resolvers() -> None:
    """Make `${first:a,b}` known: the first value, or the second one where that is null."""
    OmegaConf.register_new_resolver("first", lambda value, other: other if value is None else value, replace=True)


def optional_path(value: str | None) -> Path | None:
    """A path from the configuration, None where it is null."""
    return None if value is None else Path(value)


register_schemas()
register_resolvers()
