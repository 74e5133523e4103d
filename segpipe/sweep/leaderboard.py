"""The tables over all trainings of a sweep: `leaderboard.csv` with its picture, `failed.csv`, `out_of_fold.csv`."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from segpipe.io.images import write_file
from segpipe.sweep.out_of_fold import write_out_of_fold
from segpipe.sweep.picture import draw_leaderboard
from segpipe.sweep.record import FAILED, FINISHED, SCORES, JobRecord, read_records
from segpipe.sweep.test_split import read_test_metrics, read_test_set

LEADERBOARD, FAILURES, PICTURE = "leaderboard.csv", "failed.csv", "leaderboard.png"


def write_tables(sweep: Path) -> None:
    """Write the tables of a sweep anew from the records of its trainings.

    Args:
        sweep: folder of the sweep; each training has a subfolder.

    Raises:
        OutputError: a table cannot be written.
    """
    records = read_records(sweep)
    table = leaderboard(records)
    _write(sweep / LEADERBOARD, table)
    failed = [record for record in records if record.status == FAILED]
    rows = [[record.folder.name, " ".join(record.overrides), record.reason] for record in failed]
    _write(sweep / FAILURES, pd.DataFrame(rows, columns=["job", "overrides", "reason"]))
    finished = {record.folder.name: record for record in records if record.status == FINISHED}
    if finished:
        draw_leaderboard(table, varying_settings(list(finished.values())), sweep / PICTURE)
    write_out_of_fold(sweep, list(finished.values()))


def leaderboard(records: Sequence[JobRecord]) -> pd.DataFrame:
    """The finished trainings, the best first, those without a score last: on validation, for the test split must not choose.

    Returns:
        One row each: `job`, the settings that differ between them, `best_epoch`, the figures of that epoch (`val_...`), those of
        the test split (`test_...`, see `read_test_metrics`), `epochs`, `seconds`, `peak_memory_mib`, and what the test split is:
        `test_dataset`, `test_images`, `test_set_sha256`, empty where an older version did not record it.
    """
    finished = [record for record in records if record.status == FINISHED]
    varying = varying_settings(finished)
    rows = [
        {
            "job": record.folder.name,
            **{key: _shown(record.settings.get(key)) for key in varying},
            "best_epoch": record.best_epoch,
            **dict(sorted(record.validation.items(), key=lambda item: item[0] not in SCORES)),
            **read_test_metrics(record.folder),
            "epochs": record.epochs,
            "seconds": round(record.seconds, 1),
            "peak_memory_mib": None if record.peak_memory_mib is None else round(record.peak_memory_mib),
            **read_test_set(record.folder),
        }
        for record in sorted(finished, key=lambda record: -math.inf if record.score is None else record.score, reverse=True)
    ]
    return pd.DataFrame(rows if rows else None, columns=None if rows else ["job"])


def varying_settings(records: Sequence[JobRecord]) -> list[str]:
    """The settings in which trainings differ: chosen options of config groups first, then single keys."""
    keys = dict.fromkeys(key for record in records for key in record.settings)
    varying = [key for key in keys if len({json.dumps(record.settings.get(key)) for record in records}) > 1]
    return sorted(varying, key=lambda key: "." in key)


def _shown(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | Mapping) else value


def _write(path: Path, table: pd.DataFrame) -> None:
    write_file(path, table.to_csv(index=False).encode())
