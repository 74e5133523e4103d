"""Parts of a training on trial: everything that its configuration names is built once before any data is read."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from segpipe.config.building import build
from segpipe.errors import ConfigError, SegpipeError
from segpipe.training.fit import build_trainer
from segpipe.training.processes import quieten
from segpipe.training.setup import build_augmentation, trainer_arguments


@dataclass(frozen=True)
class Remedy:
    """A setting that makes up for classes of very different frequency.

    Attributes:
        key: in the configuration.
        acts: whether the remedy is on at a value of the key.
        on: the setting, as it is given on the command line; `{}` is its value.
        off: what to set to be without it.
    """

    key: str
    acts: Callable[[Any], bool]
    on: str
    off: str


# sampler=square_root is none of them: the losses count the classes as they are drawn, so it lessens what they have to make up for
# instead of doing it twice, and with it the balanced accuracy in docs/ablations.md is the best of all.
REMEDIES = (
    Remedy("loss.weighting", lambda weighting: weighting != "none", "loss.weighting={}", "loss.weighting=none"),
    Remedy("loss.gamma", lambda gamma: gamma > 0, "loss.gamma={}", "loss.gamma=0"),
    Remedy("loss.tau", lambda tau: tau > 0, "loss=logit_adjusted", "loss=cross_entropy"),
    Remedy("sampler", lambda sampler: sampler == "balanced", "sampler={}", "sampler=none"),
    Remedy("calibration", lambda method: method == "logit_adjustment", "calibration={}", "calibration=temperature"),
)


def double_remedy(config: DictConfig) -> str | None:
    """What to say of a training with more than one remedy against class imbalance; None where there is nothing to say.

    Class weights and the focal loss add up, and so do the focal loss and a balanced sampler. Classes that are drawn equally often
    leave class weights and the logit-adjusted loss nothing to do. And calibration by logit adjustment gives the answers the
    frequencies of the training data back, whatever the training did about these.

    Args:
        config: see `segpipe.config.schemas.TrainClsConfig`.
    """
    values = {remedy.key: OmegaConf.select(config, remedy.key) for remedy in REMEDIES}
    acting = [remedy for remedy in REMEDIES if values[remedy.key] is not None and remedy.acts(values[remedy.key])]
    if len(acting) < 2:
        return None
    *others, last = (remedy.on.format(values[remedy.key]) for remedy in acting)
    return (
        f"{', '.join(others)} and {last} act on class imbalance at once, so none does what it would do alone; "
        f"keep one of them ({', '.join(remedy.off for remedy in acting)} switch them off)"
    )


_TRIED_IMAGES = 2  # enough for any network in training mode, if the batch has as many


def try_parts(config: DictConfig, model: nn.Module) -> None:
    """Build the trainer, optimizer, schedule, loss and augmentation of a training, and run its network in training mode.

    Args:
        config: Configuration of the training.
        model: Network with its starting weights; it and the random numbers stay as they are.

    Raises:
        ConfigError: A part cannot be built from its settings, or the network cannot learn from batches of this size.
    """
    stage = "classifier" if "classifier" in config else "segmenter"
    with (
        _refuse_failing("trainer must hold arguments of Lightning's Trainer that segpipe does not set itself"),
        warnings.catch_warnings(),
    ):
        quieten()
        devices = build_trainer(trainer_arguments(config, cpu_bf16=False)).num_devices
    with _refuse_failing(f"optimizer must be one of torch.optim with lr and weight_decay, got {config.optimizer._target_}"):
        build(config.optimizer, "optimizer", _partial_=True)(model.parameters())
    with _refuse_failing(f"scheduler must be a schedule of segpipe.training.schedule, got {config.scheduler._target_}"):
        build(config.scheduler, "scheduler")(0, 1)
    with _refuse_failing(f"loss must be one of segpipe.losses for a {stage}, got {config.loss._target_}"):
        build(config.loss, "loss", **({"counts": [1, 1]} if stage == "classifier" else {}))
    _try_augmentation(config, config[stage].input_size)
    _try_batch(model, stage, batch=max(1, config.batch_size // devices), size=config[stage].input_size)


def _try_augmentation(config: DictConfig, size: int) -> None:
    image = np.zeros((size, size, 3), np.uint8)
    with _refuse_failing("augment.transforms must be transforms of albumentations that keep the size of an image"):
        changed, _ = build_augmentation(config).image_and_mask(image, np.zeros((size, size), bool), seed=0)
        if changed.shape != image.shape:
            raise ValueError(f"{size} x {size} pixels become {changed.shape[0]} x {changed.shape[1]}")


def _try_batch(model: nn.Module, stage: str, *, batch: int, size: int) -> None:
    rule = f"batch_size and {stage}.input_size must suit a network that is trained"
    with _refuse_failing(f"{rule}, got {batch} images of {size} x {size} pixels per step and device"), torch.random.fork_rng():
        copy.deepcopy(model).train()(torch.zeros(min(batch, _TRIED_IMAGES), 3, size, size))


@contextmanager
def _refuse_failing(rule: str) -> Iterator[None]:
    """For code of other libraries that settings lead to: each wrong one fails in its own way."""
    try:
        yield
    except SegpipeError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        raise ConfigError(f"{rule} ({reason})") from error
