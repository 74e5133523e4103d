"""Similar cases: fit of the index, and metrics of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from segpipe.bundle.references import Reference
from segpipe.inference.evidence import decode_cases, decode_vote
from segpipe.inference.networks import ClassifierNetwork, Float32Array, batched
from segpipe.inference.similar import CASES, IndexValues, pack_points, project, unpack_points
from segpipe.inference.stages import Classifier, Localizer
from segpipe.inference.tta import IDENTITY
from segpipe.io.images import read_image
from segpipe.io.passes import follow
from segpipe.metrics.bootstrap import Weights
from segpipe.metrics.classification import LabeledPredictions, score_predictions
from segpipe.types import FloatArray

BoolVector = NDArray[np.bool_]

DIMENSIONS = 96
# Fraction of the median distance between a case and its eighth nearest one. On the validation images of HAM10000 the vote has a
# macro AUROC of 0.948, 0.955 and 0.959 with 0.10, 0.15 and 0.20, and a calibration error of 0.06, 0.06 and 0.13.
BANDWIDTH = 0.15
_BATCH_SIZE = 8
_ROWS_AT_ONCE = 512


def fit_similar(localizer: Localizer, network: ClassifierNetwork, table: pd.DataFrame) -> Reference:
    """Build the index of a classifier from its training images.

    Each lesion is cut as in a prediction, and seen in one view.

    Args:
        localizer: Localizer of the lesions.
        network: Network of the classifier.
        table: Training images: `image_id`, `lesion_id`, `dx`, `image_path`; the first one of each lesion becomes its case.

    Returns:
        Reference data, see `build_reference`; the number of images for its record is the number of lesions.
    """
    cases = first_photographs(table)
    paths = follow(cases["image_path"], len(cases), "similar cases")
    return build_reference(np.concatenate(list(_features(localizer, network, paths))), table, network.card.classes)


def first_photographs(table: pd.DataFrame) -> pd.DataFrame:
    """Select the first photograph of each lesion."""
    return table.drop_duplicates("lesion_id")


def _features(localizer: Localizer, network: ClassifierNetwork, paths: Iterator[str]) -> Iterator[Float32Array]:
    """Yield the pooled features of images, batch by batch."""
    classifier = Classifier(network, views=(IDENTITY,), batch_size=_BATCH_SIZE)
    for batch in batched(paths, _BATCH_SIZE):
        images = [read_image(Path(path)) for path in batch]
        yield classifier([classifier.cut(*pair) for pair in zip(images, localizer(images), strict=True)]).features


def build_reference(features: Float32Array, table: pd.DataFrame, classes: Sequence[str]) -> Reference:
    """Build the reference data of `segpipe.inference.similar.SimilarIndex`.

    Args:
        features: Pooled features of `first_photographs(table)`, shape (N, C).
        table: All training images: `image_id`, `lesion_id`, `dx`.
        classes: Codes of the card, in order.

    Returns:
        Arrays `mean` (C,), `components` (C, D), `points` (N, D) and `diagnoses` (N,), and the values of `IndexValues`.
    """
    cases = first_photographs(table)
    dimensions = min(DIMENSIONS, len(features) - 1, features.shape[1])
    pca = PCA(dimensions, svd_solver="covariance_eigh").fit(features.astype(np.float64))
    # Relative to the first one, so that float16 holds them whatever the scale of the features.
    deviations = np.sqrt(pca.explained_variance_ / pca.explained_variance_[0])
    mean, components = pca.mean_.astype(np.float32), (pca.components_.T / np.maximum(deviations, 1e-3)).astype(np.float16)
    points = pack_points(project(features, mean, components.astype(np.float32)))
    eighth = _eighth_distances(unpack_points(points))
    images = table.groupby("lesion_id", sort=False)["image_id"].agg(list)
    values = IndexValues(
        classes=tuple(classes),
        lesions=tuple(cases["lesion_id"]),
        images=tuple(tuple(images[lesion_id]) for lesion_id in cases["lesion_id"]),
        bandwidth=BANDWIDTH * float(np.median(eighth)),
    )
    return Reference(
        arrays={
            "mean": mean,
            "components": components,
            "points": points,
            "diagnoses": np.array([classes.index(code) for code in cases["dx"]], np.uint8),
        },
        values=asdict(values),
    )


def _eighth_distances(points: Float32Array) -> Float32Array:
    """Compute the distance of each case to its eighth nearest one.

    Args:
        points: Points of length 1, shape (N, D).

    Returns:
        Shape (N,); with fewer cases than that, the farthest one takes the place of the eighth.
    """
    number = min(CASES, len(points) - 1)  # the case itself is at 0
    blocks = (points[start : start + _ROWS_AT_ONCE] for start in range(0, len(points), _ROWS_AT_ONCE))
    return np.concatenate([np.partition(1 - block @ points.T, number, axis=1)[:, number] for block in blocks])


@dataclass(frozen=True)
class SimilarMetrics:
    """Metrics of similar cases as a function of weights.

    Attributes:
        votes: Votes of all cases with the true classes.
        among: True where the true diagnosis is among the cases that are shown, bool, shape (N,).
        agreeing: Fraction of these cases that have the true diagnosis, shape (N,).
        known: True on images that were recognized as training images, bool, shape (N,).
    """

    votes: LabeledPredictions
    among: BoolVector
    agreeing: FloatArray
    known: BoolVector

    def __call__(self, weights: Weights) -> dict[str, float | None]:
        """Compute the metrics.

        Args:
            weights: Number of times that each image counts, shape (N,).

        Returns:
            Metrics by name, None where undefined: `macro_auroc_vote` and `auroc_vote_<code>`; `among_similar`,
            `among_similar_<code>` and their mean over classes `balanced_among_similar`, the fraction of images whose true
            diagnosis is among the similar cases; `agreeing_similar`, the mean fraction of cases that have it; and
            `known_similar`, the fraction of images that were recognized.
        """
        codes, labels = self.votes.codes, self.votes.labels
        of_votes = score_predictions(self.votes, weights)
        among = {code: _mean(self.among, weights * (labels == index)) for index, code in enumerate(codes)}
        present = [among[code] for code, support in zip(codes, self.votes.support, strict=True) if support]
        defined = [value for value in present if value is not None]
        return {
            "macro_auroc_vote": of_votes["macro_auroc"],
            **{f"auroc_vote_{code}": of_votes[f"auroc_{code}"] for code in codes},
            "among_similar": _mean(self.among, weights),
            "balanced_among_similar": float(np.mean(defined)) if len(defined) == len(present) else None,
            **{f"among_similar_{code}": value for code, value in among.items()},
            "agreeing_similar": _mean(self.agreeing, weights),
            "known_similar": _mean(self.known, weights),
        }


def similar_metrics(results: pd.DataFrame, predictions: LabeledPredictions) -> SimilarMetrics | None:
    """Prepare the metrics of the similar cases of a run.

    Args:
        results: Rows of `results.csv` that have a label.
        predictions: Predictions for the same images, in the same order.

    Returns:
        The metrics; None where the run has no similar cases, because its classifier has no index.
    """
    if "similar_vote" not in results or not (results["similar_vote"] != "").all():
        return None
    codes, labels = predictions.codes, predictions.labels
    votes = np.array([[vote[code] for code in codes] for vote in map(decode_vote, results["similar_vote"])])
    true_codes = np.array(codes)[labels]
    agreeing = np.array(
        [
            np.mean([case.diagnosis == code for case in cases] or [False])
            for cases, code in zip(map(decode_cases, results["similar"]), true_codes, strict=True)
        ]
    )
    known = results["similar_known"].astype(str).str.lower().to_numpy() == "true"
    return SimilarMetrics(LabeledPredictions(votes, labels, codes), agreeing > 0, agreeing, known)


def _mean(values: NDArray[Any], counts: Weights) -> float | None:
    return float(np.average(values, weights=counts)) if counts.any() else None
