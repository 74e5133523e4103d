"""Evidence of a finding: judgment of the input gate, similar training cases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

OK = "ok"
UNLIKE_TRAINING = "unlike_training"
ADVICE: dict[str, str] = {
    "too_small": "The image is smaller than 128 pixels: use the original file, not a preview.",
    "out_of_focus": "The image is out of focus: clean the lens, hold the dermatoscope still, and focus on the lesion.",
    "too_dark": "The image is too dark: switch the dermatoscope's light on, or expose longer.",
    "burnt_out": "Parts of the image are burnt out to white: expose shorter.",
    "glare": "Light is reflected on the lesion: use polarized light, or immersion fluid without bubbles.",
    "little_skin": "Almost nothing in the image has a color of skin: give a dermoscopic photograph in its own colors.",
    "nothing_found": "No lesion was found in the image: center one lesion, with some skin around it.",
    "out_of_frame": "The lesion runs out of the frame: take the photograph from farther away, or in several parts.",
    UNLIKE_TRAINING: "The image is unlike those that the models were trained on: give a dermoscopic photograph of one lesion.",
}
SIMILAR_COLUMNS = ("similar", "similar_vote", "similar_known")


@dataclass(frozen=True)
class GateResult:
    """Judgment of the input gate on one image.

    Attributes:
        reasons: Codes of `ADVICE` against the image; empty for an accepted one.
        score: Distance from the training images as a multiple of the largest accepted one; None without features or reference.
        advice: One sentence for each reason.
    """

    reasons: tuple[str, ...]
    score: float | None
    advice: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True for an accepted image."""
        return not self.reasons

    @property
    def text(self) -> str:
        """`ok`, or the reasons joined by semicolons, as in `results.csv`."""
        return ";".join(self.reasons) or OK


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
        cases: Up to eight cases, nearest first.
        vote: Weight of each class among all cases by code, in the card's order; the weights sum to 1.
        known: True where this photograph, or a near copy, was in the training data.
    """

    cases: tuple[SimilarCase, ...]
    vote: Mapping[str, float]
    known: bool

    def fraction_of(self, diagnosis: str) -> float | None:
        """Fraction of the cases that have a diagnosis; None without cases."""
        return sum(case.diagnosis == diagnosis for case in self.cases) / len(self.cases) if self.cases else None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of `results.csv`, `SIMILAR_COLUMNS`.

        Returns:
            `similar`, entries `<image id>:<diagnosis>:<distance>` joined by `;`; `similar_vote`, entries `<code>=<weight>` joined
            by `;`; and `similar_known`.
        """
        cases = [f"{quote(case.image_id)}:{case.diagnosis}:{case.distance:.4f}" for case in self.cases]
        vote = [f"{code}={weight:.4g}" for code, weight in self.vote.items()]
        return dict(zip(SIMILAR_COLUMNS, (";".join(cases), ";".join(vote), self.known), strict=True))


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
