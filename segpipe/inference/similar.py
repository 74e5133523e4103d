"""Similar cases: training photographs with similar features.

The features are the mean of the classifier's last feature map, reduced by principal component analysis. The distance of two
lesions is the cosine distance, in [0, 2]. The eight nearest cases are shown; their few votes cannot rank many images, so in the
vote all cases count, each by `exp(-distance / bandwidth)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from segpipe.bundle.references import Reference
from segpipe.errors import BundleError
from segpipe.inference.evidence import Similar, SimilarCase
from segpipe.inference.networks import Float32Array
from segpipe.io.files import one_line
from segpipe.io.run_files import SIMILAR

CASES = 8  # of a finding
# A photograph is a near copy of a case at less than this fraction of the distance of the eighth nearest case. Of 100 training
# photographs of HAM10000, it holds for all after JPEG compression at quality 75, for 99 with 5 % cut off each side, and for 84
# mirrored ones (docs/results/similar.json). Of 2,990 photographs of other lesions it holds for 9; some of these have two ids.
NEAR_COPY = 0.3
_LARGEST = 127  # of int8


@dataclass(frozen=True)
class IndexValues:
    """Plain values of the reference data of an index.

    Attributes:
        classes: Codes of the classifier, in order.
        lesions: Id of the lesion of each case.
        images: Ids of all training images of each of these lesions; the first is that of the case.
        bandwidth: Distance at which a case counts 1/e of the nearest one in the vote.
    """

    classes: tuple[str, ...]
    lesions: tuple[str, ...]
    images: tuple[tuple[str, ...], ...]
    bandwidth: float


class SimilarIndex:
    """Index of training cases, one photograph of each lesion.

    Args:
        reference: Reference data from `segpipe.evaluation.similar.build_reference`.
        classes: Codes of the card, in order.

    Raises:
        BundleError: The reference data are not an index of this classifier.
    """

    def __init__(self, reference: Reference, classes: Sequence[str]) -> None:
        try:
            self._values = msgspec.convert(reference.values, IndexValues)
            self._mean, self._components = (np.asarray(reference.arrays[name], np.float32) for name in ("mean", "components"))
            self._points = unpack_points(reference.arrays["points"])
            self._labels: NDArray[np.intp] = np.asarray(reference.arrays["diagnoses"], np.intp)
            self._check(tuple(classes))
        except (LookupError, TypeError, ValueError, msgspec.ValidationError) as error:
            reason = one_line(str(error))
            raise BundleError(
                f"{SIMILAR} must be an index of this classifier, got {reason}; copy the whole bundle again"
            ) from error
        self._rows = {image_id: row for row, image_ids in enumerate(self._values.images) for image_id in image_ids}
        self._is_class = np.equal.outer(self._labels, np.arange(len(classes))).astype(np.float64)

    def _check(self, classes: tuple[str, ...]) -> None:
        """Check that the parts fit each other and the card.

        Raises:
            ValueError: They do not.
        """
        values, labels = self._values, self._labels
        if values.classes != classes:
            raise ValueError(f"the classes {', '.join(values.classes)} instead of {', '.join(classes)}")
        shapes = [array.shape for array in (self._mean, self._components, self._points, labels)]
        cases = len(values.lesions)
        channels, dimensions = self._components.shape
        if not cases or shapes != [(channels,), (channels, dimensions), (cases, dimensions), (cases,)]:
            raise ValueError(f"{cases} cases and arrays of shapes {shapes}")
        if len(values.images) != cases or not all(values.images):
            raise ValueError("cases without image ids")
        if not 0 <= labels.min() <= labels.max() < len(classes):
            raise ValueError(f"diagnoses from {labels.min()} to {labels.max()}")
        if not (np.isfinite(self._mean).all() and np.isfinite(self._components).all() and values.bandwidth > 0):
            raise ValueError("a number that is not finite, or a bandwidth that is not above 0")

    def find(self, features: Float32Array, image_id: str | None = None) -> Similar:
        """Find the cases that look like a lesion.

        A case is left out where the photograph is one of its lesion, or where it is so near that the photograph must be a copy,
        which takes `CASES` cases to tell.

        Args:
            features: Pooled features of the first view, see `segpipe.inference.ensemble.Prediction`, shape (C,).
            image_id: Id of the photograph, by which training images are known; None where it has none.
        """
        distances = np.clip(1 - self._points @ project(features, self._mean, self._components), 0, 2)
        if image_id in self._rows:
            distances[self._rows[image_id]] = np.inf
        if len(nearest := _nearest(distances)) == CASES:
            distances[distances < NEAR_COPY * distances[nearest[-1]]] = np.inf
        cases = tuple(self._case(row, float(distances[row])) for row in _nearest(distances))
        return Similar(cases, self._vote(distances), known=bool(np.isinf(distances).any()))

    def _case(self, row: int, distance: float) -> SimilarCase:
        values = self._values
        return SimilarCase(values.images[row][0], values.classes[self._labels[row]], distance, values.lesions[row])

    def _vote(self, distances: Float32Array) -> dict[str, float]:
        codes, smallest = self._values.classes, distances.min()
        if not np.isfinite(smallest):  # all cases are left out
            return dict.fromkeys(codes, 1 / len(codes))
        weights = np.exp((smallest - distances.astype(np.float64)) / self._values.bandwidth) @ self._is_class
        return dict(zip(codes, (weights / weights.sum()).tolist(), strict=True))


def _nearest(distances: Float32Array) -> NDArray[np.intp]:
    """Return the rows of the nearest cases at finite distances, in order."""
    rows: NDArray[np.intp] = np.argpartition(distances, min(CASES, len(distances)) - 1)[:CASES]
    ordered = rows[np.argsort(distances[rows], kind="stable")]
    return ordered[np.isfinite(distances[ordered])]


def project(features: Float32Array, mean: Float32Array, components: Float32Array) -> Float32Array:
    """Project features on principal components, scaled to length 1.

    Args:
        features: Pooled features, shape (..., C).
        mean: Mean of the training images, shape (C,).
        components: Principal components, shape (C, D).

    Returns:
        Shape (..., D); zeros for the mean itself.
    """
    points = (features - mean) @ components
    lengths = np.linalg.norm(points, axis=-1, keepdims=True)
    projected: Float32Array = points / np.maximum(lengths, np.finfo(np.float32).tiny)
    return projected


def pack_points(points: Float32Array) -> NDArray[np.int8]:
    """Round points of length 1 to int8; a distance changes by 0.002."""
    return np.round(points * _LARGEST).astype(np.int8)


def unpack_points(packed: NDArray[np.int8]) -> Float32Array:
    """Undo `pack_points`."""
    return packed.astype(np.float32) / np.float32(_LARGEST)
