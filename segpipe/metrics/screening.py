"""Screening: sensitivity and specificity for melanoma and malignancy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import Weights
from segpipe.metrics.classification import LabeledPredictions, Ranking
from segpipe.metrics.operating_points import target_codes

TARGETS = {"090": 0.90, "095": 0.95}  # by their form in the names of metrics


@dataclass(frozen=True)
class FlaggedImages:
    """Images that an operating point flags, against those that it should flag.

    Attributes:
        flagged: True on flagged images, bool, shape (N,).
        positive: True on images that have the target, bool, shape (N,).
    """

    flagged: NDArray[np.bool_]
    positive: NDArray[np.bool_]


@dataclass(frozen=True)
class ScreeningMetrics:
    """ScreeningMetrics metrics of a run as a function of weights.

    Attributes:
        rankings: Rankings for `mel` and `malignant`, as far as the classes allow.
        flags: Flagged images of each operating point by its target, and those of the column `flagged`, which is true where any
            point is reached, under an empty name; empty where the run has no operating point.
    """

    rankings: Mapping[str, Ranking]
    flags: Mapping[str, FlaggedImages]

    def __call__(self, weights: Weights) -> dict[str, float | None]:
        """Compute the metrics.

        Args:
            weights: Number of times that each image counts, shape (N,).

        Returns:
            Metrics by name, None where undefined. For `mel` and `malignant`: `auroc_<name>`, `support_<name>` (images), and for
            0.90 and 0.95 `sensitivity_<name>_at_specificity_<target>`, at the lowest threshold with that specificity or more,
            and `specificity_<name>_at_sensitivity_<target>`, at the highest threshold with that sensitivity or more; nothing is
            interpolated. For each operating point `sensitivity_flagged_<target>` and `specificity_flagged_<target>`, at its
            threshold; without a target those of `flagged`, whose positives are the images that have any of the targets.
        """
        scores: dict[str, float] = {}
        for name, ranking in self.rankings.items():
            curve = ranking.curve(weights)
            scores[f"auroc_{name}"] = curve.auroc()
            for digits, target in TARGETS.items():
                scores[f"sensitivity_{name}_at_specificity_{digits}"] = curve.sensitivity_at_specificity(target)
                scores[f"specificity_{name}_at_sensitivity_{digits}"] = curve.specificity_at_sensitivity(target)
            scores[f"support_{name}"] = int(curve.true_positives[-1])
        for name, images in self.flags.items():
            ending = f"_{name}" if name else ""
            scores[f"sensitivity_flagged{ending}"] = _fraction(images.flagged, weights * images.positive)
            scores[f"specificity_flagged{ending}"] = _fraction(~images.flagged, weights * ~images.positive)
        return {name: None if np.isnan(score) else score for name, score in scores.items()}


def screening_metrics(
    results: pd.DataFrame, predictions: LabeledPredictions, *, malignant: Sequence[str], points: Sequence[Mapping[str, Any]]
) -> ScreeningMetrics:
    """Prepare the screening metrics of a run.

    Args:
        results: Rows of `results.csv` that have a label.
        predictions: Predictions for the same images, in the same order.
        malignant: Codes of the malignant classes, whose probabilities `p_malignant` adds up; empty where they are unknown.
        points: Operating points behind the columns `flagged` and `flagged_for`, with the `target` of each.
    """
    true_codes = np.array(predictions.codes)[predictions.labels]
    rankings = {code: ranking for code, ranking in zip(predictions.codes, predictions.rankings, strict=True) if code == "mel"}
    if malignant:
        rankings["malignant"] = Ranking(results["p_malignant"].to_numpy(dtype=np.float64), np.isin(true_codes, list(malignant)))
    if not points:
        return ScreeningMetrics(rankings, {})
    reached = [set(str(names).split(";")) for names in results["flagged_for"]]
    flags = {}
    for target in (str(point["target"]) for point in points):
        flagged = np.array([target in names for names in reached], dtype=np.bool_)
        flags[target] = FlaggedImages(flagged, np.isin(true_codes, target_codes(target, malignant)))
    any_flagged = np.any([images.flagged for images in flags.values()], axis=0)
    any_positive = np.any([images.positive for images in flags.values()], axis=0)
    return ScreeningMetrics(rankings, {"": FlaggedImages(any_flagged, any_positive), **flags})


def _fraction(selected: NDArray[np.bool_], counts: Weights) -> float:
    return float(np.average(selected, weights=counts)) if counts.any() else np.nan
