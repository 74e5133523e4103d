"""How the learning rate moves over a training."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then half a cosine (arXiv 1608.03983 without restarts).

    Attributes:
        warmup_fraction: share of the steps spent warming up.
        final_fraction: the last learning rate as a fraction of the highest.

    Raises:
        ValueError: a fraction is outside [0, 1].
    """

    warmup_fraction: float = 0.05
    final_fraction: float = 0.01

    def __post_init__(self) -> None:
        for name in ("warmup_fraction", "final_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"scheduler.{name} must be in [0, 1], got {getattr(self, name)}")

    def __call__(self, step: int, steps: int) -> float:
        """The factor on the learning rate, in [0, 1].

        Args:
            step: counted from 0; from `steps - 1` on the factor is `final_fraction`.
            steps: of the whole training.
        """
        warmup = max(1, round(self.warmup_fraction * steps))
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Constant:
    """The learning rate as it is set, all the way."""

    def __call__(self, step: int, steps: int) -> float:
        """Always 1."""
        return 1.0
