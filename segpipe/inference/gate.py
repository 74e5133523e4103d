"""Input gate: rules for photographs, and a distance from the training images.

Rules judge the photograph. A distance compares the features of the segmenter's encoder, means and deviations of its channels,
with those of the training images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.bundle.references import Reference
from segpipe.errors import BundleError
from segpipe.inference.evidence import ADVICE, UNLIKE_TRAINING, GateResult
from segpipe.inference.networks import Float32Array
from segpipe.io.run_files import GATE
from segpipe.lesion import photo_quality
from segpipe.lesion.localization import Localization
from segpipe.types import RgbImage


@dataclass(frozen=True)
class TrainingFeatures:
    """Distribution of the features of the training images.

    Standardized features are Gaussian: each of K principal directions has a variance of its own, all others share one.

    Attributes:
        mean: Mean of each feature, float32, shape (D,).
        scale: Unit of each feature, float32, shape (D,), above 0.
        directions: Principal directions, orthonormal rows, float16, shape (K, D).
        variances: Variance along each of them, float32, shape (K,), above 0.
        rest_variance: Variance along every other direction, above 0.

    Reference:
        Tipping and Bishop 1999, probabilistic principal component analysis, doi 10.1111/1467-9868.00196.
    """

    mean: Float32Array
    scale: Float32Array
    directions: NDArray[np.float16]
    variances: Float32Array
    rest_variance: float

    def distances(self, features: Float32Array) -> NDArray[np.float64]:
        """Compute Mahalanobis distances from the mean.

        Args:
            features: Features of N images, shape (N, D).

        Returns:
            Distances, 0 or more, shape (N,).

        Raises:
            ValueError: `features` do not have D columns.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"features must have the shape (N, {len(self.mean)}), got {features.shape}; fit the gate again")
        standardized = (features - self.mean) / self.scale
        along = standardized @ self.directions.T.astype(np.float32)
        rest = np.maximum((standardized**2).sum(1) - (along**2).sum(1), 0)  # rounding may make it negative
        return np.asarray(np.sqrt((along**2 / self.variances).sum(1) + rest / self.rest_variance), np.float64)


class Gate:
    """Input gate of a pipeline.

    Args:
        reference: Reference data of the segmenter, from `segpipe.evaluation.gate.fit_gate`; None for the rules alone.

    Raises:
        BundleError: The reference data are not those of a gate.
    """

    def __init__(self, reference: Reference | None = None) -> None:
        self._fitted = None if reference is None else _parse(reference)

    def score(self, features: Float32Array) -> float | None:
        """Compute the distance from the training images.

        Args:
            features: Features of one image, float32, shape (D,), see `segpipe.inference.networks.SegmenterPass`.

        Returns:
            Distance as a multiple of the largest accepted one, 0 or more; None without reference data.

        Raises:
            ValueError: The features are those of another encoder.
        """
        if self._fitted is None:
            return None
        training, limit = self._fitted
        return float(training.distances(features[None])[0] / limit)

    def judge(self, image: RgbImage, localization: Localization, features: Float32Array | None) -> GateResult:
        """Judge an image.

        Args:
            image: RGB uint8, shape (H, W, 3).
            localization: Lesion in the image.
            features: Features of the image, float32, shape (D,), as from `segpipe.inference.stages.Localizer.with_features`;
                None where the U-Net did not run or its graph does not return them.
        """
        reasons = photo_quality.judge_photo(image, localization)
        score = None if features is None else self.score(features)
        if score is not None and score > 1:
            reasons = (*reasons, UNLIKE_TRAINING)
        return GateResult(reasons, score, tuple(ADVICE[code] for code in reasons))


def as_reference(training: TrainingFeatures, limit: float) -> Reference:
    """Pack the data of a gate.

    Args:
        training: Features of the training images.
        limit: Largest accepted distance.
    """
    arrays: dict[str, NDArray[Any]] = {
        "mean": training.mean,
        "scale": training.scale,
        "directions": training.directions,
        "variances": training.variances,
    }
    return Reference(arrays, {"rest_variance": training.rest_variance, "limit": limit})


def _parse(reference: Reference) -> tuple[TrainingFeatures, float]:
    """Return the distribution and the largest accepted distance."""
    arrays, values = reference.arrays, reference.values
    try:
        rest, limit = float(values["rest_variance"]), float(values["limit"])
        training = TrainingFeatures(arrays["mean"], arrays["scale"], arrays["directions"], arrays["variances"], rest)
        _check(arrays, (training.scale, training.variances, np.array([rest, limit])))
    except (LookupError, TypeError, ValueError) as error:
        raise BundleError(f"{GATE} must hold the data of an input gate, got others ({error}); fit the gate again") from error
    return training, limit


def _check(arrays: Mapping[str, NDArray[Any]], positive: tuple[NDArray[Any], ...]) -> None:
    count, size = arrays["directions"].shape
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != {"mean": (size,), "scale": (size,), "directions": (count, size), "variances": (count,)}:
        raise ValueError(f"arrays of the shapes {shapes}")
    if not all((values > 0).all() for values in positive):
        raise ValueError("a scale or a variance that is not above 0")
