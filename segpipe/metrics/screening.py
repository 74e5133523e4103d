"""What a search that must not miss a cancer is asked: how much it finds at a stated rate of false alarms, and the reverse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import Weights
from segpipe.metrics.classification import Answers, Ranking
from segpipe.metrics.operating_points import target_codes

TARGETS = {"090": 0.90, "095": 0.95}  # as they stand in the names of figures


@dataclass(frozen=True)
class Flags:
    """Images that an operating point calls, and those that it should call: both bool, shape (N,)."""

    called: NDArray[np.bool_]
    positive: NDArray[np.bool_]


@dataclass(frozen=True)
class Screening:
    """The search for melanoma and for malignancy as a metric of a bootstrap.

    Attributes:
        rankings: by `mel` and `malignant`, as far as the classes allow.
        flags: by target, those of each operating point, and under an empty name those of the column `flagged`, which is true
            where any point is reached; empty where the run has none.
    """

    rankings: Mapping[str, Ranking]
    flags: Mapping[str, Flags]

    def __call__(self, weights: Weights) -> dict[str, float | None]:
        """The figures where each image counts as often as `weights` says, shape (N,); None where one does not exist.

        Returns:
            For `mel` and `malignant`: `auroc_<name>`, `support_<name>` (images), and for 0.90 and 0.95
            `sensitivity_<name>_at_specificity_<target>`, at the lowest threshold whose specificity is still at least the target,
            and `specificity_<name>_at_sensitivity_<target>`, at the highest threshold whose sensitivity is at least the target;
            nothing is interpolated. For each operating point `sensitivity_flagged_<target>` and `specificity_flagged_<target>`,
            at its threshold; without a target those of `flagged`, whose positives are the images that any point looks for.
        """
        scores: dict[str, float] = {}
        for name, ranking in self.rankings.items():
            curve = ranking.curve(weights)
            scores[f"auroc_{name}"] = curve.auroc()
            for digits, target in TARGETS.items():
                scores[f"sensitivity_{name}_at_specificity_{digits}"] = curve.sensitivity_at_specificity(target)
                scores[f"specificity_{name}_at_sensitivity_{digits}"] = curve.specificity_at_sensitivity(target)
            scores[f"support_{name}"] = int(curve.hits[-1])
        for name, flags in self.flags.items():
            ending = f"_{name}" if name else ""
            scores[f"sensitivity_flagged{ending}"] = _share(flags.called, weights * flags.positive)
            scores[f"specificity_flagged{ending}"] = _share(~flags.called, weights * ~flags.positive)
        return {name: None if np.isnan(score) else score for name, score in scores.items()}


def _share(called: NDArray[np.bool_], counts: Weights) -> float:
    return float(np.average(called, weights=counts)) if counts.any() else np.nan


def screening_of(
    results: pd.DataFrame, answers: Answers, *, malignant: Sequence[str], points: Sequence[Mapping[str, Any]]
) -> Screening:
    """What there is to score of the search for melanoma and for malignancy.

    Args:
        results: the rows of `results.csv` that have a label.
        answers: for the same images, in the same order.
        malignant: codes of the malignant classes, whose probabilities `p_malignant` adds up; empty where they are not known.
        points: operating points behind the columns `flagged` and `flagged_for`, with the `target` of each.
    """
    true_codes = np.array(answers.codes)[answers.labels]
    rankings = {code: ranking for code, ranking in zip(answers.codes, answers.rankings, strict=True) if code == "mel"}
    if malignant:
        rankings["malignant"] = Ranking(results["p_malignant"].to_numpy(dtype=np.float64), np.isin(true_codes, list(malignant)))
    if not points:
        return Screening(rankings, {})
    reached = [set(str(names).split(";")) for names in results["flagged_for"]]
    flags = {}
    for target in (str(point["target"]) for point in points):
        called = np.array([target in names for names in reached], dtype=np.bool_)
        flags[target] = Flags(called, np.isin(true_codes, target_codes(target, malignant)))
    any_called, any_positive = (
        np.any([getattr(each, name) for each in flags.values()], axis=0) for name in ("called", "positive")
    )
    return Screening(rankings, {"": Flags(any_called, any_positive), **flags})
