"""Typed schemas of the config groups for optimization and tracking."""

from dataclasses import dataclass
from typing import Any

from segpipe.config.fields import MISSING, setting
from segpipe.config.prediction import VIEWS

COVERAGE = 0.9  # of prediction sets


@dataclass
class LossConfig:
    """Loss that `_target_` names."""

    _target_: str = MISSING


@dataclass
class BceDiceConfig(LossConfig):
    """Loss of the segmenter, see `segpipe.losses.dice.BceDiceLoss`."""

    bce_weight: float = setting(1.0, "Weight of binary cross-entropy", least=0)
    dice_weight: float = setting(1.0, "Weight of the Dice loss", least=0)


@dataclass
class FocalConfig(LossConfig):
    """Focal loss, see `segpipe.losses.classification.FocalLoss` and `class_weights`."""

    gamma: float = setting(2.0, "Focusing parameter: down-weighting of easy examples; 0: none", least=0)
    weighting: str = setting(
        "none",
        "Class weights",
        choices={"none": "", "inverse": "1 / number of images", "effective": "1 / effective number of images"},
    )
    beta: float = setting(0.999, "Parameter of the effective number of images", least=0, below=1)


@dataclass
class LogitAdjustedConfig(LossConfig):
    """Logit-adjusted cross-entropy, see `segpipe.losses.classification.LogitAdjustedLoss`."""

    tau: float = setting(1.0, "Strength of the adjustment for class frequencies; 0: none, 1: full", least=0)


@dataclass
class OptimizerConfig:
    """Optimizer, completed later with the parameters of the network."""

    _target_: str = MISSING
    _partial_: bool = True
    lr: float = setting(MISSING, "Largest learning rate", above=0)
    weight_decay: float = setting(0.01, "Weight decay", least=0)


@dataclass
class SchedulerConfig:
    """Learning rate schedule that `_target_` names."""

    _target_: str = MISSING


@dataclass
class CosineConfig(SchedulerConfig):
    """Cosine schedule with warm-up, see `segpipe.training.schedule.WarmupCosine`."""

    warmup_fraction: float = setting(0.05, "Fraction of the steps for the warm-up", least=0, most=1)
    final_fraction: float = setting(0.01, "Learning rate at the end as a fraction of optimizer.lr", least=0, most=1)


@dataclass
class UnfreezeConfig:
    """Epochs at which stages begin to train, see `segpipe.training.schedule.plan_unfreezing`."""

    from_epochs: list[int] = setting(
        MISSING, "Epochs at which the head, the last stage, the stage before it, ... begin to train", least=0
    )
    lr_decay: float = setting(1.0, "Factor of the learning rate from each stage to the one before it", above=0, most=1)


@dataclass
class TrainerConfig:
    """Arguments of Lightning's Trainer, and those of segpipe."""

    max_epochs: int = setting(MISSING, "Largest number of epochs", least=1)
    patience: int = setting(5, "Epochs without improvement before early stopping", least=0)
    monitor: str | None = setting(
        None,
        "Metric of the validation images that selects the best epoch: val_auroc, val_balanced_accuracy, val_accuracy or val_loss "
        "for a classifier, val_dice, val_iou or val_loss for a segmenter; null: the first of these, or val_loss where all "
        "validation images have one class",
    )
    ema_decay: float | None = setting(
        None,
        "Decay of a moving average of the weights, which is validated and saved, for example 0.997; null: none",
        least=0,
        below=1,
    )
    accelerator: str = setting("auto", "Accelerator", choices=("auto", "cpu", "gpu", "cuda", "mps"))
    devices: Any = setting(
        "auto",
        "Number of GPUs (of processes on a CPU) that train together, a list of their numbers, or auto for all GPUs; BatchNorm "
        "statistics are kept per device and averaged once in an epoch",
    )
    strategy: str = setting("auto", "Strategy for several devices", choices=("auto", "ddp"))
    precision: str = setting("auto", "Numeric precision", choices=("auto", "32-true", "16-mixed", "bf16-mixed"))
    gradient_clip_val: float | None = setting(1.0, "Largest norm of the gradients; null: no clipping", least=0)
    accumulate_grad_batches: int = setting(1, "Number of batches per optimizer step", least=1)


@dataclass
class LoggerConfig:
    """Tracker of the metrics that `_target_` names, see `segpipe.training.tracking`."""

    _target_: str = MISSING


@dataclass
class WandbConfig(LoggerConfig):
    """Weights & Biases, see `segpipe.training.tracking.WandbRun`."""

    project: str = setting(MISSING, "Project of the run")
    name: str | None = setting(None, "Name of the run; null: chosen by wandb")
    offline: bool = setting(True, "True to write files for wandb sync, false to upload at once, which needs a wandb login")


@dataclass
class MlflowConfig(LoggerConfig):
    """MLflow, see `segpipe.training.tracking.MlflowRun`."""

    experiment: str = setting(MISSING, "Experiment of the run")
    name: str | None = setting(None, "Name of the run; null: chosen by mlflow")
    tracking_uri: str | None = setting(None, "Address of the server; null: a store in the output folder")


@dataclass
class DistillConfig:
    """Distillation from trained classifiers, see `segpipe.losses.classification`."""

    teacher: Any = setting(
        None,
        "Folders of classifiers of the same classes whose mean prediction is learned beside the label, as [a,b]; null: none",
        path="folder",
    )
    temperature: float = setting(
        2.0, "Temperature that softens both predictions; larger: more weight for improbable classes", least=0.1, most=100
    )
    label_weight: float = setting(0.3, "Weight of the loss of the labels; the teachers have the rest", least=0, most=1)
    views: str = setting("d4", "Views of the crop over which the teachers' predictions are averaged", choices=VIEWS)


@dataclass
class ThresholdConfig:
    """Operating points of a classifier."""

    diagnosis: Any = setting(
        "auto",
        "Targets of the operating points: codes of classes, or malignant for the sum of the malignant classes, one or several as "
        "[mel,malignant]; auto: mel and malignant where they occur; null: none",
    )
    target_sensitivity: Any = setting(
        0.95, "Sensitivity to reach for each target, above 0 and at most 1: one number, or one for each as [0.95,0.9]"
    )


@dataclass
class ConformalFitConfig:
    """Prediction sets of a classifier."""

    coverage: float = setting(
        COVERAGE,
        "Probability with which a prediction set contains the true diagnosis, for each diagnosis; 0.90 needs 9 validation "
        "lesions of a diagnosis, 0.95 needs 19, and diagnoses with fewer share a threshold",
        above=0,
        below=1,
    )
