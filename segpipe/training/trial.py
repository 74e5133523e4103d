"""Trial of the parts of a training before data are read."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from torch import Tensor, nn

from segpipe.config.fields import to_dict
from segpipe.config.groups import AugmentConfig
from segpipe.config.schemas import TrainClsConfig, TrainConfig
from segpipe.config.training_groups import LossConfig, TrainerConfig
from segpipe.errors import ConfigError, SegpipeError
from segpipe.training.fit import build_trainer, quieten, trainer_arguments
from segpipe.training.parts import build_augmentation, build_loss, build_optimizer, build_scheduler
from segpipe.training.starting_weights import trained_network

# Metrics of the validation images, the one that chooses the best epoch by default first.
METRICS = {
    "classifier": ("val_auroc", "val_balanced_accuracy", "val_accuracy", "val_loss"),
    "segmenter": ("val_dice", "val_iou", "val_loss"),
}


@dataclass(frozen=True)
class Remedy:
    """Setting that compensates for classes of very different frequency.

    Attributes:
        key: Key of the configuration, with dots.
        acts: Function of the value; True where the remedy is on.
        on: Setting as it is given on the command line; `{}` is its value.
        off: Setting that switches the remedy off.
    """

    key: str
    acts: Callable[[Any], bool]
    on: str
    off: str


# sampler=square_root is not listed: the losses count the classes as they are drawn, so it does not compensate twice, and the
# balanced accuracy in docs/ablations.md is best with it.
REMEDIES = (
    Remedy("loss.weighting", lambda weighting: weighting != "none", "loss.weighting={}", "loss.weighting=none"),
    Remedy("loss.gamma", lambda gamma: gamma > 0, "loss.gamma={}", "loss.gamma=0"),
    Remedy("loss.tau", lambda tau: tau > 0, "loss=logit_adjusted", "loss=cross_entropy"),
    Remedy("sampler", lambda sampler: sampler == "balanced", "sampler={}", "sampler=none"),
    Remedy("calibration", lambda method: method == "logit_adjustment", "calibration={}", "calibration=temperature"),
)


def double_remedy(config: TrainClsConfig) -> str | None:
    """Describe several remedies against class imbalance; None for fewer than two.

    Class weights and the focal loss add up, and so do the focal loss and a balanced sampler. Classes that are drawn equally often
    leave class weights and the logit-adjusted loss no effect. Calibration by logit adjustment puts the frequencies of the
    training data back into the probabilities, whatever the training did about them.
    """
    ours = config.loss._target_.startswith("segpipe.losses.")  # other losses take none of these keys
    values = {"sampler": config.sampler, "calibration": config.calibration}
    values |= {f"loss.{name}": value for name, value in to_dict(config.loss).items()} if ours else {}
    acting = [remedy for remedy in REMEDIES if values.get(remedy.key) is not None and remedy.acts(values[remedy.key])]
    if len(acting) < 2:
        return None
    *others, last = (remedy.on.format(values[remedy.key]) for remedy in acting)
    return (
        f"{', '.join(others)} and {last} act on class imbalance at once, so none has the effect that it has alone; "
        f"keep one of them ({', '.join(remedy.off for remedy in acting)} switch them off)"
    )


_TRIED_IMAGES = 2  # enough for any network in training mode, if the batch has as many
_TRIED_STEPS = 4


def try_parts(config: TrainConfig, model: nn.Module) -> None:
    """Build the parts of a training and try them without data.

    The trainer, the optimizer, the schedule, the loss and the augmentation are built, and the network runs in training mode.

    Args:
        config: Configuration of the training.
        model: Network with its starting weights; it and the random state stay unchanged.

    Raises:
        ConfigError: A part cannot be built from its settings, or the network cannot be trained on batches of this size.
    """
    stage, network = trained_network(config)
    check_monitor(config.trainer, stage)
    with (
        _refuse_failing("trainer must hold arguments of Lightning's Trainer that segpipe does not set itself"),
        warnings.catch_warnings(),
    ):
        quieten()
        devices = build_trainer(trainer_arguments(config.trainer, cpu_bf16=False)).num_devices
    with _refuse_failing(f"optimizer must be one of torch.optim with lr and weight_decay, got {config.optimizer._target_}"):
        optimizer = build_optimizer(config.optimizer)(model.parameters())
    rule = "scheduler must be a schedule of segpipe.training.schedule or a scheduler of torch that is stepped without a metric"
    with _refuse_failing(f"{rule}, got {config.scheduler._target_}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step of the optimizer in between
        scheduler = build_scheduler(config.scheduler)(optimizer, _TRIED_STEPS)
        for _ in range(_TRIED_STEPS - 1):
            scheduler.step()
    _try_augmentation(config.augment, network.input_size)
    logits = _try_batch(model, stage, batch=max(1, config.batch_size // devices), size=network.input_size)
    _try_loss(config.loss, stage, logits)


def check_monitor(trainer: TrainerConfig, stage: str) -> None:
    """Refuse a monitored metric that a stage does not compute.

    Raises:
        ConfigError: `trainer.monitor` is another name.
    """
    if trainer.monitor not in (None, *METRICS[stage]):
        raise ConfigError(
            f"trainer.monitor must be one of {', '.join(METRICS[stage])} for a {stage}, got {trainer.monitor!r}; "
            f"leave it out for {METRICS[stage][0]}"
        )


def _try_augmentation(settings: AugmentConfig, size: int) -> None:
    image = np.zeros((size, size, 3), np.uint8)
    with _refuse_failing("augment.transforms must be transforms of albumentations that keep the size of an image"):
        changed, _ = build_augmentation(settings).image_and_mask(image, np.zeros((size, size), bool), seed=0)
        if changed.shape != image.shape:
            raise ValueError(f"{size} x {size} pixels become {changed.shape[0]} x {changed.shape[1]}")


def _try_batch(model: nn.Module, stage: str, *, batch: int, size: int) -> Tensor:
    rule = f"batch_size and {stage}.input_size must suit a network that is trained"
    with _refuse_failing(f"{rule}, got {batch} images of {size} x {size} pixels per step and device"), torch.random.fork_rng():
        logits: Tensor = copy.deepcopy(model).train()(torch.zeros(min(batch, _TRIED_IMAGES), 3, size, size))
        return logits


def _try_loss(settings: LossConfig, stage: str, logits: Tensor) -> None:
    with _refuse_failing(f"loss must be a loss of logits and targets for a {stage}, got {settings._target_}"):
        if stage == "classifier":
            loss = build_loss(settings, counts=[1] * logits.shape[1])(logits, torch.zeros(len(logits), dtype=torch.long))
        else:
            loss = build_loss(settings)(logits, torch.zeros_like(logits))
        if loss.shape != ():
            raise ValueError(f"the loss of a batch must be one number, got the shape {tuple(loss.shape)}")


@contextmanager
def _refuse_failing(rule: str) -> Iterator[None]:
    """Turn any error of another library into a ConfigError."""
    try:
        yield
    except SegpipeError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        raise ConfigError(f"{rule} ({reason})") from error
