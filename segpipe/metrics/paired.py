"""Runs over the same images against one of them: what differs, with intervals over the same resampled lesions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.metrics.bootstrap import WeightedMetric, Weights, with_intervals


@dataclass(frozen=True)
class Difference:
    """One figure of a run against the same figure of the reference, over the same resampled lesions.

    Attributes:
        value: of the run; None where it does not exist.
        change: from the reference's; 0 for the reference itself.
        low: lower end of the 95 % interval of `change`; None where there is none.
        high: upper end.
    """

    value: float | None
    change: float | None
    low: float | None
    high: float | None


def compare_runs(metrics: Mapping[str, WeightedMetric], names: Sequence[str], lesions: Sequence[str]) -> list[list[Difference]]:
    """Set each run against the first one.

    A difference between two runs over the same images has a far narrower interval than either figure: what makes a lesion hard
    for one makes it hard for the other. So both are scored on each resample, and the difference is what the interval is of.

    Args:
        metrics: of each run by its title, see `segpipe.metrics.bootstrap`; the first is the reference.
        names: of the figures.
        lesions: the lesion of each image, the same images in the same order in all runs.

    Returns:
        For each run its figures in the order of `names`.
    """
    once = np.ones(len(lesions), np.intp)

    def changes(weights: Weights) -> dict[str, float | None]:
        reference, *others = (metric(weights) for metric in metrics.values())
        return {
            f"{number} {name}": _minus(figures[name], reference[name])
            for number, figures in enumerate([reference, *others])
            for name in names
        }

    found = with_intervals(changes, lesions)
    return [
        [Difference(metric(once)[name], *(found[f"{number} {name}"][key] for key in ("value", "low", "high"))) for name in names]
        for number, metric in enumerate(metrics.values())
    ]


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
