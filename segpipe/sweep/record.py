"""What a sweep writes down of each of its trainings: `job.json`, in the folder of the training."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from segpipe.bundle.card import CARD
from segpipe.errors import OutputError
from segpipe.io.images import write_file
from segpipe.io.strict_json import encode_json

RECORD = "job.json"
RUNNING, FINISHED, FAILED = "running", "finished", "failed"
# What ranks classifiers, segmenters.
SCORES = ("val_auroc", "val_dice")


@dataclass(frozen=True)
class JobRecord:
    """One training of a sweep.

    Attributes:
        folder: of the training.
        status: `running` (or broken off), `finished` or `failed`.
        settings: by dotted key, without what belongs to one machine; and the chosen option of each config group.
        overrides: arguments of this job.
        seconds: that the starts before this one took; with this one, when it has ended.
        started: time of this start, seconds since 1970.
        peak_memory_mib: of the process, MiB; None where the system does not tell.
        epochs: trained in all.
        best_epoch: whose weights were kept, counted from 0.
        validation: the row of `metrics.csv` of that epoch.
        reason: why it failed.
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
        """By which finished trainings are ranked, the larger the better; None where the validation images allow none."""
        return next((self.validation[name] for name in SCORES if name in self.validation), None)

    def seconds_until(self, moment: float) -> float:
        """What the training took until a moment of its last start, also where that was killed and could not say."""
        return self.seconds + (max(0.0, moment - self.started) if self.status == RUNNING else 0.0)


_RECORDS = TypeAdapter(JobRecord)


def write_record(record: JobRecord) -> None:
    """Write `job.json` into the folder of the training.

    Raises:
        OutputError: it cannot be written.
    """
    content = {key: value for key, value in asdict(record).items() if key != "folder"}
    write_file(record.folder / RECORD, encode_json(content))


def read_record(folder: Path) -> JobRecord | None:
    """Read the `job.json` of a training; None where there is none.

    Raises:
        OutputError: it is damaged, or not written by a sweep.
    """
    try:
        content = (folder / RECORD).read_bytes()
    except OSError:
        return None
    try:
        return _RECORDS.validate_python(json.loads(content) | {"folder": folder})
    except (ValueError, TypeError, RecursionError) as error:
        raise OutputError(
            f"{folder / RECORD} must be the record of a training, got something else; delete it, and that training is done again"
        ) from error


def read_records(sweep: Path) -> list[JobRecord]:
    """The records of all trainings of a sweep, by their names."""
    records = (read_record(path.parent) for path in sorted(sweep.glob(f"*/{RECORD}")))
    return [record for record in records if record is not None]


def best_epoch_of(folder: Path) -> dict[str, Any]:
    """What a finished training says of its epochs: `epochs`, `best_epoch` and `validation`, see `JobRecord`."""
    training = json.loads((folder / "bundle" / CARD).read_text(encoding="utf-8"))["training"]
    row = pd.read_csv(folder / "metrics.csv", index_col="epoch").loc[training["best_epoch"]]
    return {"epochs": training["epochs"], "best_epoch": training["best_epoch"], "validation": row.dropna().to_dict()}


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
