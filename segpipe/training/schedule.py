"""Learning rates by step, and stages by epoch."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from itertools import chain
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from segpipe.models.classifier import LesionClassifier

SchedulerFactory = Callable[[Optimizer, int], LRScheduler]


class Schedule(ABC):
    """Factor on the learning rate as a function of the step."""

    @abstractmethod
    def __call__(self, step: int, steps: int) -> float:
        """Compute the factor on the learning rate.

        Args:
            step: Number of the step, counted from 0.
            steps: Number of steps of the whole training.

        Returns:
            Factor in [0, 1].
        """


@dataclass(frozen=True)
class WarmupCosine(Schedule):
    """Linear warm-up, then half a cosine (arXiv 1608.03983 without restarts).

    From step `steps - 1` on the factor is `final_fraction`.

    Attributes:
        warmup_fraction: Fraction of the steps spent warming up.
        final_fraction: Last learning rate as a fraction of the highest.

    Raises:
        ValueError: A fraction is outside [0, 1].
    """

    warmup_fraction: float = 0.05
    final_fraction: float = 0.01

    def __post_init__(self) -> None:
        for name in ("warmup_fraction", "final_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"scheduler.{name} must be in [0, 1], got {getattr(self, name)}")

    def __call__(self, step: int, steps: int) -> float:
        """Compute the factor on the learning rate, see `Schedule`."""
        warmup = max(1, round(self.warmup_fraction * steps))
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Constant(Schedule):
    """Constant learning rate."""

    def __call__(self, step: int, steps: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class ScheduledRate:
    """Factory of schedulers that follow a `Schedule`."""

    schedule: Schedule

    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """Make the scheduler for a number of steps."""
        return LambdaLR(optimizer, partial(self._factor, steps=steps))

    def _factor(self, step: int, *, steps: int) -> float:
        return self.schedule(step, steps)


@dataclass(frozen=True)
class TorchScheduler:
    """Factory of schedulers of torch, completed with values of the training."""

    make: Any  # functools.partial of the class

    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """Make the scheduler for a number of steps."""
        known = {"total_steps": steps, "T_max": steps, "max_lr": [group["lr"] for group in optimizer.param_groups]}
        accepted = signature(self.make.func).parameters.keys() - self.make.keywords.keys()
        scheduler: LRScheduler = self.make(optimizer, **{name: known[name] for name in known.keys() & accepted})
        return scheduler


def fast_forward(scheduler: LRScheduler, step: int) -> None:
    """Bring a new scheduler to the step of a resumed training.

    Args:
        scheduler: Scheduler at step 0.
        step: Number of steps that the training has made.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch expects steps of the optimizer in between
        for _ in range(step):
            scheduler.step()


@dataclass(frozen=True)
class PlannedStage:
    """Stage of an unfreezing plan.

    Attributes:
        name: Name of the stage, as in `LesionClassifier.stages`.
        from_epoch: First epoch, counted from 0, in which its weights and BatchNorm statistics are updated.
        learning_rate: Highest learning rate of the stage.
        parameters: Number of its weights.
    """

    name: str
    from_epoch: int
    learning_rate: float
    parameters: int


@dataclass(frozen=True)
class UnfreezePlan:
    """First epoch and learning rate of each stage of a classifier."""

    stages: tuple[PlannedStage, ...]

    def frozen_in(self, epoch: int) -> list[str]:
        """Return the names of the stages that are frozen in an epoch."""
        return [stage.name for stage in self.stages if epoch < stage.from_epoch]

    @property
    def first_epochs(self) -> dict[str, int]:
        """First epoch of each stage, the head first."""
        return {stage.name: stage.from_epoch for stage in self.stages}

    def __str__(self) -> str:
        header = f"{'stage':<8} {'weights':>10} {'from epoch':>10} {'learning rate':>14}   (BatchNorm statistics likewise)"
        rows = [
            f"{stage.name:<8} {stage.parameters:>10,} {stage.from_epoch:>10} {stage.learning_rate:>14.2e}"
            for stage in self.stages
        ]
        return "\n".join([header, *rows])


def plan_unfreezing(
    model: LesionClassifier, *, from_epochs: Sequence[int], lr_decay: float, learning_rate: float
) -> UnfreezePlan:
    """Plan the unfreezing of a model, from the output to the input.

    Args:
        model: Model whose stages are planned.
        from_epochs: First epochs of the head, the last stage, the one before it, and so on; the last entry applies to all
            remaining stages. `[0]` trains everything at once.
        lr_decay: Factor on the learning rate from a stage to the one before it, in (0, 1]; discriminative learning rates,
            arXiv 1801.06146.
        learning_rate: Learning rate of the head.

    Raises:
        ValueError: `from_epochs` is empty, does not begin with 0 or decreases, or `lr_decay` is outside (0, 1].
    """
    if not from_epochs or from_epochs[0] != 0 or list(from_epochs) != sorted(from_epochs):
        raise ValueError(f"unfreeze.from_epochs must begin with 0 and never decrease, got {list(from_epochs)}")
    if not 0 < lr_decay <= 1:
        raise ValueError(f"unfreeze.lr_decay must be above 0 and at most 1, got {lr_decay}")
    return UnfreezePlan(
        tuple(
            PlannedStage(
                name=name,
                from_epoch=from_epochs[min(depth, len(from_epochs) - 1)],
                learning_rate=learning_rate * lr_decay**depth,
                parameters=sum(weights.numel() for module in modules for weights in module.parameters()),
            )
            for depth, (name, modules) in enumerate(reversed(model.stages().items()))
        )
    )


def parameter_groups(model: LesionClassifier, plan: UnfreezePlan) -> list[dict[str, Any]]:
    """Make a parameter group for each stage with weights."""
    modules = model.stages()
    groups = [
        {
            "name": stage.name,
            "params": list(chain.from_iterable(module.parameters() for module in modules[stage.name])),
            "lr": stage.learning_rate,
        }
        for stage in plan.stages
    ]
    return [group for group in groups if group["params"]]


class ProgressiveUnfreezing(Callback):
    """Callback that freezes the stages of each epoch by its number alone."""

    def __init__(self, plan: UnfreezePlan) -> None:
        self._plan = plan

    def on_train_epoch_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Freeze the stages of the epoch; called by Lightning."""
        model = task.model
        assert isinstance(model, LesionClassifier)  # narrows the type: the plan was made for this model
        model.freeze(self._plan.frozen_in(trainer.current_epoch))
