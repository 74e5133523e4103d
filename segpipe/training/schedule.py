"""Learning rate schedules: those of segpipe, and those of `torch.optim.lr_scheduler`."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

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
