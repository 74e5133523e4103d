"""Leaderboard of a sweep for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from segpipe.evaluation.text import metric_text, plain_table
from segpipe.io.files import counted
from segpipe.io.run_files import LEADERBOARD

PRINTED = 20  # best trainings in the terminal
# Metrics of the test images that are printed beside those of the validation images; all others are in the table on disk.
_PRINTED_METRICS = ("test_macro_auroc", "test_balanced_accuracy", "test_sensitivity_mel", "test_dice", "test_localizer_dice")


def leaderboard_text(sweep: Path) -> str:
    """Write the leaderboard of a sweep for the terminal.

    It has the settings in which the trainings differ and the main metrics, those of the test images with their 95 % intervals.

    Args:
        sweep: Folder of the sweep, which holds `leaderboard.csv`.
    """
    path = sweep / LEADERBOARD
    table = pd.read_csv(path, dtype={"job": str})
    names = list(table.columns)
    settings = shown_settings(names[1 : names.index("best_epoch")]) if "best_epoch" in names else []
    metrics = [name for name in names if name.startswith("val_")] + [name for name in _PRINTED_METRICS if name in names]
    rows = [["job", *settings, *metrics, *(["seconds"] if "seconds" in names else [])]]
    for row in table.head(PRINTED).to_dict("records"):
        numbers = [_metric_cell(row, name) for name in metrics]
        rows.append([row["job"], *(_setting_cell(row[name]) for name in settings), *numbers, *_seconds_cell(row)])
    more = f"\n{len(table) - PRINTED} more" if len(table) > PRINTED else ""
    return f"{plain_table(rows)}{more}\nleaderboard of {counted(len(table), 'finished training')}, all columns in {path}"


def _metric_cell(row: Mapping[Any, Any], name: str) -> str:
    value, low, high = (None if pd.isna(row.get(key)) else float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return metric_text({"value": value, "low": low, "high": high})


def _setting_cell(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)


def _seconds_cell(row: Mapping[Any, Any]) -> list[str]:
    return [f"{row['seconds']:.0f}"] if "seconds" in row else []


def shown_settings(varying: Sequence[str]) -> list[str]:
    """Select the settings that identify a training.

    Keys of a config group whose options differ are left out, because the option implies them.
    """
    groups = [name for name in varying if "." not in name]
    return [name for name in varying if name.split(".")[0] not in groups or name in groups]
