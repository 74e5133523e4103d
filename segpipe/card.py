"""What a trained model says of itself: what to build, how to feed it, how it was made, how good it is, what it is for."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from segpipe.lesion.crop import CropRule
from segpipe.models.preprocessing import InputSpec

LIBRARIES = ("torch", "timm", "segmentation-models-pytorch", "lightning", "numpy", "opencv-python-headless")
LICENCE = "CC BY-NC 4.0 where trained on HAM10000 or ISIC 2019, or from weights that were (non-commercial), see LICENSE"
INTENDED_USE = "Research and teaching on dermoscopic photographs. Not a medical device: not for diagnosis or treatment."


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a model's numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


@dataclass(frozen=True)
class Training:
    """How a model was made.

    Attributes:
        dataset: name of the data set's folder.
        dataset_hash: SHA-256 of its image ids.
        split_hash: SHA-256 of the split, see `segpipe.data.splits.split_hash`.
        images: number of training images.
        counts: images of each class in each part; empty in the cards of older versions.
        epochs: trained in all.
        best_epoch: whose weights these are, counted from 0.
        settings: the resolved configuration of the training.
        leaks_allowed: the training was told that starting weights or test crops may come from a model that saw the test lesions.
        seen: the images and lesions that went into the weights, those of the starting weights too, see
            `segpipe.data.fingerprints`; empty in the cards of older versions.
        changes: Settings that changed where the training resumed: `epoch` (the first with the new value), `key`, `before` and
            `after` of each.
    """

    dataset: str
    dataset_hash: str
    split_hash: str
    images: int
    epochs: int
    best_epoch: int
    settings: Mapping[str, Any]
    leaks_allowed: bool = False
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class OperatingPoint:
    """From which probability of a diagnosis on an image is flagged.

    Attributes:
        diagnosis: code of the class.
        threshold: calibrated probability in [0, 1].
        target_sensitivity: share of the diagnosis that the threshold was to find among the validation images; None where it was
            chosen in another way.

    Raises:
        ValueError: `threshold` is outside [0, 1].
    """

    diagnosis: str
    threshold: float
    target_sensitivity: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What both kinds of model say of themselves.

    Attributes:
        arguments: of the builder of this kind.
        input: size, mean and std.
        training: how it was made.
        metrics: on the test split, with intervals where they were computed.
        versions: of the libraries and of Python.
        licence: of the weights.
        intended_use: and what it is not for.
    """

    arguments: Mapping[str, Any]
    input: InputSpec
    training: Training
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=library_versions)
    licence: str = LICENCE
    intended_use: str = INTENDED_USE


@dataclass(frozen=True, kw_only=True)
class SegmenterCard(Card):
    """Card of a U-Net."""


@dataclass(frozen=True, kw_only=True)
class ClassifierCard(Card):
    """Card of a classifier.

    Attributes:
        classes: codes in the order of the logits.
        malignant: codes of the malignant classes; empty where it is not known.
        crop: how the lesion is cut out for it.
        temperature: logits are divided by it before the softmax, arXiv 1706.04599; 1 where none was fitted.
        logit_bias: of each class, added after that division; empty for none.
        calibration: on the validation images, for each method of `segpipe.evaluation.calibration.METHODS`, its errors; and which
            one was `chosen`.
        operating_point: None where none was chosen.

    Raises:
        ValueError: classes are doubled, another field names none of them, the temperature is not above 0, or
            there is not one bias for each class.
    """

    classes: tuple[str, ...]
    malignant: tuple[str, ...]
    crop: CropRule
    temperature: float = 1.0
    logit_bias: tuple[float, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    operating_point: OperatingPoint | None = None

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be there, each once, got {self.classes}")
        named = {*self.malignant, *([self.operating_point.diagnosis] if self.operating_point else [])}
        if not named <= set(self.classes):
            raise ValueError(f"malignant and operating_point must be among the classes, got {', '.join(sorted(named))}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.logit_bias and len(self.logit_bias) != len(self.classes):
            raise ValueError(f"logit_bias must hold {len(self.classes)} values or none, got {len(self.logit_bias)}")
