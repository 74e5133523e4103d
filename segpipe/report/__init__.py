"""Findings for people: a figure, a table in the terminal; here are the words that they share."""

from pathlib import Path

from segpipe.diagnosis import full_name
from segpipe.image_io import display_path
from segpipe.inference.finding import Finding
from segpipe.lesion.localizer import Localization, MaskSource
from segpipe.lesion.quality import REASONS

DISCLAIMER = "Not a medical device: for research and teaching, never for patient care."

_WAYS: dict[str, str] = {
    MaskSource.UNET: "U-Net",
    MaskSource.CONTOUR: "adaptive threshold contour",
    MaskSource.WHOLE_IMAGE: "whole image",
}
_OUTLINES = {
    MaskSource.UNET: "drawn by the U-Net",
    MaskSource.CONTOUR: "drawn by the adaptive threshold contour, which is less reliable than the U-Net",
    MaskSource.WHOLE_IMAGE: "none, so the whole image was classified",
}


def printable(name: str) -> str:
    """A file's or a class's name on one line that any terminal can take, escaped as `display_path` escapes paths."""
    return display_path(Path(name))


def name_with_code(code: str) -> str:
    """The clinical name of a class with its code; a class from outside HAM10000 is its own name."""
    name = printable(full_name(code))
    return name if name == printable(code) else f"{name} ({code})"


def outline_words(localization: Localization) -> str:
    """Who drew the lesion's outline, and how much of the image it holds."""
    words = _OUTLINES[localization.source]
    if localization.source is MaskSource.WHOLE_IMAGE:
        return words
    return f"{words}; it holds {percent(localization.area_fraction)} of the image"


def reason_words(localization: Localization) -> tuple[str, ...]:
    """Why the ways to a mask that were tried before were refused, one sentence each."""
    return tuple(_reason_sentence(reason) for reason in localization.reasons)


def _reason_sentence(reason: str) -> str:
    way, _, code = reason.rpartition(":")
    sentence = REASONS.get(code, printable(code))
    return f"{_WAYS[way]} refused: {sentence}" if way in _WAYS else sentence


def certainty_words(finding: Finding) -> tuple[str, ...]:
    """The spread over the views, the probability of malignancy and the flag, each where the finding has it."""
    words = []
    if finding.p_malignant is not None:
        words.append(f"probability of malignancy {percent(finding.p_malignant)}")
    if finding.flagged is not None:
        words.append("flagged: the operating point is reached" if finding.flagged else "not flagged")
    if finding.tta_spread is not None:
        words.append(f"spread over the views {percent(finding.tta_spread)}")
    return tuple(words)


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage with one decimal; a share is never rounded to certainty or to nothing."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{share:.1%}".replace("%", " %")
