"""What a trained model says of itself: what to build, how to feed it, how it was made, how good it is, what it is for."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from segpipe import __version__
from segpipe.diagnosis import check_class_name
from segpipe.errors import BundleError, one_line
from segpipe.io.strict_json import encode_json
from segpipe.lesion.crop import CropRule
from segpipe.metrics.operating_points import OperatingPoint, ValidationProbs, check_targets
from segpipe.models.preprocessing import InputSpec

FORMAT = "segpipe-bundle-1"
CARD = "card.json"
LIBRARIES = ("torch", "timm", "segmentation-models-pytorch", "lightning", "numpy", "opencv-python-headless")
LICENCE = "CC BY-NC 4.0 where trained on HAM10000 or ISIC 2019, or from weights that were (non-commercial), see LICENSE"
INTENDED_USE = "Research and teaching on dermoscopic photographs. Not a medical device: not for diagnosis or treatment."


def library_versions() -> dict[str, str]:
    """Versions of segpipe, of Python, and of the libraries that a model's numbers depend on."""
    return {"segpipe": __version__, "python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


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


@dataclass(frozen=True, kw_only=True)
class Card:
    """What both kinds of model say of themselves.

    Attributes:
        arguments: of the builder of this kind.
        input: size, mean and std.
        training: how it was made.
        metrics: on the test split, with intervals where they were computed.
        versions: of segpipe, of Python and of the libraries.
        licence: of the weights.
        intended_use: and what it is not for.

    Raises:
        ValueError: `metrics.metrics` holds something else than scores, see `segpipe.metrics.bootstrap.with_intervals`, or the
            number of images is missing.
    """

    arguments: Mapping[str, Any]
    input: InputSpec
    training: Training
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=library_versions)
    licence: str = LICENCE
    intended_use: str = INTENDED_USE

    def __post_init__(self) -> None:
        scores = self.metrics.get("metrics", {})
        if not isinstance(scores, Mapping) or not all(map(_is_score, scores.values())):
            raise ValueError("metrics.metrics must name scores, each with value, low and high, which are numbers or null")
        if scores and type(self.metrics.get("images")) is not int:
            raise ValueError(f"metrics.images must be the number of images that were scored, got {self.metrics.get('images')!r}")


def _is_score(score: Any) -> bool:
    if not isinstance(score, Mapping):
        return False
    numbers = [score.get(name, "missing") for name in ("value", "low", "high")]
    return all(isinstance(number, int | float | None) and not isinstance(number, bool) for number in numbers)


@dataclass(frozen=True, kw_only=True)
class SegmenterCard(Card):
    """Card of a U-Net.

    Raises:
        ValueError: the input size is no multiple of 32, which the U-Net halves five times.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input.size % 32:
            raise ValueError(f"input.size must be a multiple of 32 for a U-Net, got {self.input.size}")


@dataclass(frozen=True, kw_only=True)
class ClassifierCard(Card):
    """Card of a classifier.

    Attributes:
        classes: codes in the order of the logits, two or more, each as `segpipe.diagnosis.check_class_name` allows.
        malignant: codes of the malignant classes; empty where it is not known.
        crop: how the lesion is cut out for it.
        temperature: logits are divided by it before the softmax, arXiv 1706.04599, 0.001 to 1,000; 1 where none was fitted.
        logit_bias: of each class, added after that division, -1,000 to 1,000; empty for none.
        calibration: on the validation images, for each method of `segpipe.metrics.calibration.METHODS`, its errors; and which
            one was `chosen`.
        operating_points: from which probabilities on an image is suspicious; empty where none was chosen.
        validation: probabilities of the validation images, from which an ensemble fits its operating points; None where they
            were not kept.

    Raises:
        ValueError: a class is named twice, is malignant twice, or has a name that no class may have; a class `malignant` is not
            the only malignant one; another field names a class that is none; an operating point or the validation probabilities
            do not fit; the temperature or a bias is outside its range; or
            there is not one bias for each class.
    """

    classes: tuple[str, ...]
    malignant: tuple[str, ...]
    crop: CropRule
    temperature: float = 1.0
    logit_bias: tuple[float, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    operating_points: tuple[OperatingPoint, ...] = ()
    validation: ValidationProbs | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for code in self.classes:
            check_class_name(code)
        if len(self.classes) < 2 or any(len(set(codes)) != len(codes) for codes in (self.classes, self.malignant)):
            raise ValueError(
                f"classes must be there, two or more, each once, and malignant each once, got {', '.join(self.classes) or 'none'}"
                f" and {', '.join(self.malignant) or 'none'}"
            )
        check_targets(self.operating_points, self.classes, self.malignant)
        if "malignant" in self.classes and self.malignant != ("malignant",):  # the column p_malignant is the sum over these
            raise ValueError(f"malignant must name the class malignant alone, got {', '.join(self.malignant) or 'none'}")
        if not 1e-3 <= self.temperature <= 1e3:
            raise ValueError(f"temperature must lie in [0.001, 1000], got {self.temperature}")
        if self.validation is not None:
            self.validation.check(len(self.classes))
        if self.logit_bias and len(self.logit_bias) != len(self.classes):
            raise ValueError(f"logit_bias must hold {len(self.classes)} values or none, got {len(self.logit_bias)}")
        if not all(abs(bias) <= 1e3 for bias in self.logit_bias):
            raise ValueError(f"logit_bias must lie in [-1000, 1000], got {self.logit_bias}")


AnyCard = TypeVar("AnyCard", bound=Card)


def parse_card(folder: Path, content: Any, kind: str, schema: type[AnyCard]) -> AnyCard:
    """Check the content of a card and build the card.

    Args:
        folder: folder of the bundle, for messages.
        content: parsed `card.json`; the keys `format` and `kind` are removed from it.
        kind: `segmenter` or `classifier`.
        schema: class of the card.

    Raises:
        BundleError: the content is damaged, foreign, or of the other kind.
    """
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise BundleError(f"{folder}: {CARD} is not that of a {FORMAT}; train or ship the model with this version of segpipe")
    found = one_line(str(content.pop("kind", None)))
    if found != kind:
        raise BundleError(
            f"{folder}: must be the bundle of a {kind}, got that of a {found}; name a {kind}, with bundle.{kind}= for a command"
        )
    _list_operating_point(content)
    try:
        # Strictly: no text or boolean for a number. By way of JSON, where a list may stand for a tuple.
        return TypeAdapter(schema).validate_json(encode_json(content), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join([".".join(map(str, first["loc"])), first["msg"]])
        raise BundleError(f"{folder}: {CARD} is damaged, {one_line(reason)}") from error


def _list_operating_point(content: dict[str, Any]) -> None:
    """Bring the one operating point of earlier cards, with its test metrics, into the list that it is now."""
    point = content.pop("operating_point", None)
    if point is None or content.get("operating_points"):
        return
    if isinstance(point, dict) and "diagnosis" in point:
        metrics = content.get("metrics")
        values = metrics.get("metrics") if isinstance(metrics, dict) else None
        known = values if isinstance(values, dict) else {}
        names = {name: f"{name}_flagged" for name in ("sensitivity", "specificity")}
        point = {
            **{key: value for key, value in point.items() if key != "diagnosis"},
            "target": point["diagnosis"],
            "test": {name: known[key] for name, key in names.items() if key in known},
        }
    content["operating_points"] = [point]


def kind_of(card: Card) -> str:
    """Return the kind of a card, `segmenter` or `classifier`."""
    return "classifier" if isinstance(card, ClassifierCard) else "segmenter"
