"""Training cases that look like a lesion, found by the features of its classifier.

The features are the mean of the classifier's last feature map, reduced by principal component analysis. The distance of two
lesions is the cosine distance, in [0, 2]. The eight nearest cases are shown; their few votes cannot rank many images, so in the
vote all cases count, each by `exp(-distance / bandwidth)`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from segpipe.bundle.references import Reference
from segpipe.errors import BundleError
from segpipe.inference.networks import Float32Array
from segpipe.io.run_files import SIMILAR

CASES = 8  # of a finding
COLUMNS = ("similar", "similar_vote", "similar_known")
_LARGEST = 127  # of int8


@dataclass(frozen=True)
class ShownCase:
    """A training case as a result shows it.

    Attributes:
        image_id: Id of the photograph.
        diagnosis: Code of the true diagnosis.
        distance: Cosine distance of the features, in [0, 2].
    """

    image_id: str
    diagnosis: str
    distance: float


@dataclass(frozen=True)
class SimilarCase(ShownCase):
    """A training case that looks like a lesion.

    Attributes:
        lesion_id: Id of the lesion.
    """

    lesion_id: str


@dataclass(frozen=True)
class Similar:
    """Training cases that look like a lesion, without the lesion itself.

    Attributes:
        cases: Up to `CASES` cases, nearest first.
        vote: Weight of each class among all cases by code, in the card's order; they sum to 1.
        known: True where this photograph, or a near copy, was in the training data.
    """

    cases: tuple[SimilarCase, ...]
    vote: Mapping[str, float]
    known: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of `results.csv`, `COLUMNS`.

        Returns:
            `similar`, entries `<image id>:<diagnosis>:<distance>` joined by `;`; `similar_vote`, entries `<code>=<weight>` joined
            by `;`; and `similar_known`.
        """
        cases = [f"{quote(case.image_id)}:{case.diagnosis}:{case.distance:.4f}" for case in self.cases]
        vote = [f"{code}={weight:.4g}" for code, weight in self.vote.items()]
        return dict(zip(COLUMNS, (";".join(cases), ";".join(vote), self.known), strict=True))


def quote(image_id: str) -> str:
    """Escape the characters of an id that separate entries: `%` and `;`."""
    return image_id.replace("%", "%25").replace(";", "%3B")


def decode_cases(text: str) -> tuple[ShownCase, ...]:
    """Read the field `similar` of a result, see `Similar.to_dict`.

    Raises:
        ValueError: The text is no such field.
    """
    entries = [entry.rsplit(":", 2) for entry in text.split(";") if entry]
    return tuple(ShownCase(unquote(image_id), diagnosis, float(distance)) for image_id, diagnosis, distance in entries)


def decode_vote(text: str) -> dict[str, float]:
    """Read the field `similar_vote` of a result, see `Similar.to_dict`.

    Raises:
        ValueError: The text is no such field.
    """
    return {code: float(weight) for code, weight in (entry.split("=") for entry in text.split(";"))}


class SimilarIndex:
    """Index of training cases, one photograph of each lesion.

    Args:
        reference: Reference data from `segpipe.evaluation.similar.build_reference`.
        classes: Codes of the card, in order.

    Attributes:
        channels: Number of features of an image.

    Raises:
        BundleError: The reference data are none of this classifier.
    """

    def __init__(self, reference: Reference, classes: Sequence[str]) -> None:
        arrays, values = reference.arrays, reference.values
        try:
            self._mean, self._components = (np.asarray(arrays[name], np.float32) for name in ("mean", "components"))
            self._points = unpack_points(arrays["points"])
            self._labels: NDArray[np.intp] = np.asarray(arrays["diagnoses"], np.intp)
            self._lesions, self._images = tuple(values["lesions"]), tuple(map(tuple, values["images"]))
            self._bandwidth, self._near_copy = float(values["bandwidth"]), float(values["near_copy"])
            self._classes = tuple(classes)
            _check(values, self._mean, self._components, self._points, self._labels, self._classes)
        except (LookupError, TypeError, ValueError) as error:
            raise BundleError(f"{SIMILAR} must be of this classifier, got {error}; copy the whole bundle again") from error
        self.channels = len(self._mean)
        self._rows = {image_id: row for row, image_ids in enumerate(self._images) for image_id in image_ids}
        self._is_class = np.equal.outer(self._labels, np.arange(len(self._classes))).astype(np.float64)

    def find(self, features: Float32Array, *, image_id: str | None = None) -> Similar:
        """Find the cases that look like a lesion.

        A case is left out where the photograph is one of its lesion, or where it is so near that the photograph must be a copy.

        Args:
            features: Pooled features of the first view, see `segpipe.inference.ensemble.Prediction`, shape (C,).
            image_id: Id of the photograph, by which training images are known; None where it has none.
        """
        distances = 1 - self._points @ project(features, self._mean, self._components)
        left_out = distances < self._near_copy
        if image_id in self._rows:
            left_out[self._rows[image_id]] = True
        distances = np.where(left_out, np.inf, np.clip(distances, 0, 2))
        count = min(CASES, int(len(distances) - left_out.sum()))
        nearest = np.argpartition(distances, max(count - 1, 0))[:count]
        nearest = nearest[np.argsort(distances[nearest], kind="stable")]
        return Similar(tuple(self._case(row, float(distances[row])) for row in nearest), self._vote(distances), left_out.any().item())

    def _case(self, row: int, distance: float) -> SimilarCase:
        return SimilarCase(self._images[row][0], self._classes[self._labels[row]], distance, self._lesions[row])

    def _vote(self, distances: NDArray[np.floating[Any]]) -> dict[str, float]:
        smallest = distances.min()
        if not np.isfinite(smallest):  # all cases are left out
            return dict.fromkeys(self._classes, 1 / len(self._classes))
        weights = np.exp((smallest - distances.astype(np.float64)) / self._bandwidth) @ self._is_class
        return dict(zip(self._classes, (weights / weights.sum()).tolist(), strict=True))


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


def _check(
    values: Mapping[str, Any],
    mean: Float32Array,
    components: Float32Array,
    points: Float32Array,
    labels: NDArray[np.intp],
    classes: tuple[str, ...],
) -> None:
    """Check that the parts of an index fit each other and the card.

    Raises:
        ValueError: They do not.
    """
    if tuple(values["classes"]) != classes:
        raise ValueError(f"the classes {', '.join(values['classes'])} instead of {', '.join(classes)}")
    (channels,), (cases,) = mean.shape, labels.shape
    if components.shape != (channels, points.shape[1]) or points.shape[0] != cases or not cases:
        raise ValueError(f"arrays of shapes {mean.shape}, {components.shape}, {points.shape} and {labels.shape}")
    if not cases == len(values["lesions"]) == len(values["images"]) or not all(values["images"]):
        raise ValueError(f"{cases} cases with {len(values['lesions'])} lesions and {len(values['images'])} lists of images")
    if not (0 <= labels.min() <= labels.max() < len(classes) and values["bandwidth"] > 0):
        raise ValueError("a diagnosis or a bandwidth out of range")
