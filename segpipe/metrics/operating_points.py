"""Operating points: from which probability on an image is suspicious for a diagnosis, or for malignancy."""

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
# A threshold is the probability of one of the images, which must not fall below it because it shares a batch with others.
ROUNDING = 1e-6
_HASH_CHARACTERS = 8


@dataclass(frozen=True)
class OperatingPoint:
    """Probability from which on an image is suspicious for a target.

    Attributes:
        target: code of a class, or `malignant`, which stands for the sum of the malignant classes.
        threshold: calibrated probability in [0, 1]; it is reached by an equal or larger one.
        target_sensitivity: fraction of the validation images with the target that the threshold was to find, in (0, 1]; None
            where it was chosen in another way.
        test: `sensitivity` and `specificity` on the test images, each with `value`, `low` and `high`; empty where not measured.

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
    """Calibrated probabilities of the validation images, as text that fits on a card.

    An ensemble fits its operating points to the mean of those of its members.

    Attributes:
        images: hashes of the image ids, eight characters each, sorted; see `segpipe.data.fingerprints.hash_id`.
        labels: class index of each image, uint16 in base64.
        probs: probability of each class for each image, float32, shape (N, C), in base64.

    Raises:
        ValueError: a text is no base64, the texts are not of the same number of images, or a probability is outside [0, 1].
    """

    images: str
    labels: str
    probs: str

    def __post_init__(self) -> None:
        count, rest = divmod(len(self.images), _HASH_CHARACTERS)
        labels, probs = _decode(self.labels, "<u2"), _decode(self.probs, "<f4")
        if rest or not count or len(labels) != count or len(probs) % count:
            raise ValueError("validation must hold a hash, a label and probabilities for each image; train the model again")
        if not ((probs >= 0) & (probs <= 1)).all():
            raise ValueError("validation must hold probabilities in [0, 1]; train the model again")

    @classmethod
    def pack(cls, hashes: Sequence[str], labels: NDArray[np.integer], probs: FloatArray) -> "ValidationProbs":
        """Store the probabilities of images.

        Args:
            hashes: of the image ids, N of them.
            labels: class index of each image, shape (N,).
            probs: shape (N, C).
        """
        order = np.argsort(np.array(hashes))
        return cls("".join(sorted(hashes)), _encode(labels[order], "<u2"), _encode(np.clip(probs[order], 0, 1), "<f4"))

    def unpack(self) -> tuple[NDArray[np.intp], FloatArray]:
        """Return the class index of each image, shape (N,), and its probabilities, shape (N, C)."""
        labels = _decode(self.labels, "<u2").astype(np.intp)
        return labels, _decode(self.probs, "<f4").astype(np.float64).reshape(len(labels), -1)

    def check(self, classes: int) -> None:
        """Raise a ValueError where labels or probabilities do not fit the number of classes."""
        labels, probs = self.unpack()
        if probs.shape[1] != classes or labels.max() >= classes:
            raise ValueError(f"validation must hold labels and probabilities of {classes} classes; train the model again")


def target_codes(target: str, malignant: Sequence[str]) -> tuple[str, ...]:
    """Codes of the classes whose probabilities a target adds up; `malignant` are the codes of the malignant classes."""
    return tuple(malignant) if target == MALIGNANT and malignant else (target,)


def reached_targets(points: Sequence[OperatingPoint], probs: Mapping[str, float], malignant: Sequence[str]) -> tuple[str, ...]:
    """Targets whose threshold an image reaches.

    Args:
        points: operating points.
        probs: calibrated probability of each class, by code.
        malignant: codes of the malignant classes.
    """
    return tuple(
        point.target for point in points if sum(probs[code] for code in target_codes(point.target, malignant)) >= point.threshold
    )


def has_target(target: str, labels: NDArray[np.integer], *, classes: Sequence[str], malignant: Sequence[str]) -> bool:
    """Whether an image has a target; the arguments are those of `fit_point`."""
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
    """Fit the highest threshold that finds enough of the images with a target.

    Args:
        target: code of a class, or `malignant`.
        sensitivity: fraction to find, in (0, 1].
        probs: calibrated, shape (N, C).
        labels: class index of each image, shape (N,); at least one has the target.
        classes: codes, C of them.
        malignant: codes of the malignant classes.
    """
    indices = _indices(target, classes, malignant)
    threshold = threshold_for_sensitivity(probs[:, indices].sum(axis=1), np.isin(labels, indices), sensitivity)
    return OperatingPoint(target, min(max(0.0, threshold - ROUNDING), 1.0), sensitivity)


def threshold_for_sensitivity(scores: FloatArray, positive: NDArray[np.bool_], target: float) -> float:
    """Find the highest threshold at which at least a fraction `target` of the positives score as much or more.

    Args:
        scores: score of each image, shape (N,).
        positive: images that have the diagnosis, bool, shape (N,).
        target: sensitivity, in (0, 1].

    Raises:
        ValueError: `target` is outside (0, 1], or no image is positive.
    """
    if not 0 < target <= 1 or not positive.any():
        raise ValueError(f"target must be above 0 and at most 1, and images positive, got {target} and {positive.sum()} images")
    found = np.sort(scores[positive])[::-1]
    # The slack keeps 0.95 of 20 images at 19, whatever the last bit of the product says.
    return float(found[max(math.ceil(target * found.size - 1e-9), 1) - 1])


def check_targets(points: Sequence[OperatingPoint], classes: Collection[str], malignant: Sequence[str]) -> None:
    """Raise a ValueError where two points have one target, or a target is no class and not `malignant`."""
    targets = [point.target for point in points]
    if len(set(targets)) != len(targets):
        raise ValueError(f"operating_points must have each target once, got {', '.join(targets)}")
    named = {*malignant, *(code for target in targets for code in target_codes(target, malignant))}
    if not named <= set(classes):
        raise ValueError(f"malignant and operating_points must be among the classes, got {', '.join(sorted(named))}")


def _indices(target: str, classes: Sequence[str], malignant: Sequence[str]) -> list[int]:
    return [classes.index(code) for code in target_codes(target, malignant)]


def _encode(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(values.astype(dtype).tobytes()).decode()


def _decode(text: str, dtype: str) -> NDArray[Any]:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"validation must be base64 ({error}); train the model again") from error
