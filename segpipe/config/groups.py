"""Typed schemas of the groups of conf/, one dataclass for each kind; the yaml files hold the values.

A key, its field and its documentation share one name.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from segpipe.config.bounds import LARGEST_SEED, LARGEST_SIDE, Bounds, bounded


@dataclass
class ExtraDataConfig:
    """A further data set to train on, see `segpipe.data.loading`.

    `_target_` names its loader, `root`, `table` and `without_lesion_ids` are arguments of that. Only images of `classes` (null:
    all of the training's) and of the part `train` of `split` are taken; `weight` is how often, relative to the main data set's.
    """

    _target_: str = "segpipe.data.loaders.load_csv"
    root: str = MISSING
    table: str | None = None
    without_lesion_ids: bool = False
    classes: list[str] | None = None
    split: str | None = None
    weight: float = bounded(1.0, above=0)


@dataclass
class DataConfig:
    """Where the images come from: `_target_` names the function that finds and checks them."""

    _target_: str = MISSING
    root: str = MISSING
    without_lesion_ids: bool = False
    limit: int | None = bounded(None, least=1)
    fold: int | None = bounded(None, least=0)
    folds: int = bounded(5, least=1)
    cache: str | None = "outputs/cache"
    extra: list[ExtraDataConfig] = field(default_factory=list)


@dataclass
class SyntheticConfig(DataConfig):
    """A data set that is drawn before the training."""

    lesions: int = bounded(84, least=1)
    images_per_lesion: int = bounded(3, least=1)
    height: int = bounded(150, least=32)
    width: int = bounded(200, least=32)
    seed: int = bounded(0, least=0, most=LARGEST_SEED)


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
    """Random changes to training images: albumentations transforms in order; mixup and sizes, see `segpipe.training.tasks.Task`.

    `sizes` holds pairs of an epoch and a size in pixels, `margin_fraction` the margin of the crops that a classifier's transforms
    begin with (null: that of `crop`), `turn_consistency` the weight of `segpipe.training.consistency`, which excludes mixup.
    """

    transforms: list[Any] = field(default_factory=list)
    mixup_alpha: float = bounded(0.0, least=0.01, most=100, or_zero=True)
    sizes: list[list[int]] = field(default_factory=list, metadata={"bounds": Bounds(least=0, most=LARGEST_SIDE)})
    margin_fraction: float | None = bounded(None, least=0, most=10)
    turn_consistency: float = bounded(0.0, least=0)


@dataclass
class CropConfig:
    """How a lesion is cut out, see `segpipe.lesion.crop.CropRule`."""

    whole_image: bool = False
    margin_fraction: float = bounded(0.25, least=0, most=10)
    keep_background: bool = True
    border: str = "squeeze"


@dataclass
class SegmenterConfig:
    """The U-Net: encoder as smp names it, widths of its decoder, input size, starting weights of the encoder."""

    encoder: str = MISSING
    decoder_channels: list[int] = field(default=MISSING, metadata={"bounds": Bounds(least=1)})
    input_size: int = bounded(least=32, most=LARGEST_SIDE)
    init: str = "random"


@dataclass
class ClassifierConfig:
    """The classifier: timm's name of its backbone, attention, dropout, drop path, input size, starting weights."""

    name: str = MISSING
    attention: str = "none"
    dropout: float = bounded(0.2, least=0, below=1)
    drop_path: float = bounded(0.0, least=0, below=1)
    padding: str = "zeros"
    input_size: int = bounded(least=16, most=LARGEST_SIDE)
    init: str = "random"


@dataclass
class LossConfig:
    """`_target_` names the loss."""

    _target_: str = MISSING


@dataclass
class BceDiceConfig(LossConfig):
    """See `segpipe.losses.dice.BceDiceLoss`."""

    bce_weight: float = bounded(1.0, least=0)
    dice_weight: float = bounded(1.0, least=0)


@dataclass
class FocalConfig(LossConfig):
    """See `segpipe.losses.focal.FocalLoss` and `class_weights`."""

    gamma: float = bounded(2.0, least=0)
    weighting: str = "none"
    beta: float = bounded(0.999, least=0, below=1)


@dataclass
class LogitAdjustedConfig(LossConfig):
    """See `segpipe.losses.logit_adjusted.LogitAdjustedLoss`."""

    tau: float = bounded(1.0, least=0)


@dataclass
class OptimizerConfig:
    """An optimizer of torch, built with `lr` and `weight_decay`."""

    _target_: str = MISSING
    _partial_: bool = True
    lr: float = bounded(above=0)
    weight_decay: float = bounded(0.01, least=0)


@dataclass
class SchedulerConfig:
    """`_target_` names the schedule."""

    _target_: str = MISSING


@dataclass
class CosineConfig(SchedulerConfig):
    """See `segpipe.training.schedule.WarmupCosine`."""

    warmup_fraction: float = bounded(0.05, least=0, most=1)
    final_fraction: float = bounded(0.01, least=0, most=1)


@dataclass
class UnfreezeConfig:
    """See `segpipe.training.unfreezing.plan_unfreezing`."""

    from_epochs: list[int] = field(default=MISSING, metadata={"bounds": Bounds(least=0)})
    lr_decay: float = bounded(1.0, above=0, most=1)


@dataclass
class TrainerConfig:
    """Arguments of Lightning's Trainer, and two of ours.

    `patience`: epochs without a better score before it stops early. `ema_decay`: of the moving average of the weights, which is
    what is validated and kept; null keeps the weights themselves.
    """

    max_epochs: int = bounded(least=1)
    patience: int = bounded(5, least=0)
    ema_decay: float | None = bounded(None, least=0, below=1)
    accelerator: str = "auto"
    devices: Any = "auto"
    strategy: str = "auto"
    precision: str = "auto"
    gradient_clip_val: float | None = bounded(1.0, least=0)
    accumulate_grad_batches: int = bounded(1, least=1)


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
    """Operating points of a classifier.

    `diagnosis`: code of a class, `malignant` (the sum of the malignant classes), a list of these, or null for none; `auto` takes
    `mel` and `malignant` as far as they occur among the validation images. `target_sensitivity`: fraction of the images with each
    that is to be found, one number or one for each.
    """

    diagnosis: Any = "auto"
    target_sensitivity: Any = 0.95


@dataclass
class TtaConfig:
    """Test-time augmentation: the set of views, see `segpipe.inference.tta.VIEWS`."""

    views: str = MISSING


@dataclass
class ExplainConfig:
    """The explanation: `gradcam` or `none`, and the diagnosis it is for; null is the predicted one."""

    method: str = MISSING
    diagnosis: str | None = None
