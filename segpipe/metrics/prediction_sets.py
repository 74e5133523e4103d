"""Coverage and size of prediction sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import Weights
from segpipe.types import Labels

SEPARATOR = ";"  # of the codes in the column `prediction_set`


@dataclass(frozen=True)
class SetMetrics:
    """Metrics of prediction sets as a function of weights.

    Attributes:
        members: True where a class is in the set of an image, bool, shape (N, C).
        labels: Index of the true class of each image, shape (N,).
        codes: Codes of the C classes in the order of the columns.
    """

    members: NDArray[np.bool_]
    labels: Labels
    codes: Sequence[str]

    def __call__(self, weights: Weights) -> dict[str, float | None]:
        """Compute the metrics.

        Args:
            weights: Number of times that each image counts, shape (N,).

        Returns:
            Metrics by name, None where undefined. `coverage`: fraction of the sets that contain the true class;
            `coverage_<code>`: this fraction among the images of a class; `macro_coverage`: mean over the classes that have
            images, None where the weights leave none of one; `set_size`: mean number of classes in a set; `single_label`:
            fraction of the sets with one class.
        """
        covered = self.members[np.arange(len(self.labels)), self.labels]
        support = np.bincount(self.labels, weights=weights, minlength=len(self.codes))
        hits = np.bincount(self.labels, weights=weights * covered, minlength=len(self.codes))
        by_class = hits / np.where(support > 0, support, np.nan)
        present = np.bincount(self.labels, minlength=len(self.codes)) > 0
        sizes = self.members.sum(axis=1)
        scores = {
            "coverage": hits.sum() / support.sum(),
            "macro_coverage": by_class[present].mean(),
            **{f"coverage_{code}": value for code, value in zip(self.codes, by_class, strict=True)},
            "set_size": np.average(sizes, weights=weights),
            "single_label": np.average(sizes == 1, weights=weights),
        }
        return {name: None if np.isnan(score) else float(score) for name, score in scores.items()}


def read_sets(texts: Sequence[str], codes: Sequence[str]) -> NDArray[np.bool_] | None:
    """Read a column `prediction_set`.

    Args:
        texts: Codes of each set, joined by `;`.
        codes: Codes of the C classes.

    Returns:
        True where a class is in the set of an image, shape (N, C); None where an image has no set.
    """
    sets = [text.split(SEPARATOR) if text else [] for text in texts]
    if not all(sets):
        return None
    return np.array([[code in members for code in codes] for members in sets])
