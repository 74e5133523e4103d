"""What a search that must not miss a cancer is asked: how much it finds at a stated rate of false alarms, and the reverse."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.evaluation.bootstrap import Weights
from segpipe.evaluation.classification import Answers
from segpipe.evaluation.ranking import Ranking

TARGETS = {"090": 0.90, "095": 0.95}  # as they stand in the names of figures


@dataclass(frozen=True)
class Flags:
    """Which images the operating point calls, and which it should: both bool, shape (N,)."""

    called: NDArray[np.bool_]
    positive: NDArray[np.bool_]


@dataclass(frozen=True)
class Screening:
    """The search for melanoma and for malignancy as a metric of a bootstrap.

    Attributes:
        rankings: by `mel` and `malignant`, as far as the classes allow.
        flags: of the operating point; None where the run has none.
    """

    rankings: Mapping[str, Ranking]
    flags: Flags | None

    def __call__(self, weights: Weights) -> dict[str, float | None]:
        """The figures where each image counts as often as `weights` says, shape (N,); None where one does not exist.

        Returns:
            For `mel` and `malignant`: `auroc_<name>`, `support_<name>` (images), and for 0.90 and 0.95
            `sensitivity_<name>_at_specificity_<target>`, at the lowest threshold whose specificity is still at least the target,
            and `specificity_<name>_at_sensitivity_<target>`, at the highest threshold whose sensitivity is at least the target;
            nothing is interpolated. With flags, `sensitivity_flagged` and `specificity_flagged`, at the card's threshold.
        """
        scores: dict[str, float] = {}
        for name, ranking in self.rankings.items():
            curve = ranking.curve(weights)
            scores[f"auroc_{name}"] = curve.auroc()
            for digits, target in TARGETS.items():
                scores[f"sensitivity_{name}_at_specificity_{digits}"] = curve.sensitivity_at_specificity(target)
                scores[f"specificity_{name}_at_sensitivity_{digits}"] = curve.specificity_at_sensitivity(target)
            scores[f"support_{name}"] = int(curve.hits[-1])
        if self.flags is not None:
            called, positive = self.flags.called, self.flags.positive
            scores["sensitivity_flagged"] = _share(called, weights * positive)
            scores["specificity_flagged"] = _share(~called, weights * ~positive)
        return {name: None if np.isnan(score) else score for name, score in scores.items()}


def _share(called: NDArray[np.bool_], counts: Weights) -> float:
    return float(np.average(called, weights=counts)) if counts.any() else np.nan


def screening_of(
    results: pd.DataFrame, answers: Answers, *, malignant: Collection[str], point: Mapping[str, object] | None
) -> Screening:
    """What there is to score of the search for melanoma and for malignancy.

    Args:
        results: the rows of `results.csv` that have a label.
        answers: for the same images, in the same order.
        malignant: codes of the malignant classes, whose probabilities `p_malignant` adds up; empty where they are not known.
        point: the operating point behind the column `flagged`, with its `diagnosis`; None where there is none.
    """
    true_codes = np.array(answers.codes)[answers.labels]
    rankings = {code: ranking for code, ranking in zip(answers.codes, answers.rankings, strict=True) if code == "mel"}
    if malignant:
        rankings["malignant"] = Ranking(results["p_malignant"].to_numpy(dtype=np.float64), np.isin(true_codes, list(malignant)))
    if point is None:
        return Screening(rankings, None)
    called = (results["flagged"].astype(str).str.lower() == "true").to_numpy(dtype=np.bool_)
    return Screening(rankings, Flags(called, true_codes == point["diagnosis"]))
