"""Findings for people: a figure, a table in the terminal, pages for a browser; here are the words that they share."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segpipe.diagnosis import full_name
from segpipe.inference.finding import Finding
from segpipe.io.images import display_path
from segpipe.lesion.localizer import MaskSource
from segpipe.lesion.quality import NOTES, REASONS, WARNINGS
from segpipe.metrics.operating_points import MALIGNANT, OperatingPoint
from segpipe.types import Box

DISCLAIMER = "Not a medical device: for research and teaching, never for patient care."
MALIGNANT_SIGN = "\N{BLACK UP-POINTING TRIANGLE}"
SIGN_CAPTION = "marks malignant classes"
HEATMAP_CAPTION = "Grad-CAM: brighter counted more"
# Between the parts of what is said in one line.
SEPARATOR = "  \N{MIDDLE DOT}  "

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

_SQUARED = {"squeeze": "scaled to a square", "reflect": "mirrored at the border to a square"}


def printable(name: str) -> str:
    """A file's or a class's name on one line that any terminal can take, escaped as `display_path` escapes paths."""
    return display_path(Path(name))


def name_with_code(code: str) -> str:
    """The clinical name of a class with its code; a class that is not known is its own name."""
    name = printable(full_name(code))
    return name if name == printable(code) else f"{name} ({code})"


def malignant_sign(malignant: bool) -> str:
    """What stands before the name of a class."""
    return f"{MALIGNANT_SIGN} " if malignant else ""


def answer_words(finding: Finding) -> str:
    """The most probable class with its sign, its code and its probability, behind `unsure:` where a warning speaks against it."""
    name = malignant_sign(finding.diagnosis in finding.malignant) + name_with_code(finding.diagnosis)
    return f"{answer_name(name, finding.localization.warnings)}   {percent(finding.confidence)}"


def answer_name(name: str, warnings: Sequence[str]) -> str:
    """The name of a diagnosis, behind `unsure:` where there are warnings."""
    return f"unsure: {name}" if warnings else name


def warning_titles(warnings: Iterable[str]) -> tuple[str, ...]:
    """A few words for each code of `quality.WARNINGS`."""
    return tuple(code.replace("_", " ") for code in warnings)


def titled_warnings(counts: Mapping[str, int]) -> dict[str, int]:
    """The number of images by the title of a warning; `counts` has it by code."""
    return dict(zip(warning_titles(counts), counts.values(), strict=True))


def warning_sentences(warnings: Iterable[str]) -> tuple[str, ...]:
    """One sentence for each code of `quality.WARNINGS`."""
    return tuple(WARNINGS[code] for code in warnings)


def finding_sentences(finding: Finding) -> tuple[str, ...]:
    """What stands under the answer: the certainty, empty where nothing is known of it, then the outline and its reasons."""
    certainty, place = SEPARATOR.join(certainty_words(finding)), finding.localization
    outline = f"lesion outline: {outline_words(place.source, place.area_fraction)}"
    sentences = certainty, outline, *reason_words(place.reasons)
    return tuple(_sentence(sentence) for sentence in sentences)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def photograph_caption(source: MaskSource) -> str:
    """What is drawn on a photograph."""
    drawn = source is not MaskSource.WHOLE_IMAGE
    return "lesion outline, and crop box (dashed)" if drawn else "no lesion outline; crop box (dashed)"


def crop_caption(box: Box, border: str) -> str:
    """Size of a crop, width x height, and what was done to it.

    Args:
        box: what was cut out, in pixels of the original.
        border: method by which it became square, see `segpipe.lesion.crop.CropRule`.
    """
    change = "as the network saw it" if box.is_square else _SQUARED[border]
    return f"crop {box.width:,} x {box.height:,} px, {change}"


def way_words(source: MaskSource) -> str:
    """The name of a way to a mask."""
    return _WAYS[source]


def outline_words(source: MaskSource, area_fraction: float) -> str:
    """Who drew the lesion's outline, and how much of the image it holds."""
    words = _OUTLINES[source]
    if source is MaskSource.WHOLE_IMAGE:
        return words
    return f"{words}; it holds {percent(area_fraction)} of the image"


def reason_words(reasons: Iterable[str]) -> tuple[str, ...]:
    """Say why mask sources were refused, or what is noted of the one taken: one sentence for each `<way>:<code>`."""
    return tuple(_reason_sentence(reason) for reason in reasons)


def _reason_sentence(reason: str) -> str:
    way, _, code = reason.rpartition(":")
    if code in NOTES:
        return NOTES[code]
    sentence = REASONS.get(code, printable(code))
    return f"{_WAYS[way]} refused: {sentence}" if way in _WAYS else sentence


def certainty_words(finding: Finding) -> tuple[str, ...]:
    """The probability of malignancy, the suspicion and the spread over the views, each where the finding has it."""
    words = []
    if finding.p_malignant is not None:
        words.append(f"probability of malignancy {percent(finding.p_malignant)}")
    targets = [point.target for point in finding.operating_points]
    words += suspicion_words(finding.flagged_for, targets, malignant=finding.diagnosis in finding.malignant)
    if finding.tta_spread is not None:
        words.append(f"spread over the views {percent(finding.tta_spread)}")
    return tuple(words)


def reading_sentences(finding: Finding) -> tuple[str, ...]:
    """How to read a finding, for those who have never seen one; only what applies to this one."""
    drawn = finding.localization.source is not MaskSource.WHOLE_IMAGE
    line = "The line on the photograph is the border that was found" if drawn else "No border of a lesion is drawn"
    squared = f"was cut out and {_SQUARED[finding.border]}"
    cut = "is what was cut out for the network" if finding.crop_box.is_square else squared
    sentences = [
        f"{line}; the dashed box {cut}.",
        "The probabilities are calibrated on validation images of the data set that the network was trained on.",
        "The network knows the classes listed and no other: whatever the photograph shows, it gets one of these names.",
    ]
    if finding.class_map is not None:
        sentences.append("The heatmap shows which places spoke most for the class named there; it does not prove the reason.")
    if finding.tta_spread is not None:
        sentences.append(
            "The spread over the views is how far a probability moves as the crop is flipped, turned or zoomed: less is steadier."
        )
    return tuple(sentences)


def suspicion_words(flagged_for: Sequence[str], targets: Sequence[str], *, malignant: bool) -> tuple[str, ...]:
    """For what an image is suspicious, and why where that is not plain.

    Args:
        flagged_for: targets whose operating point is reached.
        targets: of all operating points; empty where none is known.
        malignant: the diagnosis is malignant.
    """
    words = [f"suspicious for {target_name(target)}" for target in flagged_for]
    if malignant and not words:
        words.append("suspicious: the diagnosis is malignant")
    if not targets:
        words.append("no operating point is known")
    elif not flagged_for:
        words.append(f"below the threshold for {' and for '.join(map(target_name, targets))}")
    return tuple(words)


def target_name(target: str) -> str:
    """The clinical name of the target of an operating point, with its code."""
    return f"malignancy ({target})" if target == MALIGNANT else name_with_code(target)


def operating_point_words(points: Sequence[OperatingPoint]) -> str:
    """From which probabilities on an image is suspicious, and for what."""
    words = [f"{target_name(point.target)} from a probability of {percent(point.threshold)}" for point in points]
    return ", ".join(words) or "no operating point is known"


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage with one decimal; a share is never rounded to certainty or to nothing."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{share:.1%}".replace("%", " %")
