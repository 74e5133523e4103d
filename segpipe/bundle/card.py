"""Cards of trained models, and bundles: a loaded model with its card."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from segpipe.bundle.records import GraphRecord, ReferenceRecord, Training, library_versions
from segpipe.diagnosis import check_class_name
from segpipe.io.run_files import GRAPHS, REFERENCES
from segpipe.lesion.crop import CropRule
from segpipe.metrics.conformal import ConformalSets, fit_sets
from segpipe.metrics.operating_points import OperatingPoint, ValidationProbs, check_targets
from segpipe.metrics.trust import TrustRules
from segpipe.models.preprocessing import InputSpec

if TYPE_CHECKING:
    from torch import nn

    from segpipe.models.classifier import LesionClassifier

LICENCE = "CC BY-NC 4.0 where trained on HAM10000 or ISIC 2019, or from weights that were (non-commercial), see LICENSE"
INTENDED_USE = "Research and teaching on dermoscopic photographs. Not a medical device: not for diagnosis or treatment."


@dataclass(frozen=True, kw_only=True)
class Card:
    """Fields that the cards of segmenters and classifiers share.

    Attributes:
        arguments: Arguments of the builder of the network.
        input: Input size, mean and std.
        training: Record of the training.
        metrics: Metrics on the test split, with intervals where they were computed.
        versions: Versions of segpipe, Python and the libraries.
        licence: Licence of the weights.
        intended_use: Intended use, and uses that are excluded.
        graphs: ONNX graphs of the bundle by file name, see `segpipe.bundle.graphs`; empty for none.
        references: Reference data of the bundle by file name, see `segpipe.bundle.references`; empty for none.

    Raises:
        ValueError: `metrics.metrics` holds anything but scores, see `segpipe.metrics.bootstrap.with_intervals`, or the number
            of images is missing, or a graph or reference data have an unknown
            name.
    """

    arguments: Mapping[str, Any]
    input: InputSpec
    training: Training
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=library_versions)
    licence: str = LICENCE
    intended_use: str = INTENDED_USE
    graphs: Mapping[str, GraphRecord] = field(default_factory=dict)
    references: Mapping[str, ReferenceRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scores = self.metrics.get("metrics", {})
        if not isinstance(scores, Mapping) or not all(map(_is_score, scores.values())):
            raise ValueError("metrics.metrics must hold scores, each with value, low and high, which are numbers or null")
        if scores and type(self.metrics.get("images")) is not int:
            raise ValueError(f"metrics.images must be the number of scored images, got {self.metrics.get('images')!r}")
        for name, found, allowed in (("graphs", self.graphs, GRAPHS), ("references", self.references, REFERENCES)):
            if unknown := sorted(found.keys() - set(allowed)):
                raise ValueError(f"{name} must be among {', '.join(allowed)}, got {', '.join(unknown)}")


def _is_score(score: Any) -> bool:
    if not isinstance(score, Mapping):
        return False
    numbers = [score.get(name, "missing") for name in ("value", "low", "high")]
    return all(isinstance(number, int | float | None) and not isinstance(number, bool) for number in numbers)


@dataclass(frozen=True, kw_only=True)
class SegmenterCard(Card):
    """Card of a U-Net.

    Raises:
        ValueError: The input size is not a multiple of 32, which the U-Net halves five times.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input.size % 32:
            raise ValueError(f"input.size must be a multiple of 32 for a U-Net, got {self.input.size}")


@dataclass(frozen=True, kw_only=True)
class ClassifierCard(Card):
    """Card of a classifier.

    Attributes:
        classes: Codes in the order of the logits, two or more, each as `segpipe.diagnosis.check_class_name` allows.
        malignant: Codes of the malignant classes; empty where they are not known.
        crop: Crop rule of the network.
        temperature: Divisor of the logits before the softmax, arXiv 1706.04599, 0.001 to 1,000; 1 where none was fitted.
        logit_bias: Bias of each class, added after that division, -1,000 to 1,000; empty for none.
        calibration: Calibration errors on the validation images for each method of `segpipe.metrics.calibration.METHODS`, and
            the name of the `chosen` method.
        operating_points: Probabilities from which on an image is suspicious; empty where none was chosen.
        validation: Probabilities of the validation images, from which an ensemble fits its operating points and prediction
            sets; None where they were not kept.
        conformal: Thresholds of the prediction sets; None in the cards of older versions.
        trust: Rules that judge how far to trust a finding; None in the cards of older versions.

    Raises:
        ValueError: A class is listed twice, is malignant twice, or has a forbidden name; a class `malignant` is not the only
            malignant one; a field names an unknown class; an operating point, the validation probabilities or the prediction
            sets do not fit; the temperature or a bias is outside its range; or the number of biases is not the number of
            classes.
    """

    classes: tuple[str, ...]
    malignant: tuple[str, ...]
    crop: CropRule
    temperature: float = 1.0
    logit_bias: tuple[float, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    operating_points: tuple[OperatingPoint, ...] = ()
    validation: ValidationProbs | None = None
    conformal: ConformalSets | None = None
    trust: TrustRules | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for code in self.classes:
            check_class_name(code)
        if len(self.classes) < 2 or any(len(set(codes)) != len(codes) for codes in (self.classes, self.malignant)):
            raise ValueError(
                f"classes must be two or more, each listed once, and malignant classes listed once, got "
                f"{', '.join(self.classes) or 'none'} and {', '.join(self.malignant) or 'none'}"
            )
        check_targets(self.operating_points, self.classes, self.malignant)
        if "malignant" in self.classes and self.malignant != ("malignant",):  # the column p_malignant is the sum over these
            raise ValueError(f"malignant must name the class malignant alone, got {', '.join(self.malignant) or 'none'}")
        if not 1e-3 <= self.temperature <= 1e3:
            raise ValueError(f"temperature must lie in [0.001, 1000], got {self.temperature}")
        if self.validation is not None:
            self.validation.check(len(self.classes))
        if self.conformal is not None:
            self.conformal.check(self.classes)
        if self.logit_bias and len(self.logit_bias) != len(self.classes):
            raise ValueError(f"logit_bias must hold {len(self.classes)} values or none, got {len(self.logit_bias)}")
        if not all(abs(bias) <= 1e3 for bias in self.logit_bias):
            raise ValueError(f"logit_bias must lie in [-1000, 1000], got {self.logit_bias}")

    def with_prediction_sets(self, coverage: float) -> "ClassifierCard":
        """Return a copy with prediction sets fitted to the validation probabilities.

        It has none where the card does not keep these probabilities with the lesions of their images.

        Args:
            coverage: Smallest probability with which a set contains the true class, in (0, 1).
        """
        if self.validation is None or not self.validation.lesions:
            return replace(self, conformal=None)
        labels, probs = self.validation.unpack()
        lesions = self.validation.lesion_hashes
        return replace(self, conformal=fit_sets(probs, labels, lesions, classes=self.classes, coverage=coverage))


def kind_of(card: Card) -> str:
    """Return the kind of a card, `segmenter` or `classifier`."""
    return "classifier" if isinstance(card, ClassifierCard) else "segmenter"


def outputs_of(card: Card) -> dict[str, Any]:
    """Return `kind` and `classes` of a card; no classes for a segmenter."""
    return {"kind": kind_of(card), "classes": list(card.classes) if isinstance(card, ClassifierCard) else None}


class _Loaded:
    """A network in memory."""

    model: "nn.Module"

    @property
    def weight_count(self) -> int:
        """Number of trained values."""
        return sum(tensor.numel() for tensor in self.model.parameters())


@dataclass(frozen=True)
class SegmenterBundle(_Loaded):
    """A loaded U-Net with its card.

    Attributes:
        model: Network, float32, in eval mode, on the CPU.
        card: Card of the network.
        sha256: SHA-256 of the weights file.
    """

    model: "nn.Module"
    card: SegmenterCard
    sha256: str


@dataclass(frozen=True)
class ClassifierBundle(_Loaded):
    """A loaded classifier with its card; the fields are those of `SegmenterBundle`."""

    model: "LesionClassifier"
    card: ClassifierCard
    sha256: str


def fingerprint(card: Card, sha256: str) -> str:
    """Hash a card without its graphs, and the SHA-256 of its weights."""
    fields = {name: value for name, value in asdict(card).items() if name != "graphs"}
    text = json.dumps(fields, sort_keys=True, default=str)
    return hashlib.sha256((sha256 + text).encode()).hexdigest()
