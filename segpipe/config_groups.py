"""Typed schemas of the groups of conf/, one dataclass for each kind; the yaml files hold the values.

A key, its field and its documentation share one name.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class DataConfig:
    """Where the images come from: `_target_` names the function that finds and checks them."""

    _target_: str = MISSING
    root: str = MISSING
    without_lesion_ids: bool = False
    limit: int | None = None
    fold: int | None = None
    folds: int = 5
    cache: str | None = "outputs/cache"


@dataclass
class SyntheticConfig(DataConfig):
    """A data set that is drawn before the training."""

    lesions: int = 84
    images_per_lesion: int = 3
    height: int = 150
    width: int = 200
    seed: int = 0


@dataclass
class ClassesConfig(DataConfig):
    """Images of any classes; `malignant` names those that are, null where it follows from the classes or is not known."""

    malignant: list[str] | None = None


@dataclass
class FoldersConfig(ClassesConfig):
    """Images in a folder for each class; `split_folders` says whether folders train, val and test above these are the split."""

    split_folders: bool | None = None


@dataclass
class CsvConfig(ClassesConfig):
    """Images whose classes stand in a table."""

    table: str = MISSING


@dataclass
class Isic2019Config(ClassesConfig):
    """ISIC 2019; `classes` names those that are kept, null keeps all that are there."""

    classes: list[str] | None = None


@dataclass
class AugmentConfig:
    """Random changes to training images: albumentations transforms in order, and mixup, see `segpipe.training.tasks.Task`."""

    transforms: list[Any] = field(default_factory=list)
    mixup_alpha: float = 0.0


@dataclass
class CropConfig:
    """How a lesion is cut out, see `segpipe.lesion.crop.CropRule`."""

    whole_image: bool = False
    margin_fraction: float = 0.25
    keep_background: bool = True


@dataclass
class SegmenterConfig:
    """The U-Net: encoder as smp names it, widths of its decoder, input size, starting weights of the encoder."""

    encoder: str = MISSING
    decoder_channels: list[int] = MISSING
    input_size: int = MISSING
    init: str = "random"


@dataclass
class ClassifierConfig:
    """The classifier: timm's name of its backbone, attention, dropout, drop path, input size, starting weights."""

    name: str = MISSING
    attention: str = "none"
    dropout: float = 0.2
    drop_path: float = 0.0
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
    weighting: str = "none"
    beta: float = 0.999


@dataclass
class LogitAdjustedConfig(LossConfig):
    """See `segpipe.losses.logit_adjusted.LogitAdjustedLoss`."""

    tau: float = 1.0


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
    """Arguments of Lightning's Trainer, and two of ours.

    `patience`: epochs without a better score before it stops early. `ema_decay`: of the moving average of the weights, which is
    what is validated and kept; null keeps the weights themselves.
    """

    max_epochs: int = MISSING
    patience: int = 5
    ema_decay: float | None = None
    accelerator: str = "auto"
    devices: Any = "auto"
    strategy: str = "auto"
    precision: str = "auto"
    gradient_clip_val: float | None = 1.0
    accumulate_grad_batches: int = 1


@dataclass
class LoggerConfig:
    """A tracker of the metrics: `_target_` names it, see `segpipe.training.tracking`."""

    _target_: str = MISSING


@dataclass
class WandbConfig(LoggerConfig):
    """See `segpipe.training.tracking.WandbRun`."""

    project: str = MISSING
    name: str | None = None
    offline: bool = True


@dataclass
class MlflowConfig(LoggerConfig):
    """See `segpipe.training.tracking.MlflowRun`."""

    experiment: str = MISSING
    name: str | None = None
    tracking_uri: str | None = None


@dataclass
class BundleConfig:
    """Trained models on disk; null takes the shipped one, and of a list of classifiers the answers are averaged."""

    segmenter: str | None = None
    classifier: Any = None


@dataclass
class SegmenterBundleConfig:
    """A trained segmenter on disk; null takes the shipped one."""

    segmenter: str | None = None


@dataclass
class ThresholdConfig:
    """The operating point: a diagnosis to flag, and the share of it to find; null flags nothing."""

    diagnosis: str | None = None
    target_sensitivity: float = 0.95


@dataclass
class TtaConfig:
    """Test-time augmentation: the set of views, see `segpipe.inference.tta.VIEWS`."""

    views: str = MISSING


@dataclass
class ExplainConfig:
    """The explanation: `gradcam` or `none`, and the diagnosis it is for; null is the predicted one."""

    method: str = MISSING
    diagnosis: str | None = None
