"""Overview page of the HTML report: facts and table data."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from segpipe.io.files import counted, display_path
from segpipe.lesion.localization import MaskSource
from segpipe.report.contents import ReportContents, ReportImage
from segpipe.report.evidence import trust_text
from segpipe.report.overlays import HEATMAPS, THUMBNAILS
from segpipe.report.settings_text import setting_in_words, settings_in_words
from segpipe.report.truth import VERDICT_SIGNS, TrueDiagnosis
from segpipe.report.wording import (
    MALIGNANT_SIGN,
    class_context,
    operating_points_text,
    percent,
    printable,
    source_name,
    split_names,
    titled_warnings,
    warning_titles,
)
from segpipe.runs.results import PROBABILITY_DIGITS, class_codes

# The most important settings; the page lists all of them further down.
_HEAD_SETTINGS = {
    "split": "Split",
    "part": "Part of the split",
    "localize": "Outline by",
    "tta.views": "Views of the crop",
    "explain.method": "Heatmap",
    "device": "Device",
}
# Key, heading, and True for columns that can be sorted.
_COLUMNS = (
    ("thumbnail", "Image", False),
    ("path", "Name", True),
    ("diagnosis", "Diagnosis", True),
    ("truth", "Truth", True),
    ("malignant", "Malignancy", True),
    ("confidence", "Confidence", True),
    ("suspicion", "Suspicious", True),
    ("trust", "Trust", True),
    ("dice", "Dice", True),
    ("source", "Outline", True),
    ("spread", "Spread", True),
    ("heatmap", "Heatmap", False),
)
_ALWAYS = {"thumbnail", "path", "diagnosis", "confidence", "suspicion", "source"}


def url(path: Path, *, start: Path = Path()) -> str:
    """Return the relative URL of a file with any name.

    Args:
        path: File, relative to the output folder.
        start: Folder of the page, relative to the output folder.
    """
    return "../" * len(start.parts) + quote(os.fsencode(path.as_posix()))


def overview_context(contents: ReportContents) -> dict[str, Any]:
    """Values of the overview page, except those of `html_truth`."""
    images, settings, summary, trues = contents.images, contents.settings, contents.summary, contents.trues
    rows = [_row(image) for image in images]
    classes = _with_counts(images, contents.malignant)
    folder = settings.get("folder")
    sorted_by = "malignant" if _has_values(rows, "malignant") else "path"
    return {
        "title": f"segpipe report: {counted(len(rows), 'image')}",
        "folder": None if folder is None else display_path(Path(folder)),
        "facts": run_facts(contents),
        "details": [*settings_in_words(settings), *((name, str(value)) for name, value in _versions(summary).items())],
        "failures": sorted(contents.failures),
        "classes": classes,
        "true_classes": _true_classes(classes, trues),
        "any_malignant": any(item["malignant"] for item in classes),
        "sources": _sources(images),
        "total": len(rows),
        "any_suspicious": any(row["suspicious"] for row in rows),
        "any_unsure": any(row["unsure"] for row in rows),
        "any_missed": any(true is not None and true.missed for true in trues),
        "any_truly_malignant": any(true is not None and true.malignant for true in trues),
        "columns": [
            {"key": key, "label": label, "sortable": sortable} for key, label, sortable in _COLUMNS if _has_values(rows, key)
        ],
        "data": {
            "classes": classes,
            "sources": _sources(images),
            "rows": rows,
            "sign": MALIGNANT_SIGN,
            "verdicts": VERDICT_SIGNS,
            "sort": {"key": sorted_by, "descending": sorted_by == "malignant"},
            "folders": {"thumbnails": THUMBNAILS, "heatmaps": HEATMAPS},
        },
    }


def _row(image: ReportImage) -> dict[str, Any]:
    row, true = image.row, image.true
    trust = trust_text(row)
    return {
        "path": row["path"],
        "page": url(image.page),
        "picture": url(image.picture),
        "diagnosis": printable(row["diagnosis"]),
        "confidence": _fraction(row["confidence"]),
        "malignant": _fraction(row["p_malignant"]),
        "truth": None if true is None else (printable(true.code), true.verdict, true.rank),
        "truly_malignant": true is not None and true.malignant,
        "suspicious": image.suspicious,
        "suspicion": image.suspicion,
        "unsure": ", ".join(warning_titles(split_names(row["warnings"]))),
        "trust": None if trust is None else (trust.rank, trust.color, trust.mark, trust.sentences),
        "dice": None if image.mask is None else (round(image.mask.dice, PROBABILITY_DIGITS), f"{image.mask.dice:.2f}"),
        "source": row["mask_source"],
        "spread": _fraction(row["tta_spread"]),
        "heatmap": image.has_heatmap,
    }


def _fraction(value: float | None) -> tuple[float, str] | None:
    """Fraction to sort by, and its text."""
    return None if value is None else (round(value, PROBABILITY_DIGITS), percent(value))


def _has_values(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    if key == "heatmap":
        return any(row["heatmap"] for row in rows)
    return key in _ALWAYS or any(row[key] is not None for row in rows)


def _with_counts(images: Sequence[ReportImage], malignant: Collection[str]) -> list[dict[str, Any]]:
    """Classes with the number of their images, the most frequent first."""
    counts = Counter(image.row["diagnosis"] for image in images)
    codes = class_codes(images[0].row, malignant) if images else []
    most = max(counts.values(), default=1)
    classes = [{**class_context(code, malignant), "count": counts[code], "width": f"{counts[code] / most:.2%}"} for code in codes]
    return sorted(classes, key=lambda item: -item["count"])


def _true_classes(classes: Sequence[Mapping[str, Any]], trues: Sequence[TrueDiagnosis | None]) -> list[dict[str, Any]]:
    """Classes that occur among the true diagnoses, with their numbers."""
    counts = Counter(printable(true.code) for true in trues if true is not None)
    return [{**item, "count": counts[item["code"]]} for item in classes if counts[item["code"]]]


def _sources(images: Sequence[ReportImage]) -> list[dict[str, Any]]:
    counts = Counter(image.row["mask_source"] for image in images)
    return [{"code": source, "name": source_name(source), "count": counts[source]} for source in MaskSource if counts[source]]


def run_facts(contents: ReportContents) -> list[tuple[str, str]]:
    """Label and text of the most important facts of a run."""
    summary, settings = contents.summary, contents.settings
    unsure = [f"{title}: {count:,}" for title, count in titled_warnings(summary["warnings"]).items()]
    facts = [
        ("Images", f"{summary['images']:,} processed, {len(contents.failures):,} failed"),
        *([("Unsure", ", ".join(unsure))] if unsure else []),
        ("Speed", f"{summary['images_per_second']:,.1f} images per second"),
    ]
    words = [(label, setting_in_words(key, settings)) for key, label in _HEAD_SETTINGS.items()]
    facts += [(label, value) for label, value in words if value is not None]
    return [*facts, ("Operating points", operating_points_text(contents.points))]


def _versions(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {**summary["versions"], "platform": summary["platform"]}
