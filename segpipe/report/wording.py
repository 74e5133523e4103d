"""Texts of results: names, warnings, captions, mask sources, certainty and operating points."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe.diagnosis import full_name
from segpipe.inference.finding import Finding
from segpipe.io.files import display_path
from segpipe.lesion.localization import MaskSource
from segpipe.lesion.quality import NOTES, REASONS, WARNINGS
from segpipe.metrics.operating_points import MALIGNANT, OperatingPoint
from segpipe.types import Box

DISCLAIMER = "Not a medical device: for research and teaching, never for patient care."
MALIGNANT_SIGN = "\N{BLACK UP-POINTING TRIANGLE}"
SIGN_CAPTION = "marks malignant classes"
IMAGE_TITLE, CROP_TITLE, HEATMAP_TITLE, SHAPE_TITLE, PROBABILITIES_TITLE = "Image", "Crop", "Heatmap", "Shape", "Probabilities"
HEATMAP_CAPTION = "Grad-CAM: brighter regions contributed more"
SHAPE_CAPTION = "outline and principal axes; asymmetry compares both sides of each axis"
# Between the parts of one line.
SEPARATOR = "  \N{MIDDLE DOT}  "

_SOURCES: dict[str, str] = {
    MaskSource.GIVEN: "corrected by hand",
    MaskSource.UNET: "U-Net",
    MaskSource.CONTOUR: "adaptive-threshold contour",
    MaskSource.WHOLE_IMAGE: "whole image",
}
_DRAWN = "lesion outline and crop box (dashed)"
_DRAWN_OF: dict[str, str] = {
    MaskSource.GIVEN: "lesion outline (corrected by hand) and crop box (dashed)",
    MaskSource.WHOLE_IMAGE: "no lesion outline; crop box (dashed)",
}
_SQUARED = {"squeeze": "scaled to a square", "reflect": "padded to a square by reflection"}
_NO_OPERATING_POINT = "no operating point available"


def printable(name: str) -> str:
    """Escape a file or class name for one line of any terminal."""
    return display_path(Path(name))


def name_with_code(code: str) -> str:
    """Clinical name of a class with its code, if known."""
    name = printable(full_name(code))
    return name if name == printable(code) else f"{name} ({code})"


def class_context(code: str, malignant: Collection[str]) -> dict[str, Any]:
    """Code, name and malignancy of a class."""
    return {"code": printable(code), "name": name_with_code(code), "malignant": code in malignant}


def target_name(target: str) -> str:
    """Clinical name of the target of an operating point, with its code."""
    return f"malignancy ({target})" if target == MALIGNANT else name_with_code(target)


def split_names(joined: str | None) -> list[str]:
    """Split a field of the results that holds any number of names."""
    return joined.split(";") if joined else []


def malignant_sign(malignant: bool) -> str:
    """Prefix of a class name: the sign of malignant classes, or nothing."""
    return f"{MALIGNANT_SIGN} " if malignant else ""


def diagnosis_text(finding: Finding) -> str:
    """Sign, name, code and probability of the diagnosis."""
    name = malignant_sign(finding.diagnosis in finding.malignant) + name_with_code(finding.diagnosis)
    return f"{mark_unsure(name, finding.localization.warnings)}   {percent(finding.confidence)}"


def mark_unsure(name: str, warnings: Sequence[str]) -> str:
    """Name of a diagnosis, after `unsure:` if there are warnings."""
    return f"unsure: {name}" if warnings else name


def warning_titles(warnings: Iterable[str]) -> tuple[str, ...]:
    """Short names of codes of `quality.WARNINGS`."""
    return tuple(code.replace("_", " ") for code in warnings)


def titled_warnings(counts: Mapping[str, int]) -> dict[str, int]:
    """Replace warning codes in a table of counts by short names."""
    return dict(zip(warning_titles(counts), counts.values(), strict=True))


def warning_sentences(warnings: Iterable[str]) -> tuple[str, ...]:
    """Sentences of codes of `quality.WARNINGS`."""
    return tuple(WARNINGS[code] for code in warnings)


def finding_sentences(finding: Finding) -> tuple[str, ...]:
    """Certainty (empty if unknown), then the mask source and its reasons."""
    localization = finding.localization
    source = f"mask source: {mask_source_text(localization.source, localization.area_fraction)}"
    sentences = SEPARATOR.join(certainty_phrases(finding)), source, *reason_sentences(localization.reasons)
    return tuple(capitalized(sentence) for sentence in sentences)


def capitalized(text: str) -> str:
    """Turn the first letter into a capital and leave the others."""
    return text[:1].upper() + text[1:]


def image_caption(source: MaskSource) -> str:
    """Caption of an image with outline and crop box."""
    return _DRAWN_OF.get(source, _DRAWN)


def crop_caption(box: Box, border: str) -> str:
    """Caption of a crop: its size, and how it became square.

    Args:
        box: Crop box in pixels of the original image.
        border: Method by which the crop became square, see `segpipe.lesion.crop.CropRule`.
    """
    change = "classifier input" if box.is_square else _SQUARED[border]
    return f"crop {box.width:,} x {box.height:,} px, {change}"


def source_name(source: MaskSource) -> str:
    """Short name of a mask source."""
    return _SOURCES[source]


def mask_source_text(source: MaskSource, area_fraction: float) -> str:
    """Mask source, its reliability, and the lesion's fraction of the image."""
    if source is MaskSource.WHOLE_IMAGE:
        return "none, the whole image was classified"
    remark = " (less reliable than the U-Net)" if source is MaskSource.CONTOUR else ""
    return f"{_SOURCES[source]}{remark}; lesion area {percent(area_fraction)} of the image"


def reason_sentences(reasons: Iterable[str]) -> tuple[str, ...]:
    """Sentences of reasons and notes, given as `<source>:<code>`."""
    return tuple(_reason_sentence(reason) for reason in reasons)


def _reason_sentence(reason: str) -> str:
    source, _, code = reason.rpartition(":")
    if code in NOTES:
        return NOTES[code]
    sentence = REASONS.get(code, printable(code))
    return f"{_SOURCES[source]} rejected: {sentence}" if source in _SOURCES else sentence


def certainty_phrases(finding: Finding) -> tuple[str, ...]:
    """Known values of malignancy, suspicion and spread over the views."""
    phrases = []
    if finding.p_malignant is not None:
        phrases.append(f"probability of malignancy {percent(finding.p_malignant)}")
    targets = [point.target for point in finding.operating_points]
    phrases += suspicion_phrases(finding.flagged_for, targets, malignant=finding.diagnosis in finding.malignant)
    if finding.tta_spread is not None:
        phrases.append(f"spread over the views {percent(finding.tta_spread)}")
    return tuple(phrases)


def suspicion_phrases(flagged_for: Sequence[str], targets: Sequence[str], *, malignant: bool) -> tuple[str, ...]:
    """Targets for which an image is suspicious, if any.

    Args:
        flagged_for: Targets whose operating point is reached.
        targets: Targets of all operating points; empty where none is known.
        malignant: True if the diagnosis is malignant.
    """
    phrases = [f"suspicious for {target_name(target)}" for target in flagged_for]
    if malignant and not phrases:
        phrases.append("suspicious: the diagnosis is malignant")
    if not targets:
        phrases.append(_NO_OPERATING_POINT)
    elif not flagged_for:
        phrases.append(f"below the threshold for {' and for '.join(map(target_name, targets))}")
    return tuple(phrases)


def operating_points_text(points: Sequence[OperatingPoint]) -> str:
    """Targets and probability thresholds of operating points."""
    phrases = [f"{target_name(point.target)} from a probability of {percent(point.threshold)}" for point in points]
    return ", ".join(phrases) or _NO_OPERATING_POINT


def reading_sentences(finding: Finding) -> tuple[str, ...]:
    """Notes on how to read a finding, limited to what it contains."""
    drawn = finding.localization.source is not MaskSource.WHOLE_IMAGE
    outline = "The solid line is the lesion outline" if drawn else "No lesion outline was found"
    cut = "is the input of the classifier" if finding.crop_box.is_square else f"was cut out and {_SQUARED[finding.border]}"
    sentences = [
        f"{outline}; the dashed box {cut}.",
        "The probabilities are calibrated on validation images of the classifier's own data set.",
        "The classifier knows only the classes listed: it assigns one of them to any image, whatever it shows.",
    ]
    if finding.class_map is not None:
        sentences.append("The heatmap shows which regions contributed most to the class above it; it is a hint, not a proof.")
    if finding.tta_spread is not None:
        sentences.append("The spread over the views is how much a probability varies as the crop is flipped, rotated or zoomed.")
    return tuple(sentences)


def percent(fraction: float) -> str:
    """Format a fraction as a percentage with one decimal.

    Args:
        fraction: Number in [0, 1]; a fraction in between is never rounded to 0 or 100 %.
    """
    if 0 < fraction < 0.0005:
        return "<0.1 %"
    if 0.9995 <= fraction < 1:
        return ">99.9 %"
    return f"{fraction:.1%}".replace("%", " %")
