"""Texts of results: names, warnings, captions, mask sources, certainty and operating points."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe.diagnosis import full_name, is_known
from segpipe.io.files import display_path
from segpipe.language import localize_number, translate
from segpipe.lesion.localization import MaskSource
from segpipe.lesion.quality import NOTES, REASONS, WARNINGS
from segpipe.metrics.operating_points import MALIGNANT, OperatingPoint
from segpipe.runs.results import Row
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
    MaskSource.GIVEN: "given by the user",
    MaskSource.UNET: "U-Net",
    MaskSource.CONTOUR: "adaptive-threshold contour",
    MaskSource.WHOLE_IMAGE: "whole image",
}
_DRAWN = "lesion outline and crop box (dashed)"
_DRAWN_OF: dict[str, str] = {
    MaskSource.GIVEN: "lesion outline (given by the user) and crop box (dashed)",
    MaskSource.WHOLE_IMAGE: "no lesion outline; crop box (dashed)",
}
_SQUARED = {"squeeze": "scaled to a square", "reflect": "padded to a square by reflection"}
_NO_OPERATING_POINT = "no operating point available"
_READING = (
    "The probabilities are calibrated on validation images of the classifier's own data set.",
    "The classifier knows only the classes listed: it assigns one of them to any image, whatever it shows.",
)
_READING_HEATMAP = "The heatmap shows which regions contributed most to the class above it; it is a hint, not a proof."
_READING_SPREAD = "The spread over the views is how much a probability varies as the crop is flipped, rotated or zoomed."


def printable(name: str) -> str:
    """Escape a file or class name for one line of any terminal."""
    return display_path(Path(name))


def name_with_code(code: str) -> str:
    """Clinical name of a class with its code, if known."""
    name = class_name(code)
    return f"{name} ({code})" if is_known(code) else name


def class_name(code: str) -> str:
    """Clinical name of a class, or its code if unknown."""
    return translate(full_name(code)) if is_known(code) else printable(code)


def class_context(code: str, malignant: Collection[str]) -> dict[str, Any]:
    """Code, name and malignancy of a class."""
    return {"code": printable(code), "name": name_with_code(code), "malignant": code in malignant}


def target_name(target: str) -> str:
    """Clinical name of the target of an operating point, with its code."""
    return f"{translate('malignancy')} ({target})" if target == MALIGNANT else name_with_code(target)


def split_names(joined: str | None) -> list[str]:
    """Split a field of the results that holds any number of names."""
    return joined.split(";") if joined else []


def malignant_sign(malignant: bool) -> str:
    """Prefix of a class name: the sign of malignant classes, or nothing."""
    return f"{MALIGNANT_SIGN} " if malignant else ""


def diagnosis_text(row: Row, malignant: Collection[str]) -> str:
    """Sign, name, code and probability of the diagnosis of a row."""
    name = malignant_sign(row["diagnosis"] in malignant) + name_with_code(row["diagnosis"])
    return f"{mark_unsure(name, split_names(row['warnings']))}   {percent(row['confidence'])}"


def mark_unsure(name: str, warnings: Sequence[str]) -> str:
    """Name of a diagnosis, after `unsure:` if there are warnings."""
    return f"{translate('unsure')}: {name}" if warnings else name


def warning_titles(warnings: Iterable[str]) -> tuple[str, ...]:
    """Short names of codes of `quality.WARNINGS`."""
    return tuple(translate(code.replace("_", " ")) for code in warnings)


def titled_warnings(counts: Mapping[str, int]) -> dict[str, int]:
    """Replace warning codes in a table of counts by short names."""
    return dict(zip(warning_titles(counts), counts.values(), strict=True))


def warning_sentences(warnings: Iterable[str]) -> tuple[str, ...]:
    """Sentences of codes of `quality.WARNINGS`."""
    return tuple(translate(WARNINGS[code]) for code in warnings)


def finding_sentences(row: Row, malignant: Collection[str], points: Sequence[OperatingPoint]) -> tuple[str, ...]:
    """Certainty (empty if unknown), then the mask source and its reasons.

    Args:
        row: Row of the results.
        malignant: Codes of the malignant classes.
        points: Operating points; empty where none are known.
    """
    source = f"{translate('mask source')}: {mask_source_text(MaskSource(row['mask_source']), row['mask_area_fraction'])}"
    certainty = SEPARATOR.join(certainty_phrases(row, malignant, points))
    return tuple(capitalized(text) for text in (certainty, source, *reason_sentences(split_names(row["mask_reasons"]))))


def capitalized(text: str) -> str:
    """Turn the first letter into a capital and leave the others."""
    return text[:1].upper() + text[1:]


def image_caption(source: MaskSource) -> str:
    """Caption of an image with outline and crop box."""
    return translate(_DRAWN_OF.get(source, _DRAWN))


def crop_caption(box: Box, border: str) -> str:
    """Caption of a crop: its size, and how it became square.

    Args:
        box: Crop box in pixels of the original image.
        border: Method by which the crop became square, see `segpipe.lesion.crop.CropRule`.
    """
    change = translate("classifier input" if box.is_square else _SQUARED[border])
    width, height = (localize_number(f"{side:,}") for side in (box.width, box.height))
    return translate("crop {width} x {height} px, {change}", width=width, height=height, change=change)


def source_name(source: MaskSource) -> str:
    """Short name of a mask source."""
    return translate(_SOURCES[source])


def mask_source_text(source: MaskSource, area_fraction: float) -> str:
    """Mask source, its reliability, and the lesion's fraction of the image."""
    if source is MaskSource.WHOLE_IMAGE:
        return translate("none, the whole image was classified")
    remark = f" ({translate('less reliable than the U-Net')})" if source is MaskSource.CONTOUR else ""
    area = translate("lesion area {percent} of the image", percent=percent(area_fraction))
    return f"{source_name(source)}{remark}; {area}"


def reason_sentences(reasons: Iterable[str]) -> tuple[str, ...]:
    """Sentences of reasons and notes, given as `<source>:<code>`."""
    return tuple(_reason_sentence(reason) for reason in reasons)


def _reason_sentence(reason: str) -> str:
    source, _, code = reason.rpartition(":")
    if code in NOTES:
        return translate(NOTES[code])
    sentence = translate(REASONS[code]) if code in REASONS else printable(code)
    if source not in _SOURCES:
        return sentence
    return translate("{source} rejected: {reason}", source=translate(_SOURCES[source]), reason=sentence)


def certainty_phrases(row: Row, malignant: Collection[str], points: Sequence[OperatingPoint]) -> tuple[str, ...]:
    """Known values of malignancy, suspicion and spread over the views.

    Args:
        row: Row of the results.
        malignant: Codes of the malignant classes.
        points: Operating points; empty where none are known.
    """
    phrases = []
    if row["p_malignant"] is not None:
        phrases.append(translate("probability of malignancy {percent}", percent=percent(row["p_malignant"])))
    targets = [point.target for point in points]
    phrases += suspicion_phrases(split_names(row["flagged_for"]), targets, malignant=row["diagnosis"] in malignant)
    if row["tta_spread"] is not None:
        phrases.append(translate("spread over the views {percent}", percent=percent(row["tta_spread"])))
    return tuple(phrases)


def suspicion_phrases(flagged_for: Sequence[str], targets: Sequence[str], *, malignant: bool) -> tuple[str, ...]:
    """Targets for which an image is suspicious, if any.

    Args:
        flagged_for: Targets whose operating point is reached.
        targets: Targets of all operating points; empty where none is known.
        malignant: True if the diagnosis is malignant.
    """
    phrases = [translate("suspicious for {target}", target=target_name(target)) for target in flagged_for]
    if malignant and not phrases:
        phrases.append(translate("suspicious: the diagnosis is malignant"))
    if not targets:
        phrases.append(translate(_NO_OPERATING_POINT))
    elif not flagged_for:
        joined = translate(" and for ").join(map(target_name, targets))
        phrases.append(translate("below the threshold for {targets}", targets=joined))
    return tuple(phrases)


def operating_points_text(points: Sequence[OperatingPoint]) -> str:
    """Targets and probability thresholds of operating points."""
    phrases = [
        translate("{target} from a probability of {percent}", target=target_name(point.target), percent=percent(point.threshold))
        for point in points
    ]
    return ", ".join(phrases) or translate(_NO_OPERATING_POINT)


def reading_sentences(row: Row) -> tuple[str, ...]:
    """Notes on how to read a finding, as its row requires."""
    drawn, box = row["mask_source"] != MaskSource.WHOLE_IMAGE, crop_box(row)
    outline = translate("The solid line is the lesion outline" if drawn else "No lesion outline was found")
    if box.is_square:
        cut = translate("the dashed box is the input of the classifier")
    else:
        cut = translate("the dashed box was cut out and {change}", change=translate(_SQUARED[row["crop_border"]]))
    sentences = [f"{outline}; {cut}.", *map(translate, _READING)]
    if row["heatmap_in_lesion"] is not None:
        sentences.append(translate(_READING_HEATMAP))
    if row["tta_spread"] is not None:
        sentences.append(translate(_READING_SPREAD))
    return tuple(sentences)


def crop_box(row: Row) -> Box:
    """Crop box of a row, in pixels of the original image."""
    return Box(row["crop_top"], row["crop_left"], row["crop_bottom"], row["crop_right"])


def percent(fraction: float) -> str:
    """Format a fraction as a percentage with one decimal.

    Args:
        fraction: Number in [0, 1]; a fraction in between is never rounded to 0 or 100 %.
    """
    if 0 < fraction < 0.0005:
        return localize_number("<0.1 %")
    if 0.9995 <= fraction < 1:
        return localize_number(">99.9 %")
    return localize_number(f"{fraction:.1%}".replace("%", " %"))
