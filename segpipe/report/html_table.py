"""What the page of all images shows: the head of the report, and the data of its table."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe.io.images import display_path
from segpipe.io.numerals import counted
from segpipe.lesion.localizer import MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.html_image import ReportImage, described_class, split_names, suspicion_of, url
from segpipe.report.overlays import HEATMAPS, THUMBNAILS
from segpipe.report.wording import (
    MALIGNANT_SIGN,
    operating_point_words,
    percent,
    printable,
    titled_warnings,
    warning_titles,
    way_words,
)
from segpipe.runs.results import PROBABILITY_DIGITS, class_codes

# Settings that a reader of numbers asks for first; all are listed further down.
_HEAD_SETTINGS = {
    "split": "Split",
    "part": "Part of the split",
    "localize": "Mask starts with",
    "tta.views": "Views averaged",
    "explain.method": "Heatmap",
    "device": "Device",
}
# Key, heading, and whether the table can be sorted by it.
_COLUMNS = (
    ("thumbnail", "Photograph", False),
    ("path", "Path", True),
    ("diagnosis", "Diagnosis", True),
    ("confidence", "Confidence", True),
    ("malignant", "P malignant", True),
    ("suspicion", "Suspicion", True),
    ("source", "Mask source", True),
    ("spread", "Spread", True),
    ("heatmap", "Heatmap", False),
)


def report_context(
    images: Sequence[ReportImage],
    failures: Sequence[tuple[str, str]],
    summary: Mapping[str, Any],
    settings: Mapping[str, Any],
    points: Sequence[OperatingPoint],
) -> dict[str, Any]:
    """What the page of all images shows.

    Args:
        images: of the report.
        failures: path and reason of the rest.
        summary: as `summary.json` holds it.
        settings: those of `summary` by their dotted keys.
        points: operating points of the run.
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
    """Nested settings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _row(image: ReportImage, malignant: Collection[str], points: Sequence[OperatingPoint]) -> dict[str, Any]:
    row = image.row
    suspicious, suspicion = suspicion_of(row, malignant, points)
    return {
        "path": row["path"],
        "page": url(image.page),
        "picture": url(image.picture),
        "diagnosis": printable(row["diagnosis"]),
        "confidence": _share(row["confidence"]),
        "malignant": _share(row["p_malignant"]),
        "suspicious": suspicious,
        "suspicion": suspicion,
        "unsure": ", ".join(warning_titles(split_names(row["warnings"]))),
        "source": row["mask_source"],
        "spread": _share(row["tta_spread"]),
        "heatmap": image.has_heatmap,
    }


def _share(share: float | None) -> tuple[float, str] | None:
    """A share to sort by, and as it is shown."""
    return None if share is None else (round(share, PROBABILITY_DIGITS), percent(share))


def _has_values(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    if key == "heatmap":
        return any(row["heatmap"] for row in rows)
    return key not in {"malignant", "spread"} or any(row[key] is not None for row in rows)


def _with_counts(images: Sequence[ReportImage], malignant: Collection[str]) -> list[dict[str, Any]]:
    """The classes, the most frequent diagnosis first."""
    counts = Counter(image.row["diagnosis"] for image in images)
    codes = class_codes(images[0].row, malignant) if images else []
    most = max(counts.values(), default=1)
    classes = [
        {**described_class(code, malignant), "count": counts[code], "width": f"{counts[code] / most:.2%}"} for code in codes
    ]
    return sorted(classes, key=lambda item: -item["count"])


def _sources(images: Sequence[ReportImage]) -> list[dict[str, Any]]:
    counts = Counter(image.row["mask_source"] for image in images)
    return [{"code": source, "name": way_words(source), "count": counts[source]} for source in MaskSource if counts[source]]


def _facts(
    summary: Mapping[str, Any], settings: Mapping[str, Any], points: Sequence[OperatingPoint], *, failures: int
) -> list[tuple[str, str]]:
    unsure = [f"{title}: {count:,}" for title, count in titled_warnings(summary["warnings"]).items()]
    facts = [
        ("Images", f"{summary['images']:,} with a result, {failures:,} failed"),
        *([("Unsure", ", ".join(unsure))] if unsure else []),
        ("Speed", f"{summary['images_per_second']:,.1f} images per second"),
    ]
    facts += [(label, str(settings[key])) for key, label in _HEAD_SETTINGS.items() if settings.get(key) is not None]
    return [*facts, ("Operating points", operating_point_words(points))]


def _versions(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {**summary["versions"], "platform": summary["platform"]}
