"""Callbacks of Hydra that each command runs with."""

import os
from typing import Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, ValidationError

from segpipe.cli.reporting import report, write_error
from segpipe.config.composing import refuse_unknown_key
from segpipe.errors import ConfigError

# What only a wrong call can cause in a job that reads its configuration.
_CALL_ERRORS_IN_JOB = (MissingMandatoryValue, InterpolationResolutionError, ValidationError)


class JobErrors(Callback):
    """Shows the error of a job as soon as it ends, in place of Hydra, which adds lines of its own.

    Attributes:
        statuses: Exit status of each failed job, in order.
    """

    statuses: ClassVar[list[int]] = []

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse a key that the schema does not know: Hydra itself lets `+key=value` through."""
        refusal = refuse_unknown_key(config, config.hydra.overrides.task)
        if refusal:
            write_error(refusal)
            raise SystemExit(ConfigError.exit_status)  # the only way out, Hydra swallows a callback's exceptions

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Report a failed job. A sweep goes on, and Hydra must still see the failure: its jobs may run in other processes."""
        if job_return.status is not JobStatus.FAILED:
            return
        error = job_return._return_value  # the public property prints and raises
        in_sweep = config.hydra.mode == RunMode.MULTIRUN
        prefix = f"job {config.hydra.job.num}: " if in_sweep else ""
        self.statuses.append(report(error, job_return.overrides or [], _CALL_ERRORS_IN_JOB, prefix=prefix))
        if not in_sweep:
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None


class CappedJobs(Callback):
    """Lets a launcher run no more jobs at once than the machine has cores."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra, before it makes the launcher; `n_jobs` is joblib's, -1 and None mean all cores and one."""
        jobs, cores = config.hydra.launcher.get("n_jobs"), os.cpu_count() or 1
        if jobs is not None and jobs > cores:
            with read_write(config):
                config.hydra.launcher.n_jobs = cores
