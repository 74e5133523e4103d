"""Overview page of the HTML report: facts and table data."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from segpipe.io.files import counted, display_path
from segpipe.io.run_files import REPORT_PAGES
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.evidence import judge_suspicion, trust_text
from segpipe.report.overlays import HEATMAPS, THUMBNAILS
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
from segpipe.runs.results import PROBABILITY_DIGITS, Row, class_codes

_LONGEST_NAME = 255  # bytes, the limit of nearly every file system

# The most important settings; the page lists all of them further down.
_HEAD_SETTINGS = {
    "split": "Split",
    "part": "Part of the split",
    "localize": "Localization",
    "tta.views": "TTA views",
    "explain.method": "Heatmap",
    "device": "Device",
}
# Key, heading, and True for columns that can be sorted.
_COLUMNS = (
    ("thumbnail", "Image", False),
    ("path", "Path", True),
    ("diagnosis", "Diagnosis", True),
    ("confidence", "Confidence", True),
    ("malignant", "P(malignant)", True),
    ("suspicion", "Suspicion", True),
    ("trust", "Trust", True),
    ("source", "Mask source", True),
    ("spread", "Spread", True),
    ("heatmap", "Heatmap", False),
)


@dataclass(frozen=True)
class ReportImage:
    """One image of a report.

    Attributes:
        row: Row of the results.
        name: Name among the results, see `segpipe.runs.source.result_names`.
        has_heatmap: True if there is a picture of its heatmap.
        has_shape: True if there is a picture of its shape.
    """

    row: Row
    name: Path
    has_heatmap: bool
    has_shape: bool

    @property
    def page(self) -> Path:
        """Path of its page, relative to the output folder."""
        page = REPORT_PAGES / self.name.with_suffix(".html")
        # An image's name may have the largest allowed length, and .html is longer than .jpg.
        return page if len(os.fsencode(page.name)) <= _LONGEST_NAME else page.with_suffix(".htm")

    @property
    def picture(self) -> Path:
        """Path of its pictures, relative to each of the folders of pictures."""
        return self.name.with_suffix(".jpg")


def url(path: Path, *, start: Path = Path()) -> str:
    """Return the relative URL of a file with any name.

    Args:
        path: File, relative to the output folder.
        start: Folder of the page, relative to the output folder.
    """
    return "../" * len(start.parts) + quote(os.fsencode(path.as_posix()))


def overview_context(
    images: Sequence[ReportImage],
    failures: Sequence[tuple[str, str]],
    summary: Mapping[str, Any],
    settings: Mapping[str, Any],
    points: Sequence[OperatingPoint],
) -> dict[str, Any]:
    """Values of the overview page.

    Args:
        images: Images of the report.
        failures: Path and reason of each image without a result.
        summary: Content of `summary.json`.
        settings: Settings of the run by their dotted keys.
        points: Operating points of the run.
    """
    rows = [_row(image, summary["malignant"], points) for image in images]
    classes = _with_counts(images, summary["malignant"])
    folder = settings.get("folder")
    return {
        "title": f"segpipe report: {counted(len(rows), 'image')}",
        "folder": None if folder is None else display_path(Path(folder)),
        "facts": _facts(summary, settings, points, failures=len(failures)),
        "details": [(key, str(value)) for key, value in {**settings, **_versions(summary)}.items() if value is not None],
        "failures": sorted(failures),
        "classes": classes,
        "any_malignant": any(item["malignant"] for item in classes),
        "sources": _sources(images),
        "total": len(rows),
        "any_suspicious": any(row["suspicious"] for row in rows),
        "any_unsure": any(row["unsure"] for row in rows),
        "columns": [
            {"key": key, "label": label, "sortable": sortable} for key, label, sortable in _COLUMNS if _has_values(rows, key)
        ],
        "data": {
            "classes": classes,
            "sources": _sources(images),
            "rows": rows,
            "sign": MALIGNANT_SIGN,
            "folders": {"thumbnails": THUMBNAILS, "heatmaps": HEATMAPS},
        },
    }


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested settings into a flat mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _row(image: ReportImage, malignant: Collection[str], points: Sequence[OperatingPoint]) -> dict[str, Any]:
    row = image.row
    trust = trust_text(row)
    suspicious, suspicion = judge_suspicion(row, malignant, points)
    return {
        "path": row["path"],
        "page": url(image.page),
        "picture": url(image.picture),
        "diagnosis": printable(row["diagnosis"]),
        "confidence": _fraction(row["confidence"]),
        "malignant": _fraction(row["p_malignant"]),
        "suspicious": suspicious,
        "suspicion": suspicion,
        "unsure": ", ".join(warning_titles(split_names(row["warnings"]))),
        "trust": None if trust is None else (trust.rank, trust.color, trust.mark, trust.sentences),
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
    return key not in {"malignant", "trust", "spread"} or any(row[key] is not None for row in rows)


def _with_counts(images: Sequence[ReportImage], malignant: Collection[str]) -> list[dict[str, Any]]:
    """Classes with the number of their images, the most frequent first."""
    counts = Counter(image.row["diagnosis"] for image in images)
    codes = class_codes(images[0].row, malignant) if images else []
    most = max(counts.values(), default=1)
    classes = [{**class_context(code, malignant), "count": counts[code], "width": f"{counts[code] / most:.2%}"} for code in codes]
    return sorted(classes, key=lambda item: -item["count"])


def _sources(images: Sequence[ReportImage]) -> list[dict[str, Any]]:
    counts = Counter(image.row["mask_source"] for image in images)
    return [{"code": source, "name": source_name(source), "count": counts[source]} for source in MaskSource if counts[source]]


def _facts(
    summary: Mapping[str, Any], settings: Mapping[str, Any], points: Sequence[OperatingPoint], *, failures: int
) -> list[tuple[str, str]]:
    unsure = [f"{title}: {count:,}" for title, count in titled_warnings(summary["warnings"]).items()]
    facts = [
        ("Images", f"{summary['images']:,} processed, {failures:,} failed"),
        *([("Unsure", ", ".join(unsure))] if unsure else []),
        ("Speed", f"{summary['images_per_second']:,.1f} images per second"),
    ]
    facts += [(label, str(settings[key])) for key, label in _HEAD_SETTINGS.items() if settings.get(key) is not None]
    return [*facts, ("Operating points", operating_points_text(points))]


def _versions(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {**summary["versions"], "platform": summary["platform"]}
