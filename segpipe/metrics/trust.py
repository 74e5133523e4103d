"""Trust in a finding: rules from its evidence to a color."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GREEN, AMBER, RED = COLORS = ("green", "amber", "red")

# Doubts that make a finding red on their own.
SERIOUS = ("gate", "no_lesion")
DOUBTS = (*SERIOUS, "contour", "views", "set", "heatmap", "similar", "known")


@dataclass(frozen=True)
class Evidence:
    """Evidence on a finding; None where there is none.

    Attributes:
        gate: True where the input gate accepts the image.
        mask_source: Source of the mask, `given`, `unet`, `contour` or `whole_image`; only `contour` is a doubt.
        unsure: True where the image is uniform, or no lesion was found.
        spread: Largest standard deviation of a class's probability over the views, in [0, 1].
        set_size: Number of diagnoses in the prediction set.
        in_lesion: Fraction of the heatmap in the lesion, in [0, 1].
        agreeing: Fraction of the similar cases that have the diagnosis, in [0, 1].
        known: True where the photograph, or a near copy, was in the training data.
    """

    gate: bool | None
    mask_source: str
    unsure: bool
    spread: float | None
    set_size: int | None
    in_lesion: float | None
    agreeing: float | None
    known: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the evidence that is not there."""
        names = {"gate": "gate", "spread": "views", "set_size": "set", "in_lesion": "heatmap", "agreeing": "similar"}
        return tuple(doubt for name, doubt in names.items() if getattr(self, name) is None)


@dataclass(frozen=True)
class Trust:
    """Judgment on a finding.

    Attributes:
        color: `green`, `amber` or `red`.
        doubts: Codes of `DOUBTS`; empty for a green finding.
        missing: Codes of doubts that could not be examined.
    """

    color: str
    doubts: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class TrustRules:
    """Rules of a classifier's card.

    A finding is red with a serious doubt, or with `red_from` doubts; amber with fewer; green with none. Evidence that is missing
    gives no doubt. The defaults were set on the validation images of HAM10000.

    Attributes:
        max_spread: Largest spread over the views without a doubt, in [0, 1].
        max_set_size: Largest prediction set without a doubt, 1 or more.
        min_in_lesion: Smallest fraction of the heatmap in the lesion without a doubt, in [0, 1].
        min_agreeing: Smallest fraction of agreeing similar cases without a doubt, in [0, 1].
        red_from: Number of doubts from which a finding is red, 1 or more.
        test: Metrics of each color on the test images, each with `value`, `low` and `high`; empty if not measured.

    Raises:
        ValueError: A number is outside its range.
    """

    max_spread: float = 0.1
    max_set_size: int = 1
    min_in_lesion: float = 0.5
    min_agreeing: float = 0.5
    red_from: int = 2
    test: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fractions = {name: getattr(self, name) for name in ("max_spread", "min_in_lesion", "min_agreeing")}
        for name, value in fractions.items():
            if not 0 <= value <= 1:
                raise ValueError(f"trust.{name} must be in [0, 1], got {value}")
        for name in ("max_set_size", "red_from"):
            if getattr(self, name) < 1:
                raise ValueError(f"trust.{name} must be 1 or more, got {getattr(self, name)}")

    def judge(self, evidence: Evidence) -> Trust:
        """Judge a finding by its evidence."""
        fires = {
            "gate": evidence.gate is False,
            "no_lesion": evidence.unsure,
            "contour": evidence.mask_source == "contour",
            "views": evidence.spread is not None and evidence.spread > self.max_spread,
            "set": evidence.set_size is not None and evidence.set_size > self.max_set_size,
            "heatmap": evidence.in_lesion is not None and evidence.in_lesion < self.min_in_lesion,
            "similar": evidence.agreeing is not None and evidence.agreeing < self.min_agreeing,
            "known": evidence.known,
        }
        doubts = tuple(code for code in DOUBTS if fires[code])
        red = len(doubts) >= self.red_from or not set(doubts).isdisjoint(SERIOUS)
        return Trust(RED if red else AMBER if doubts else GREEN, doubts, evidence.missing)


DEFAULT_RULES = TrustRules()  # for cards of older versions
