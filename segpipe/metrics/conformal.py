"""Prediction sets with a stated coverage of the true diagnosis.

Class-conditional (Mondrian) conformal prediction: each class has its own threshold, so a rare class is covered as often as a
frequent one. The nonconformity score of a class is 1 minus its calibrated probability.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.bootstrap import Weights
from segpipe.types import FloatArray, Labels

# A threshold is the score of one of the images, which must still keep it in a batch with others.
ROUNDING = 1e-6
SEPARATOR = ";"  # of the codes in the column `prediction_set`
_TOLERANCE = 1e-9  # of products such as 0.9 x 20


@dataclass(frozen=True)
class ConformalSets:
    """Thresholds of the prediction sets of a classifier.

    Attributes:
        coverage: Smallest probability with which a set contains the true class, in (0, 1), for each class.
        thresholds: Largest score with which a class is in the set, in [0, 1], by its code; 1 puts it into every set.
        images: Number of validation lesions of each class, one photograph each, by its code.

    Raises:
        ValueError: A number is outside its range, or the two mappings have different classes.
    """

    coverage: float
    thresholds: Mapping[str, float]
    images: Mapping[str, int]

    def __post_init__(self) -> None:
        require_coverage(self.coverage)
        if not self.thresholds or self.thresholds.keys() != self.images.keys():
            raise ValueError(
                "conformal must hold a threshold and a number of images for each class, got "
                f"{', '.join(self.thresholds) or 'none'} and {', '.join(self.images) or 'none'}"
            )
        for code, threshold in self.thresholds.items():
            if not 0 <= threshold <= 1 or self.images[code] < 0:
                raise ValueError(
                    f"conformal must hold thresholds in [0, 1] and 0 or more images, got {threshold} and {self.images[code]} "
                    f"for {code}"
                )

    @property
    def rare(self) -> tuple[str, ...]:
        """Codes of the classes with fewer than `least_images` lesions."""
        least = least_images(self.coverage)
        return tuple(code for code, count in self.images.items() if count < least)

    def prediction_set(self, probs: Mapping[str, float]) -> tuple[str, ...]:
        """List the codes of a prediction set, the most probable first.

        The predicted class is always in the set: a set is never empty, and its coverage can only rise.

        Args:
            probs: Calibrated probability of each class by its code.
        """
        first, *others = sorted(probs, key=lambda code: -probs[code])
        return (first, *(code for code in others if 1 - probs[code] <= self.thresholds[code]))

    def check(self, classes: Sequence[str]) -> None:
        """Check that the thresholds are those of the classes.

        Raises:
            ValueError: They are not.
        """
        if self.thresholds.keys() != set(classes):
            raise ValueError(f"conformal must hold the classes {', '.join(classes)}, got {', '.join(self.thresholds)}")


def require_coverage(coverage: float) -> None:
    """Check a coverage.

    Raises:
        ValueError: It is outside (0, 1).
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be above 0 and below 1, got {coverage}")


def fit_sets(
    probs: FloatArray, labels: NDArray[np.integer], lesions: Sequence[Any], *, classes: Sequence[str], coverage: float
) -> ConformalSets:
    """Fit the threshold of each class on validation images.

    The promise holds for a new lesion of the class: photographs of one lesion resemble each other, so the first of each counts.
    A class with fewer than `least_images` lesions cannot promise the coverage alone. It gets the threshold of the rarest classes
    that together have enough, so its coverage holds for the mean over these; 1 where all classes together have too few.

    Args:
        probs: Calibrated probabilities, shape (N, C).
        labels: Class index of each image, shape (N,).
        lesions: Lesion of each image, N of them.
        classes: Codes of the classes, C of them.
        coverage: Smallest probability with which a set contains the true class, in (0, 1).

    Raises:
        ValueError: `coverage` is outside (0, 1).

    Reference:
        arXiv 1209.2673 (class-conditional sets), arXiv 2306.09335 (shared thresholds of rare classes).
    """
    require_coverage(coverage)
    first = np.unique(np.asarray(lesions), return_index=True)[1]
    labels = labels[first]
    scores = 1 - probs[first, labels]
    counts = np.bincount(labels, minlength=len(classes))
    own = counts >= least_images(coverage)
    rarest = np.argsort(counts, kind="stable")
    enough = np.searchsorted(np.cumsum(counts[rarest]), least_images(coverage)) + 1
    shared = conformal_quantile(scores[np.isin(labels, rarest[:enough])], coverage)
    thresholds = [
        conformal_quantile(scores[labels == index], coverage) if own[index] else shared for index in range(len(classes))
    ]
    return ConformalSets(
        coverage,
        dict(zip(classes, thresholds, strict=True)),
        dict(zip(classes, counts.tolist(), strict=True)),
    )


def conformal_quantile(scores: FloatArray, coverage: float) -> float:
    """Find the threshold that a new image keeps with a given probability.

    Of n + 1 exchangeable images, the new one is as likely as any other to have the k-th smallest score, so the smallest k with
    k / (n + 1) >= coverage is enough.

    Args:
        scores: Score of the true class of each image, shape (n,), in [0, 1].
        coverage: Probability, in (0, 1).

    Returns:
        The k-th smallest score plus `ROUNDING`, at most 1; 1 where k is above n.
    """
    rank = math.ceil((len(scores) + 1) * coverage - _TOLERANCE)
    return min(1.0, float(np.sort(scores)[rank - 1]) + ROUNDING) if rank <= len(scores) else 1.0


def least_images(coverage: float) -> int:
    """Return the smallest number of images that can promise a coverage.

    It is 9 for 0.90, and 19 for 0.95.
    """
    return math.ceil(coverage / (1 - coverage) - _TOLERANCE)


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
