"""How the learning rate moves over a training."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then half a cosine (arXiv 1608.03983 without restarts).

    Attributes:
        warmup_fraction: share of the steps spent warming up.
        final_fraction: the last learning rate as a fraction of the highest.
    """

    warmup_fraction: float = 0.05
    final_fraction: float = 0.01

    def __call__(self, step: int, steps: int) -> float:
        """The factor on the learning rate at a step of a training of `steps` steps; above 0, at most 1."""
        warmup = max(1, round(self.warmup_fraction * steps))
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Constant:
    """The learning rate as it is set, all the way."""

    def __call__(self, step: int, steps: int) -> float:
        """Always 1."""
        return 1.0
