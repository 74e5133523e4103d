"""Jobs of a sweep, named by their settings and data.

A second start of the sweep therefore finds the earlier trainings, skips finished ones and resumes interrupted ones.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException

from segpipe.config.schemas import TrainConfig
from segpipe.errors import SegpipeError
from segpipe.inference.resources import peak_memory_mib, restart_peak_memory
from segpipe.io.run_files import CHECKPOINTS, LAST_CHECKPOINT, LEADERBOARD, LOCK
from segpipe.sweep.leaderboard import write_tables
from segpipe.sweep.record import FAILED, FINISHED, RUNNING, JobRecord, best_epoch_of, read_record, write_record
from segpipe.training.identity import flatten, identify_settings, portable_settings
from segpipe.training.preparation import read_data_identity

AnyConfig = TypeVar("AnyConfig", bound=TrainConfig)
Train = Callable[[AnyConfig, Path], Mapping[str, Any]]

_NAME_LENGTH = 12  # hexadecimal digits


def run_job(config: AnyConfig, train: Train[AnyConfig], *, say: Callable[[str], None]) -> float:
    """Run one training of a sweep, unless finished, and update the tables.

    An interrupted training is resumed. One that another process is running is waited for.

    Args:
        config: Configuration of the training.
        train: Function that runs the training in a folder.
        say: Function that reports lines to the user.

    Returns:
        Score on the validation images, never one of the test split, so that a search may use it; NaN where there is none.

    Raises:
        Exception: Any error of `train`; the record of the job holds its message, too.
    """
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir)
    folder = sweep / job_name(config)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        try:
            record = read_record(folder)
            if record is not None and record.status == FINISHED and not config.overwrite:
                say(f"job {hydra.job.num} was finished before, see {folder}")
            else:
                choices = {group: option for group, option in hydra.runtime.choices.items() if "/" not in group}
                new = JobRecord(folder, RUNNING, flatten(portable_settings(config)) | choices, list(hydra.overrides.task))
                record = _train(config, train, new, before=None if config.overwrite else record)
        finally:
            with FileLock(sweep / LOCK):
                write_tables(sweep)
    say(f"leaderboard in {sweep / LEADERBOARD}")
    return math.nan if record.score is None else record.score


def job_name(config: TrainConfig) -> str:
    """Name a training by a hash of its settings, data and split.

    Paths, the device and the number of workers do not change it. The content of a path does, if the result depends on it.
    """
    identity = {
        "settings": portable_settings(config),
        "identity": identify_settings(config).settings,
        "data": _data_identity(config),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:_NAME_LENGTH]


def _data_identity(config: TrainConfig) -> Mapping[str, Any] | None:
    """Identify the data of a training; None for unusable data."""
    try:
        return read_data_identity(config)
    except (SegpipeError, InstantiationException):
        return None


def _train(config: AnyConfig, train: Train[AnyConfig], record: JobRecord, *, before: JobRecord | None) -> JobRecord:
    """Run a training and record its result."""
    last = record.folder / CHECKPOINTS / LAST_CHECKPOINT
    if before is not None and last.is_file():
        config = replace(config, output=str(record.folder), ckpt_path=str(last))
        record = replace(record, seconds=before.seconds_until(last.stat().st_mtime))
    else:
        config = replace(config, output=str(record.folder), overwrite=True)
    write_record(record)
    restart_peak_memory()
    begun = time.perf_counter()
    try:
        train(config, record.folder)
        ended = replace(record, status=FINISHED, **best_epoch_of(record.folder))
    except Exception as error:
        _write_end(replace(record, status=FAILED, reason=_reason(error)), begun)
        raise
    return _write_end(ended, begun)


def _write_end(record: JobRecord, begun: float) -> JobRecord:
    ended = replace(record, seconds=record.seconds + time.perf_counter() - begun, peak_memory_mib=peak_memory_mib())
    write_record(ended)
    return ended


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, SegpipeError) else f"{type(error).__name__}: {text}"
