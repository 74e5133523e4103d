"""The test of one training of a sweep: its metrics by component, and which images they are of."""

import json
from pathlib import Path
from typing import Any

# By the part of `metrics.json`; what was trained has the plain names.
_PREFIXES = {"classification": "test", "segmenter_alone": "test", "segmentation": "test_localizer"}
_TRAINED = ("classification", "segmenter_alone")


def read_test_metrics(folder: Path) -> dict[str, float | None]:
    """Read the metrics of a training on the test split.

    Args:
        folder: of the training.

    Returns:
        `test_NAME` of the model that was trained, `test_localizer_NAME` of the masks of the localizer, end to end; each with
        `_low` and `_high` for the ends of its interval.
    """
    metrics = _read(folder)
    values: dict[str, float | None] = {}
    for part, prefix in _PREFIXES.items():
        for name, metric in metrics.get(part, {}).get("metrics", {}).items():
            values[f"{prefix}_{name}"] = metric["value"]
            values |= {f"{prefix}_{name}_{end}": metric[end] for end in ("low", "high")}
    return values


def read_test_set(folder: Path) -> dict[str, Any]:
    """Read which images a training was tested on.

    Args:
        folder: of the training.

    Returns:
        `test_dataset`, `test_images` (number) and `test_set_sha256`; None where an older version did not record them.
    """
    metrics = _read(folder)
    known = next((metrics[part].get("test_set") for part in _TRAINED if part in metrics), None) or {}
    return {
        "test_dataset": known.get("dataset"),
        "test_images": known.get("images"),
        "test_set_sha256": known.get("sha256"),
    }


def _read(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "test" / "metrics.json").read_text(encoding="utf-8"))
    return metrics
