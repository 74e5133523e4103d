"""Truth section of the HTML report: tiles, confusion matrix, reliability, operating points."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.io.files import counted
from segpipe.metrics.calibration import expected_calibration_error, reliability_curve
from segpipe.metrics.operating_points import MALIGNANT, OperatingPoint, target_codes
from segpipe.report.contents import ReportContents, ReportImage
from segpipe.report.truth import ReportTruth, TrueDiagnosis
from segpipe.report.wording import capitalized, class_context, percent, split_names, target_name
from segpipe.runs.results import Row, class_codes
from segpipe.types import FloatArray

_BINS = 10  # of the reliability diagram and of the histograms
_HISTOGRAM_BINS = 20
# Units of the drawings: side of the square of a diagram, height of the bars below it, height of one histogram.
PLOT_SIDE, BARS_HEIGHT, HISTOGRAM_HEIGHT = 240.0, 36.0, 76.0
_LEAST_RADIUS, _MOST_RADIUS = 3.0, 9.0


def truth_context(contents: ReportContents) -> dict[str, Any] | None:
    """Values of the truth section; None without true diagnoses."""
    rows, malignant, points = contents.rows, contents.malignant, contents.points
    known = [(row, true) for row, true in zip(rows, contents.trues, strict=True) if true is not None]
    if not known:
        return None
    # Sums of probabilities may exceed 1 by rounding.
    confidence = np.minimum([row["confidence"] for row, _ in known], 1.0)
    correct = np.array([true.correct for _, true in known])
    return {
        "images": counted(len(known), "image"),
        "unlabeled": len(rows) - len(known),
        "confusion": _confusion(known, class_codes(rows[0], malignant), malignant),
        "reliability": _reliability(confidence, correct),
        "points": [_point(point, known, malignant) for point in points],
        "histogram": _histogram(known, points, malignant) if malignant else None,
        "left_out": [(reason, len(images)) for reason, images in contents.truth.metrics.get("left_out", {}).items()],
    }


def _confusion(known: Sequence[tuple[Row, TrueDiagnosis]], codes: Sequence[str], malignant: Collection[str]) -> dict[str, Any]:
    pairs = [(true.code, row["diagnosis"]) for row, true in known]
    present = [code for code in codes if any(code in pair for pair in pairs)]
    return {
        "classes": [{**class_context(code, malignant), "count": sum(pair[1] == code for pair in pairs)} for code in present],
        "rows": [_confusion_row(code, present, pairs, malignant) for code in present],
        "vertical": any(len(code) > 6 for code in present),
    }


def _confusion_row(
    code: str, present: Sequence[str], pairs: Sequence[tuple[str, str]], malignant: Collection[str]
) -> dict[str, Any]:
    support = sum(true == code for true, _ in pairs)
    counts = {other: pairs.count((code, other)) for other in present}
    cells = [
        {
            **class_context(other, malignant),
            "count": count,
            "fraction": f"{count / max(support, 1):.3f}",
            "correct": other == code,
        }
        for other, count in counts.items()
    ]
    found = percent(counts[code] / support) if support else "\N{EN DASH}"
    return {**class_context(code, malignant), "cells": cells, "count": support, "found": found}


def _reliability(confidence: FloatArray, correct: NDArray[np.bool_]) -> dict[str, Any]:
    curve = reliability_curve(confidence, correct, bins=_BINS)
    most = int(curve.counts.max())
    filled = [
        {
            "x": round(PLOT_SIDE * mean, 1),
            "y": round(PLOT_SIDE * (1 - accuracy), 1),
            "diagonal": round(PLOT_SIDE * (1 - mean), 1),
            "radius": round(_LEAST_RADIUS + (_MOST_RADIUS - _LEAST_RADIUS) * float(np.sqrt(count / most)), 1),
            "text": f"{counted(count, 'image')} with a mean confidence of {percent(mean)}: {percent(accuracy)} right",
        }
        for mean, accuracy, count in zip(curve.confidence.tolist(), curve.accuracy.tolist(), curve.counts.tolist(), strict=True)
        if count
    ]
    return {
        "side": PLOT_SIDE,
        "points": filled,
        "bars": _bars(curve.counts, BARS_HEIGHT, most),
        "bars_height": BARS_HEIGHT,
        "error": f"{expected_calibration_error(confidence, correct):.3f}",
        "mean_confidence": percent(float(confidence.mean())),
        "accuracy": percent(float(correct.mean())),
    }


def _bars(counts: NDArray[np.intp], height: float, most: int) -> list[dict[str, float]]:
    """Lay out bars of equal width; the highest has the full height."""
    width = PLOT_SIDE / len(counts)
    heights = (height * counts / max(most, 1)).round(1).tolist()
    return [
        {"x": round(number * width + 0.5, 1), "width": round(width - 1, 1), "height": bar} for number, bar in enumerate(heights)
    ]


def _point(point: OperatingPoint, known: Sequence[tuple[Row, TrueDiagnosis]], malignant: Collection[str]) -> dict[str, Any]:
    """Numbers of one operating point: found ones and false alarms."""
    codes = target_codes(point.target, list(malignant))
    flagged = [(point.target in split_names(row["flagged_for"]), true.code in codes) for row, true in known]
    positive = sum(has for _, has in flagged)
    return {
        "target": capitalized(target_name(point.target)),
        "threshold": percent(point.threshold),
        "found": _ratio(sum(flag and has for flag, has in flagged), positive),
        "alarms": _ratio(sum(flag and not has for flag, has in flagged), len(flagged) - positive),
    }


def _ratio(part: int, whole: int) -> tuple[str, ...]:
    return (f"{part:,} of {whole:,}", f"({percent(part / whole)})") if whole else ("\N{EN DASH}",)


def _histogram(
    known: Sequence[tuple[Row, TrueDiagnosis]], points: Sequence[OperatingPoint], malignant: Collection[str]
) -> dict[str, Any]:
    """Probabilities of malignancy of malignant images, above those of the others."""
    edges = np.linspace(0, 1, _HISTOGRAM_BINS + 1)
    groups = [
        np.histogram([min(row["p_malignant"], 1.0) for row, true in known if true.malignant is kind], edges)[0]
        for kind in (True, False)
    ]
    threshold = next((point.threshold for point in points if point.target == MALIGNANT), None)
    malignant_count, other_count = (int(group.sum()) for group in groups)
    return {
        "side": PLOT_SIDE,
        "height": HISTOGRAM_HEIGHT,
        "malignant": _bars(groups[0], HISTOGRAM_HEIGHT, int(groups[0].max())),
        "others": _bars(groups[1], HISTOGRAM_HEIGHT, int(groups[1].max())),
        "malignant_count": counted(malignant_count, "malignant image"),
        "other_count": counted(other_count, "other image"),
        "threshold": None if threshold is None else round(PLOT_SIDE * threshold, 1),
        "threshold_text": None if threshold is None else percent(threshold),
    }


def tiles(contents: ReportContents) -> list[dict[str, Any]]:
    """Large numbers at the top; some are filters of the table."""
    known = [true for true in contents.trues if true is not None]
    shown = _truth_tiles(known, contents.truth) if known else _plain_tiles(contents.images)
    if contents.dices:
        note = _interval_text(contents.truth.interval("segmentation", "dice"), "{:.3f}".format)
        shown.append(_tile("Mean Dice", f"{np.mean(contents.dices):.3f}", note or counted(len(contents.dices), "true outline")))
    return shown


def _truth_tiles(known: Sequence[TrueDiagnosis], truth: ReportTruth) -> list[dict[str, Any]]:
    right, malignant = sum(true.correct for true in known), sum(true.malignant for true in known)
    missed = sum(true.missed for true in known)
    baseline, balanced = (truth.interval("classification", name) for name in ("majority_baseline", "balanced_accuracy"))
    note = "" if baseline is None else f"; majority class alone: {percent(baseline['value'])}"
    shown = [_tile("Right", percent(right / len(known)), f"{right:,} of {len(known):,}{note}")]
    if balanced is not None:
        shown.append(_tile("Balanced accuracy", percent(balanced["value"]), _interval_text(balanced)))
    shown.append(_tile("Wrong", f"{len(known) - right:,}", f"of {counted(len(known), 'image')}", "wrong"))
    if malignant:
        shown.append(_tile("Malignant", f"{malignant:,}", "by the true diagnosis", "malignant"))
        filter_name = "missed" if missed else None
        shown.append(_tile("Missed malignant", f"{missed:,}", f"of {malignant:,}: not suspicious", filter_name))
    return shown


def _plain_tiles(images: Sequence[ReportImage]) -> list[dict[str, Any]]:
    unsure, suspicious = sum(bool(image.row["warnings"]) for image in images), sum(image.suspicious for image in images)
    shown = [_tile("Images", f"{len(images):,}", "with a result")]
    if suspicious:
        shown.append(_tile("Suspicious", f"{suspicious:,}", "by an operating point or the diagnosis", "suspicious"))
    return [*shown, _tile("Unsure", f"{unsure:,}", "no lesion found, or a uniform image", "unsure")] if unsure else shown


def _tile(label: str, value: str, note: str, filter_name: str | None = None) -> dict[str, Any]:
    # A number and its percent sign stay on one line.
    return {"label": label, "value": value, "note": note.replace(" %", "\N{NO-BREAK SPACE}%"), "filter": filter_name}


def _interval_text(metric: Mapping[str, float | None] | None, show: Callable[[float], str] = percent) -> str:
    if metric is None or metric["low"] is None or metric["high"] is None:
        return ""
    return f"95 % interval {show(metric['low'])} to {show(metric['high'])}"
