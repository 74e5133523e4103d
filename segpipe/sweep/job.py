"""One training of a sweep. Its folder is named by what the training is, so a second start finds what is done and goes on."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig, open_dict

from segpipe.data.loading import load_dataset, load_extra
from segpipe.errors import SegpipeError
from segpipe.inference.memory import peak_memory_mib, restart_peak_memory
from segpipe.sweep.leaderboard import LEADERBOARD, write_tables
from segpipe.sweep.record import FAILED, FINISHED, RUNNING, JobRecord, best_epoch_of, read_record, write_record
from segpipe.training.identity import flatten, identify_data, identify_settings, portable_settings
from segpipe.training.setup import choose_split

Train = Callable[[DictConfig, Path], Mapping[str, Any]]

LOCK = ".lock"
_NAME_LENGTH = 12  # hexadecimal digits


def run_job(config: DictConfig, train: Train) -> float:
    """Do one training of a sweep unless it is done, and bring the tables of the sweep up to date.

    A training that was broken off goes on from its last checkpoint. One that another process has in hand is waited for.

    Args:
        config: of the training.
        train: does it, in the folder that it is given.

    Returns:
        The score on the validation images, never one of the test split, so that a search may go by it; NaN where there is none.

    Raises:
        Exception: what `train` raises; the record of the job tells it too.
    """
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir)
    folder = sweep / job_name(config)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        try:
            record = read_record(folder)
            if record is not None and record.status == FINISHED and not config.overwrite:
                print(f"job {hydra.job.num} was done before, see {folder}")
            else:
                choices = {group: option for group, option in hydra.runtime.choices.items() if "/" not in group}
                fresh = JobRecord(folder, RUNNING, flatten(portable_settings(config)) | choices, list(hydra.overrides.task))
                record = _train(config, train, fresh, before=None if config.overwrite else record)
        finally:
            with FileLock(sweep / LOCK):
                write_tables(sweep)
    print(f"leaderboard in {sweep / LEADERBOARD}")
    return math.nan if record.score is None else record.score


def job_name(config: DictConfig) -> str:
    """The name of a training: a hash of its resolved configuration, its data and its split.

    Paths, the device and the number of workers do not change it. What lies at a path does, where the result depends on it.
    """
    identity = {
        "settings": portable_settings(config),
        "identity": identify_settings(config).settings,
        "data": _data_of(config),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:_NAME_LENGTH]


def _data_of(config: DictConfig) -> Mapping[str, Any] | None:
    """The identity of a training's data; None where it cannot be used, which the training itself will say."""
    try:
        dataset = load_dataset(config.data)
        extra = load_extra(config.data.extra, classes=dataset.classes, taken=dataset.table)
        return identify_data(dataset, extra.table, choose_split(config, dataset))
    except (SegpipeError, InstantiationException):
        return None


def _train(config: DictConfig, train: Train, record: JobRecord, *, before: JobRecord | None) -> JobRecord:
    """Do a training, and write down how it ended."""
    last = record.folder / "checkpoints" / "last.ckpt"
    with open_dict(config):
        config.output = str(record.folder)
        if before is not None and last.is_file():
            config.ckpt_path = str(last)
            record = replace(record, seconds=before.seconds_until(last.stat().st_mtime))
        else:
            config.overwrite = True
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
