"""Records of the jobs of a sweep: `job.json` in their folders."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from segpipe.errors import OutputError
from segpipe.io.files import encode_json, write_file
from segpipe.io.run_files import BUNDLE, CARD, EPOCH_TABLE, JOB_RECORD, METRICS, TEST

RUNNING, FINISHED, FAILED = "running", "finished", "failed"
# Metrics that rank classifiers and segmenters.
SCORES = ("val_auroc", "val_dice")


@dataclass(frozen=True)
class JobRecord:
    """Training of a sweep.

    Attributes:
        folder: Folder of the training.
        status: `running` (or interrupted), `finished` or `failed`.
        settings: Settings by dotted key, without those of one machine; and the chosen option of each config group.
        overrides: Arguments of this job.
        seconds: Duration of all earlier starts; after the end, of this one, too.
        started: Time of this start, seconds since 1970.
        peak_memory_mib: Peak memory of the process, MiB; None where the system does not report it.
        epochs: Number of trained epochs.
        best_epoch: Epoch whose weights were kept, counted from 0.
        validation: Row of `metrics.csv` of that epoch.
        reason: Reason of a failure.
    """

    folder: Path
    status: str
    settings: Mapping[str, Any]
    overrides: list[str]
    seconds: float = 0.0
    started: float = field(default_factory=time.time)
    peak_memory_mib: float | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    validation: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None

    @property
    def score(self) -> float | None:
        """Score that ranks finished trainings, larger is better; None without one."""
        return next((self.validation[name] for name in SCORES if name in self.validation), None)

    def seconds_until(self, moment: float) -> float:
        """Compute the duration until a time, even after a kill."""
        return self.seconds + (max(0.0, moment - self.started) if self.status == RUNNING else 0.0)


def write_record(record: JobRecord) -> None:
    """Write `job.json` into the folder of a training.

    Raises:
        OutputError: The file cannot be written.
    """
    content = {key: value for key, value in asdict(record).items() if key != "folder"}
    write_file(record.folder / JOB_RECORD, encode_json(content))


def read_record(folder: Path) -> JobRecord | None:
    """Read the `job.json` of a training; None where there is none.

    Raises:
        OutputError: The file is damaged, or not written by a sweep.
    """
    try:
        content = (folder / JOB_RECORD).read_bytes()
    except OSError:
        return None
    try:
        return msgspec.convert(json.loads(content) | {"folder": folder}, JobRecord)
    except (msgspec.ValidationError, ValueError, TypeError, RecursionError) as error:
        raise OutputError(
            f"{folder / JOB_RECORD} must be the record of a training, got something else; delete it to run that training again"
        ) from error


def read_records(sweep: Path) -> list[JobRecord]:
    """Read the records of all trainings of a sweep, sorted by name."""
    records = (read_record(path.parent) for path in sorted(sweep.glob(f"*/{JOB_RECORD}")))
    return [record for record in records if record is not None]


def best_epoch_of(folder: Path) -> dict[str, Any]:
    """Read `epochs`, `best_epoch` and `validation` of a finished training."""
    training = json.loads((folder / BUNDLE / CARD).read_text(encoding="utf-8"))["training"]
    start = training.get("start", {})
    row = pd.read_csv(folder / EPOCH_TABLE, index_col="epoch").loc[training["best_epoch"]]
    validation = start["scores"] if start.get("kept") else row.dropna().to_dict()
    return {"epochs": training["epochs"], "best_epoch": training["best_epoch"], "validation": validation}


# By part of `metrics.json`; the trained model has the plain names.
_PREFIXES = {"classification": "test", "segmenter_alone": "test", "segmentation": "test_localizer"}
_TRAINED = ("classification", "segmenter_alone")


def read_test_metrics(folder: Path) -> dict[str, float | None]:
    """Read the metrics of a training on the test split.

    Args:
        folder: Folder of the training.

    Returns:
        `test_NAME` of the trained model, and `test_localizer_NAME` of the masks of the localizer, end to end; each with
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
    """Read the identity of the test images of a training.

    Args:
        folder: Folder of the training.

    Returns:
        `test_dataset`, `test_images` (number) and `test_set_sha256`; None where an older version recorded none.
    """
    metrics = _read(folder)
    known = next((metrics[part].get("test_set") for part in _TRAINED if part in metrics), None) or {}
    return {
        "test_dataset": known.get("dataset"),
        "test_images": known.get("images"),
        "test_set_sha256": known.get("sha256"),
    }


def _read(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / TEST / METRICS).read_text(encoding="utf-8"))
    return metrics
