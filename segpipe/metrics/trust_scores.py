"""Correctness of findings by the color of their trust."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import Weights
from segpipe.metrics.classification import LabeledPredictions
from segpipe.metrics.trust import COLORS


@dataclass(frozen=True)
class TrustMetrics:
    """Metrics of each color as a function of weights.

    Attributes:
        colors: Color of each image, shape (N,).
        correct: True where the diagnosis is the true one, bool, shape (N,).
        melanoma: True for melanomas, bool, shape (N,).
    """

    colors: NDArray[np.str_]
    correct: NDArray[np.bool_]
    melanoma: NDArray[np.bool_]

    def __call__(self, weights: Weights) -> dict[str, float | None]:
        """Compute the metrics.

        Args:
            weights: Number of times that each image counts, shape (N,).

        Returns:
            Metrics by name, None where undefined: for each color `fraction_<color>` of the images, their `accuracy_<color>`, and
            `sensitivity_mel_<color>`, the fraction of the melanomas of this color that have the diagnosis melanoma.
        """
        scores: dict[str, float | None] = {}
        for color in COLORS:
            chosen = weights * (self.colors == color)
            scores[f"fraction_{color}"] = float(chosen.sum() / np.sum(weights))
            scores[f"accuracy_{color}"] = _mean(self.correct, chosen)
            scores[f"sensitivity_mel_{color}"] = _mean(self.correct, chosen * self.melanoma)
        return scores


def trust_metrics(results: pd.DataFrame, predictions: LabeledPredictions) -> TrustMetrics | None:
    """Prepare the metrics of the colors of a run.

    Args:
        results: Rows of `results.csv` that have a label.
        predictions: Predictions for the same images, in the same order.

    Returns:
        The metrics; None where the run is of an older version.
    """
    if "trust" not in results:
        return None
    melanoma = np.array(predictions.codes)[predictions.labels] == "mel"
    return TrustMetrics(results["trust"].to_numpy(dtype=np.str_), predictions.predicted == predictions.labels, melanoma)


def _mean(values: NDArray[np.bool_], counts: Weights) -> float | None:
    return float(np.average(values, weights=counts)) if counts.any() else None
