"""Ground truth in a report: diagnosis, outline and Dice."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segpipe.metrics.trust import GREEN, RED
from segpipe.report.wording import SEPARATOR, capitalized, name_with_code
from segpipe.runs.results import Row

RIGHT, WRONG = "right", "wrong"
# Shapes, so that neither is told by color alone.
VERDICT_SIGNS = {RIGHT: "\N{CHECK MARK}", WRONG: "\N{BALLOT X}"}


@dataclass(frozen=True)
class ReportTruth:
    """Ground truth of the images by the path of their rows.

    Attributes:
        diagnoses: Code of each labeled image.
        masks: File of each true mask.
        metrics: Content of `metrics.json`; empty where the run was not scored.
    """

    diagnoses: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def interval(self, part: str, name: str) -> Mapping[str, float] | None:
        """Return `value`, `low` and `high` of a metric; None if undefined."""
        metric: Mapping[str, float] | None = self.metrics.get(part, {}).get("metrics", {}).get(name)
        return None if metric is None or metric["value"] is None else metric


NO_TRUTH = ReportTruth()


@dataclass(frozen=True)
class TrueDiagnosis:
    """True diagnosis of an image beside the predicted one.

    Attributes:
        code: Code of the true class.
        correct: True where the prediction equals it.
        malignant: True where it is malignant.
        missed: True where it is malignant and the image is not suspicious: no operating point is reached, and the predicted
            class is not malignant either.
    """

    code: str
    correct: bool
    malignant: bool
    missed: bool

    @property
    def verdict(self) -> str:
        """`right` or `wrong`."""
        return RIGHT if self.correct else WRONG

    @property
    def rank(self) -> int:
        """Severity: 2 for missed malignant, 1 for other wrong, 0 for correct."""
        return 2 if self.missed else int(not self.correct)


@dataclass(frozen=True)
class TrueMask:
    """True mask of an image beside the predicted one.

    Attributes:
        dice: Dice of both masks, in [0, 1].
        size: Width and height of the coordinates of `outline`.
        outline: Closed outlines of the true mask as the data of an SVG path.
    """

    dice: float
    size: tuple[int, int]
    outline: str


def truth_sentence(true: TrueDiagnosis) -> str:
    """State whether a diagnosis is right, and the true one."""
    missed = f"{SEPARATOR}missed malignant" if true.missed else ""
    return f"{VERDICT_SIGNS[true.verdict]} {capitalized(true.verdict)}: the true diagnosis is {name_with_code(true.code)}{missed}"


def truth_color(true: TrueDiagnosis) -> str:
    """Name of the color of a verdict, see `segpipe.metrics.trust`."""
    return GREEN if true.correct else RED


def true_diagnosis(row: Row, truth: ReportTruth, *, malignant: Collection[str], suspicious: bool) -> TrueDiagnosis | None:
    """Compare a diagnosis with the true one; None if that is unknown.

    Args:
        row: Row of the results.
        truth: Ground truth of the run.
        malignant: Codes of the malignant classes.
        suspicious: True for a suspicious image, see `segpipe.report.evidence.judge_suspicion`.
    """
    code = truth.diagnoses.get(row["path"])
    if code is None:
        return None
    is_malignant = code in malignant
    return TrueDiagnosis(code, code == row["diagnosis"], is_malignant, is_malignant and not suspicious)
