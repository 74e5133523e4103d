"""Operating points: probability thresholds that flag an image for a target."""

import base64
import binascii
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.types import FloatArray

MALIGNANT = "malignant"
# A threshold is the probability of one of the images, which must still reach it in a batch with others.
ROUNDING = 1e-6
_HASH_CHARACTERS = 8


@dataclass(frozen=True)
class OperatingPoint:
    """Probability at which an image is flagged for a target.

    Attributes:
        target: Code of a class, or `malignant` for the sum of the malignant classes.
        threshold: Calibrated probability in [0, 1]; an equal or larger one reaches it.
        target_sensitivity: Fraction of the validation images with the target that the threshold was fitted to find, in (0, 1];
            None where it was chosen otherwise.
        test: `sensitivity` and `specificity` on the test images, each with `value`, `low` and `high`; empty if not measured.

    Raises:
        ValueError: `threshold` is outside [0, 1].
    """

    target: str
    threshold: float
    target_sensitivity: float | None = None
    test: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")


@dataclass(frozen=True)
class ValidationProbs:
    """Calibrated probabilities of the validation images, as text for a card.

    An ensemble fits its operating points and prediction sets to the mean probabilities of its members.

    Attributes:
        images: Hashes of the image ids, eight characters each, sorted; see `segpipe.data.duplicates.hash_id`.
        labels: Class index of each image, uint16 in base64.
        probs: Probability of each class for each image, float32, shape (N, C), in base64.
        lesions: Hash of the lesion id of each image, eight characters each; empty in the cards of older versions.

    Raises:
        ValueError: A text is not base64, the texts differ in their number of images, or a probability is outside [0, 1].
    """

    images: str
    labels: str
    probs: str
    lesions: str = ""

    def __post_init__(self) -> None:
        count, rest = divmod(len(self.images), _HASH_CHARACTERS)
        labels, probs = _decode(self.labels, "<u2"), _decode(self.probs, "<f4")
        fits = len(labels) == count and len(self.lesions) in (0, len(self.images))
        if rest or not count or not fits or len(probs) % count:
            raise ValueError("validation must hold a hash, a label and probabilities for each image; train the model again")
        if not ((probs >= 0) & (probs <= 1)).all():
            raise ValueError("validation must hold probabilities in [0, 1]; train the model again")

    @classmethod
    def pack(
        cls, hashes: Sequence[str], labels: NDArray[np.integer], probs: FloatArray, lesions: Sequence[str] = ()
    ) -> "ValidationProbs":
        """Encode the probabilities of images.

        Args:
            hashes: Hash of each image id, N of them.
            labels: Class index of each image, shape (N,).
            probs: Probabilities, shape (N, C).
            lesions: Hash of each lesion id, N of them; none where they are not known.
        """
        order = np.argsort(np.array(hashes))
        of_lesions = "".join(lesions[index] for index in order) if lesions else ""
        encoded = _encode(labels[order], "<u2"), _encode(np.clip(probs[order], 0, 1), "<f4")
        return cls("".join(sorted(hashes)), *encoded, of_lesions)

    def unpack(self) -> tuple[NDArray[np.intp], FloatArray]:
        """Decode the class indices, shape (N,), and probabilities, shape (N, C)."""
        labels = _decode(self.labels, "<u2").astype(np.intp)
        return labels, _decode(self.probs, "<f4").astype(np.float64).reshape(len(labels), -1)

    @property
    def image_hashes(self) -> list[str]:
        """Hash of each image id."""
        return _split(self.images)

    @property
    def lesion_hashes(self) -> list[str]:
        """Hash of each lesion id; none in the cards of older versions."""
        return _split(self.lesions)

    def check(self, classes: int) -> None:
        """Check labels and probabilities against the number of classes.

        Raises:
            ValueError: They do not fit.
        """
        labels, probs = self.unpack()
        if probs.shape[1] != classes or labels.max() >= classes:
            raise ValueError(f"validation must hold labels and probabilities of {classes} classes; train the model again")


def target_codes(target: str, malignant: Sequence[str]) -> tuple[str, ...]:
    """List the classes whose probabilities a target adds up.

    Args:
        target: Code of a class, or `malignant`.
        malignant: Codes of the malignant classes.
    """
    return tuple(malignant) if target == MALIGNANT and malignant else (target,)


def reached_targets(points: Sequence[OperatingPoint], probs: Mapping[str, float], malignant: Sequence[str]) -> tuple[str, ...]:
    """List the targets whose threshold an image reaches.

    Args:
        points: Operating points.
        probs: Calibrated probability of each class by code.
        malignant: Codes of the malignant classes.
    """
    return tuple(
        point.target for point in points if sum(probs[code] for code in target_codes(point.target, malignant)) >= point.threshold
    )


def has_target(target: str, labels: NDArray[np.integer], *, classes: Sequence[str], malignant: Sequence[str]) -> bool:
    """Check that at least one image has a target, see `fit_point`."""
    return bool(np.isin(labels, _indices(target, classes, malignant)).any())


def fit_point(
    target: str,
    sensitivity: float,
    probs: FloatArray,
    labels: NDArray[np.integer],
    *,
    classes: Sequence[str],
    malignant: Sequence[str],
) -> OperatingPoint:
    """Fit the highest threshold with at least a given sensitivity.

    Args:
        target: Code of a class, or `malignant`.
        sensitivity: Smallest sensitivity, in (0, 1].
        probs: Calibrated probabilities, shape (N, C).
        labels: Class index of each image, shape (N,); at least one image has the target.
        classes: Codes of the classes, C of them.
        malignant: Codes of the malignant classes.
    """
    indices = _indices(target, classes, malignant)
    threshold = threshold_for_sensitivity(probs[:, indices].sum(axis=1), np.isin(labels, indices), sensitivity)
    return OperatingPoint(target, min(max(0.0, threshold - ROUNDING), 1.0), sensitivity)


def threshold_for_sensitivity(scores: FloatArray, positive: NDArray[np.bool_], target: float) -> float:
    """Find the highest threshold with at least a given sensitivity.

    Args:
        scores: Score of each image, shape (N,); a score equal to the threshold reaches it.
        positive: True on images that have the diagnosis, bool, shape (N,).
        target: Smallest sensitivity, in (0, 1].

    Raises:
        ValueError: `target` is outside (0, 1], or no image is positive.
    """
    if not 0 < target <= 1 or not positive.any():
        raise ValueError(f"target must be in (0, 1] and at least one image positive, got {target} and {positive.sum()} images")
    descending = np.sort(scores[positive])[::-1]
    # The tolerance keeps 0.95 of 20 images at 19 despite rounding of the product.
    return float(descending[max(math.ceil(target * descending.size - 1e-9), 1) - 1])


def check_targets(points: Sequence[OperatingPoint], classes: Collection[str], malignant: Sequence[str]) -> None:
    """Check that targets are classes or `malignant`, and that they differ.

    Raises:
        ValueError: Two points have one target, or a target is neither a class nor `malignant`.
    """
    targets = [point.target for point in points]
    if len(set(targets)) != len(targets):
        raise ValueError(f"operating_points must list each target once, got {', '.join(targets)}")
    named = {*malignant, *(code for target in targets for code in target_codes(target, malignant))}
    if not named <= set(classes):
        raise ValueError(f"malignant and operating_points must be among the classes, got {', '.join(sorted(named))}")


def _indices(target: str, classes: Sequence[str], malignant: Sequence[str]) -> list[int]:
    return [classes.index(code) for code in target_codes(target, malignant)]


def _split(hashes: str) -> list[str]:
    return [hashes[start : start + _HASH_CHARACTERS] for start in range(0, len(hashes), _HASH_CHARACTERS)]


def _encode(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(values.astype(dtype).tobytes()).decode()


def _decode(text: str, dtype: str) -> NDArray[Any]:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"validation must be base64 ({error}); train the model again") from error
