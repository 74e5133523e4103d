"""Texts of the evidence for and against a diagnosis, from a row.

All functions take a row of the results, see `Finding.to_dict`, so that findings and finished runs are described alike. A row of
an older version has no such columns; nothing is then said.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from segpipe.inference.evidence import ADVICE, OK, UNLIKE_TRAINING, ShownCase, decode_cases, decode_vote
from segpipe.inference.finding import Finding
from segpipe.language import localize_number, translate
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.metrics.trust import AMBER, COLORS, GREEN, RED
from segpipe.report.wording import SEPARATOR, capitalized, class_name, percent, printable, split_names, suspicion_phrases
from segpipe.runs.results import Row

TRUST_TITLE = "How far to trust this"
SIMILAR_TITLE, NUMBERS_TITLE = "Similar cases", "Numbers of the lesion"
KNOWN = "This photograph, or a near copy, was in the training data."
SIMILAR_CAPTION = "Training lesions that look alike to the classifier; the distance is 0 for equal features and at most 2"
SKIN_CAVEAT = "lighting and white balance shift it"
# Shapes, so that a color is never told by color alone.
MARKS = {GREEN: "\N{BLACK CIRCLE}", AMBER: "\N{BLACK DIAMOND}", RED: "\N{BLACK SQUARE}"}

_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NONE = "none for these models"
# Name of missing evidence, and the reason.
_MISSING = {
    "gate": ("input gate", "switched off"),
    "views": ("views", "only one was used"),
    "heatmap": ("heatmap", "none was made"),
    "set": ("prediction set", _NONE),
    "similar": ("similar cases", _NONE),
}
_LEAST_VOTE = 0.05
# Label, meaning, column and decimals.
_MEASURES = (
    ("Asymmetry of the shape", "0 symmetric, 1 at most", "abcd_asymmetry", 2),
    ("Asymmetry of the colors", "0 symmetric, 4 to 16 for most lesions", "abcd_color_asymmetry", 1),
    ("Irregularity of the border", "1 ellipse, 1.03 to 1.5 for most lesions", "abcd_border", 2),
)
_OUTLINES: dict[str, str] = {  # those that raise no doubt
    MaskSource.GIVEN: "outline given by the user",
    MaskSource.UNET: "outline by U-Net",
    MaskSource.WHOLE_IMAGE: "the whole image was classified",
}


@dataclass(frozen=True)
class TrustText:
    """Judgment on a finding in words.

    Attributes:
        color: `green`, `amber` or `red`.
        reasons: Doubts; on a green finding, what was checked.
        missing: Evidence that is not there, with the reason.
    """

    color: str
    reasons: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def rank(self) -> int:
        """Position among the colors, 0 for green to 2 for red."""
        return COLORS.index(self.color)

    @property
    def mark(self) -> str:
        """Sign of the color."""
        return MARKS[self.color]

    @property
    def heading(self) -> str:
        """Title and color."""
        return f"{translate(TRUST_TITLE)}: {translate(self.color)}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """Reasons, then what was not checked."""
        missing = f"{translate('not checked')}: {'; '.join(self.missing)}" if self.missing else ""
        return tuple(capitalized(text) for text in ("; ".join(self.reasons), missing) if text)


def judge_suspicion(row: Row, malignant: Collection[str], points: Sequence[OperatingPoint]) -> tuple[bool, tuple[str, ...]]:
    """Decide whether an image is suspicious, and phrase it."""
    flagged_for = split_names(row["flagged_for"])
    is_malignant = row["diagnosis"] in malignant
    phrases = suspicion_phrases(flagged_for, [point.target for point in points], malignant=is_malignant)
    return bool(flagged_for) or is_malignant, phrases


def trust_text(row: Row) -> TrustText | None:
    """Describe how far to trust a result; None for older rows."""
    color = row.get("trust")
    if color is None:
        return None
    doubts, missing = split_names(row["trust_doubts"]), _missing(row)
    fine = [text for code, text in _fine(row).items() if code not in missing]
    reasons = fine if color == GREEN else [text for code, text in _doubts(row).items() if code in doubts]
    return TrustText(color, tuple(reasons), tuple(_describe_missing(missing)))


def _describe_missing(codes: Sequence[str]) -> list[str]:
    """Name what is missing, together where the reason is the same."""
    reasons = dict.fromkeys(_MISSING[code][1] for code in codes)
    names = {reason: [translate(_MISSING[code][0]) for code in codes if _MISSING[code][1] == reason] for reason in reasons}
    return [f"{translate(' and ').join(group)} ({translate(reason)})" for reason, group in names.items()]


def _missing(row: Row) -> list[str]:
    columns = {"gate": "gate", "views": "tta_spread", "heatmap": "heatmap_in_lesion", "set": "prediction_set"}
    missing = [code for code, column in columns.items() if row[column] is None]
    return missing if row["similar"] else [*missing, "similar"]


def _doubts(row: Row) -> dict[str, str]:
    """Each doubt in words, by its code."""
    codes = split_names(row["prediction_set"])
    spread, overlap = (percent(row[column] or 0) for column in ("tta_spread", "heatmap_in_lesion"))
    return {
        "gate": translate("the input gate: {reasons}", reasons=", ".join(map(_gate_title, split_names(row["gate"])))),
        "no_lesion": translate("no lesion was found, or the image is uniform"),
        "contour": translate("the outline comes from the contour"),
        "views": translate("the views disagree (spread {percent})", percent=spread),
        "set": translate("{count} are possible ({names})", count=_count_diagnoses(len(codes)), names=any_of(codes)),
        "heatmap": translate("only {percent} of the heatmap is in the lesion", percent=overlap),
        "similar": translate("only {agreement}", agreement=_agreement(row)),
        "known": translate("this photograph, or a near copy, was in the training data"),
    }


def _fine(row: Row) -> dict[str, str]:
    """What was checked without a doubt, by the code of the doubt."""
    return {
        "gate": translate("image accepted"),
        "contour": translate(_OUTLINES.get(row["mask_source"], "")),
        "set": _count_diagnoses(len(split_names(row["prediction_set"]))),
        "views": translate("views agree"),
        "heatmap": translate("heatmap in the lesion"),
        "similar": _agreement(row),
    }


def _agreement(row: Row) -> str:
    cases = similar_cases(row)
    count = sum(case.diagnosis == row["diagnosis"] for case in cases)
    agreeing = translate("agrees" if count == 1 else "agree")
    return translate("{count} of {total} similar cases {agree}", count=count, total=len(cases), agree=agreeing)


def _gate_title(code: str) -> str:
    return translate("unlike the training images") if code == UNLIKE_TRAINING else translate(printable(code.replace("_", " ")))


def _count_diagnoses(number: int) -> str:
    count = _COUNTS[number] if number < len(_COUNTS) else str(number)
    return translate("one diagnosis") if number == 1 else translate("{count} diagnoses", count=translate(count))


def any_of(codes: Sequence[str]) -> str:
    """Join the names of classes by commas and "or"."""
    *others, last = [class_name(code) for code in codes] or [""]
    return f"{', '.join(others)} {translate('or')} {last}" if others else last


def set_text(row: Row, coverage: float | None) -> str | None:
    """Describe the prediction set; None where there is none.

    Args:
        row: Row of the results.
        coverage: Probability with which it holds the true diagnosis, in (0, 1); None if unknown.
    """
    codes = split_names(row.get("prediction_set"))
    if not codes:
        return None
    if coverage is None:
        return any_of(codes)
    covered = localize_number(f"{100 * coverage:.3g} %")
    return f"{any_of(codes)} ({translate('covers the true diagnosis in {percent} of cases', percent=covered)})"


def gate_sentences(row: Row) -> tuple[str, ...]:
    """Advice for each reason of the gate; empty for an accepted image."""
    gate = row.get("gate")
    if gate is None or gate == OK:
        return ()
    return tuple(translate(ADVICE[code]) if code in ADVICE else printable(code) for code in split_names(gate))


def evidence_paragraph(row: Row, coverage: float | None) -> str:
    """Join everything below the heading of the trust; empty for older rows.

    Args:
        row: Row of the results.
        coverage: Coverage of the prediction set, see `set_text`.
    """
    trust, possible = trust_text(row), set_text(row, coverage)
    listed = () if possible is None else (f"{translate('Prediction set')}: {possible}",)
    sentences = (*(() if trust is None else trust.sentences), *gate_sentences(row), *listed)
    return " ".join(f"{sentence.removesuffix('.')}." for sentence in sentences)


def set_coverage(finding: Finding) -> float | None:
    """Coverage of the prediction set of a finding; None if unknown."""
    return None if finding.conformal is None else finding.conformal.coverage


def similar_cases(row: Row) -> tuple[ShownCase, ...]:
    """Similar cases, the nearest first; empty where there are none."""
    return decode_cases(row.get("similar") or "")


def vote_text(row: Row) -> str | None:
    """Describe the vote of all training cases; None where there is none."""
    if not row.get("similar_vote"):
        return None
    vote = sorted(decode_vote(row["similar_vote"]).items(), key=lambda item: -item[1])
    return ", ".join(f"{class_name(code)} {percent(weight)}" for code, weight in vote if weight >= _LEAST_VOTE)


def lesion_numbers(row: Row) -> list[tuple[str, str]]:
    """Labels and values of the lesion, without its colors.

    Empty for a row of an older version, and without an outline.
    """
    if not has_numbers(row):
        return []
    millimeters, angle = row["abcd_diameter_mm"], row["skin_ita"]
    diameter = localize_number(f"{row['abcd_diameter_px']:,.0f} px")
    shown = diameter if millimeters is None else localize_number(f"{millimeters:.1f} mm") + SEPARATOR + diameter
    numbers = [
        *(_measure(label, meaning, row[column], digits) for label, meaning, column, digits in _MEASURES),
        (translate("Largest diameter"), shown),
    ]
    if angle is None:
        return numbers
    return [*numbers, (translate("Typology angle of the skin"), f"{angle:.0f}\N{DEGREE SIGN} ({translate(SKIN_CAVEAT)})")]


def _measure(label: str, meaning: str, value: float, digits: int) -> tuple[str, str]:
    return translate(label), f"{localize_number(f'{value:.{digits}f}')} ({translate(meaning)})"


def lesion_colors(row: Row) -> list[str]:
    """Names of the lesion's colors, the largest first; see `lesion_numbers`."""
    return split_names(row["abcd_color_names"]) if has_numbers(row) else []


def has_numbers(row: Row) -> bool:
    """True where the row describes the shape and colors of a lesion."""
    return row.get("abcd_asymmetry") is not None and row["mask_source"] != MaskSource.WHOLE_IMAGE
