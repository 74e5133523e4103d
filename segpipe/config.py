"""Typed schemas under the yaml of conf/: a misspelt key or a wrong type stops before anything heavy is imported.

Each group of conf/ has its dataclass here; the yaml files hold the values. A key, its field and its documentation share one name.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class DataConfig:
    """Where the images come from: `_target_` names the function that finds and checks them."""

    _target_: str = MISSING
    root: str = MISSING
    without_lesion_ids: bool = False
    limit: int | None = None


@dataclass
class SyntheticConfig(DataConfig):
    """A data set that is drawn before the training."""

    lesions: int = 84
    images_per_lesion: int = 3
    height: int = 150
    width: int = 200
    seed: int = 0


@dataclass
class AugmentConfig:
    """Random changes to training images: albumentations transforms in order, and the jitter of lesion boxes."""

    transforms: list[Any] = field(default_factory=list)
    box_jitter: float = 0.0


@dataclass
class CropConfig:
    """How a lesion is cut out, see `segpipe.lesion.crop.CropRule`."""

    whole_image: bool = False
    margin_fraction: float = 0.25
    keep_background: bool = True


@dataclass
class SegmenterConfig:
    """The U-Net: encoder by its name in smp, widths of its decoder, input size, starting weights of the encoder."""

    encoder: str = MISSING
    decoder_channels: list[int] = MISSING
    input_size: int = MISSING
    init: str = "random"


@dataclass
class ClassifierConfig:
    """The classifier: timm's name of its backbone, attention, dropout, input size, starting weights of the backbone."""

    name: str = MISSING
    attention: str = "cbam"
    dropout: float = 0.2
    input_size: int = MISSING
    init: str = "random"


@dataclass
class LossConfig:
    """`_target_` names the loss."""

    _target_: str = MISSING


@dataclass
class BceDiceConfig(LossConfig):
    """See `segpipe.losses.dice.BceDiceLoss`."""

    bce_weight: float = 1.0
    dice_weight: float = 1.0


@dataclass
class FocalConfig(LossConfig):
    """See `segpipe.losses.focal.FocalLoss` and `class_weights`."""

    gamma: float = 2.0
    weighting: str = "effective"
    beta: float = 0.999


@dataclass
class OptimizerConfig:
    """An optimizer of torch, built with `lr` and `weight_decay`."""

    _target_: str = MISSING
    _partial_: bool = True
    lr: float = MISSING
    weight_decay: float = 0.01


@dataclass
class SchedulerConfig:
    """`_target_` names the schedule."""

    _target_: str = MISSING


@dataclass
class CosineConfig(SchedulerConfig):
    """See `segpipe.training.schedule.WarmupCosine`."""

    warmup_fraction: float = 0.05
    final_fraction: float = 0.01


@dataclass
class UnfreezeConfig:
    """See `segpipe.training.unfreezing.plan_unfreezing`."""

    from_epochs: list[int] = MISSING
    lr_decay: float = 1.0


@dataclass
class TrainerConfig:
    """Arguments of Lightning's Trainer, and `patience`: epochs without a better score before it stops early."""

    max_epochs: int = MISSING
    patience: int = 5
    accelerator: str = "auto"
    devices: Any = "auto"
    strategy: str = "auto"
    precision: str = "auto"
    gradient_clip_val: float | None = 1.0
    accumulate_grad_batches: int = 1


@dataclass
class LoggerConfig:
    """`_target_` names the logger; `csv` writes `metrics.csv`."""

    _target_: str = MISSING


@dataclass
class BundleConfig:
    """Trained models on disk; null takes the shipped one."""

    segmenter: str | None = None
    classifier: str | None = None


@dataclass
class SegmenterBundleConfig:
    """A trained segmenter on disk; null takes the shipped one."""

    segmenter: str | None = None


@dataclass
class TtaConfig:
    """Test-time augmentation: the set of views, see `segpipe.inference.tta.VIEWS`."""

    views: str = MISSING


@dataclass
class ExplainConfig:
    """The explanation: `gradcam` or `none`, and the diagnosis it is for; null is the predicted one."""

    method: str = MISSING
    diagnosis: str | None = None


@dataclass
class TrainConfig:
    """What both trainings share."""

    data: DataConfig = MISSING
    augment: AugmentConfig = MISSING
    loss: LossConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    scheduler: SchedulerConfig = MISSING
    logger: LoggerConfig = MISSING
    trainer: TrainerConfig = MISSING
    split: str | None = None
    seed: int = 0
    batch_size: int = MISSING
    workers: int = 0
    ckpt_path: str | None = None
    output: str | None = None
    overwrite: bool = False


@dataclass
class TrainSegConfig(TrainConfig):
    """`train_seg.py`."""

    segmenter: SegmenterConfig = MISSING


@dataclass
class TrainClsConfig(TrainConfig):
    """`train_cls.py`."""

    crop: CropConfig = MISSING
    classifier: ClassifierConfig = MISSING
    unfreeze: UnfreezeConfig = MISSING
    tta: TtaConfig = MISSING
    bundle: SegmenterBundleConfig = field(default_factory=SegmenterBundleConfig)
    allow_leak: bool = False


@dataclass
class RunPipelineConfig:
    """`run_pipeline.py`."""

    image: Any = None
    folder: str | None = None
    output: str | None = None
    overwrite: bool = False
    bundle: BundleConfig = field(default_factory=BundleConfig)
    localize: str = "unet"
    tta: TtaConfig = MISSING
    explain: ExplainConfig = MISSING
    device: str = "auto"
    batch_size: int = 8
    max_pixels: int = 150_000_000
    labels: str | None = None
    masks: str | None = None
    split: str | None = None
    part: str | None = None
    figures: str = "auto"
    crops: bool = False
    heatmaps: bool = False


def register_schemas() -> None:
    """Make the schemas known to Hydra under the names that the yaml files put below their values."""
    store = ConfigStore.instance()
    for group, name, schema in _SCHEMAS:
        store.store(group=group, name=f"{name}_schema", node=schema)


_SCHEMAS: tuple[tuple[str | None, str, type], ...] = (
    (None, "train_seg", TrainSegConfig),
    (None, "train_cls", TrainClsConfig),
    (None, "run_pipeline", RunPipelineConfig),
    ("data", "ham10000", DataConfig),
    ("data", "synthetic", SyntheticConfig),
    ("augment", "augment", AugmentConfig),
    ("crop", "crop", CropConfig),
    ("segmenter", "segmenter", SegmenterConfig),
    ("classifier", "classifier", ClassifierConfig),
    ("loss", "bce_dice", BceDiceConfig),
    ("loss", "focal", FocalConfig),
    ("optimizer", "optimizer", OptimizerConfig),
    ("scheduler", "cosine", CosineConfig),
    ("scheduler", "constant", SchedulerConfig),
    ("unfreeze", "unfreeze", UnfreezeConfig),
    ("trainer", "trainer", TrainerConfig),
    ("logger", "logger", LoggerConfig),
    ("tta", "tta", TtaConfig),
    ("explain", "explain", ExplainConfig),
)


def optional_path(value: str | None) -> Path | None:
    """A path from the configuration, None where it is null."""
    return None if value is None else Path(value)


register_schemas()
