"""Border between the shell and Hydra: exit statuses and one-line errors."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, ValidationError

from segpipe.cli.call import remember_call, report, report_interrupt, write_error
from segpipe.cli.subcommands import Subcommand, load_function
from segpipe.config import CONF
from segpipe.config.arguments import quote_text
from segpipe.config.composing import CALL_ERRORS, checked_loading, quote_paths, refuse_unknown_key, replaced
from segpipe.config.loading import refuse_packages
from segpipe.errors import ConfigError

# Errors that only a wrong call can cause in a job that reads its configuration.
_CALL_ERRORS_IN_JOB = (MissingMandatoryValue, InterpolationResolutionError, ValidationError)


def run_work(subcommand: Subcommand, arguments: Sequence[str], *, program: Sequence[str]) -> int:
    """Run a subcommand and return its exit status, see `run_main`.

    Args:
        subcommand: Entry of the table of subcommands.
        arguments: Arguments of the call, without the program.
        program: Words by which the program was called.
    """
    decorate = hydra.main(version_base="1.3", config_path=str(CONF), config_name=subcommand.config)
    main = decorate(load_function(subcommand.work))
    return run_main(main, arguments, program=program, subcommand=subcommand)


def run_main(
    main: Callable[[], Any], arguments: Sequence[str], *, program: Sequence[str], subcommand: Subcommand | None = None
) -> int:
    """Run a function that `hydra.main` decorates and return an exit status.

    A wrong call is one line on stderr with the key, the value and the next step. With HYDRA_FULL_ERROR=1 in the environment,
    which is for developers, nothing is caught and each error is raised with its full traceback.

    Args:
        main: Function that `hydra.main` decorates.
        arguments: Arguments of the call, without the program.
        program: Words by which the program was called.
        subcommand: Subcommand whose help page --help shows; None for that of Hydra.

    Returns:
        0 for success, 1 for work that failed or a bug (with its traceback), 2 for a wrong call, 130 for an interrupt.
    """
    JobErrors.statuses.clear()
    remember_call(program, arguments)
    added = [f"hydra.help.app_name={quote_text(' '.join(program))}"]
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        _call_hydra(main, arguments, added=added, subcommand=subcommand)
        return 0
    added += [f"++hydra.callbacks.{kind.__name__}._target_={kind.__module__}.{kind.__name__}" for kind in (JobErrors, CappedJobs)]
    try:
        _call_hydra(main, arguments, added=added, subcommand=subcommand)
    except SystemExit as stop:
        return 2 if stop.code else 0  # a job never exits: 0 is Hydra's after --help, the rest is a wrong call
    except KeyboardInterrupt as stop:
        return report_interrupt(stop)
    except Exception as error:  # an error that is no wrong call is shown as a bug
        if not JobErrors.statuses:
            return report(error, arguments, CALL_ERRORS)
    return next(iter(JobErrors.statuses), 0)


def _call_hydra(main: Callable[[], Any], arguments: Sequence[str], *, added: list[str], subcommand: Subcommand | None) -> None:
    """Call Hydra's main, which raises its errors instead of printing them."""
    parser = get_args_parser()
    parser.error = _refuse_flag  # type: ignore[method-assign]
    parsed = parser.parse_intermixed_args(list(arguments))
    if parsed.experimental_rerun is not None:
        _refuse_flag("--experimental-rerun reads a pickled file, which can run any code")
    refuse_packages(parsed.config_path, parsed.config_dir)
    flags = [argument for argument in arguments if argument not in parsed.overrides]
    # In a sweep, commas and brackets in a path keep Hydra's meaning.
    overrides = parsed.overrides if parsed.multirun else quote_paths(parsed.overrides)
    if parsed.help and subcommand is not None:
        from segpipe.cli.help import PAGE, register_page

        register_page(subcommand)
        added = [*added, f"hydra/help={PAGE}"]
    # The keys are placed together, because Hydra does not accept `a=1 --multirun b=2,3`.
    argv = [sys.argv[0], *overrides, *added, *flags]
    # The help pages list the config groups themselves; Hydra would need a second for it.
    list_groups = (lambda *_: "") if parsed.help else Hydra.format_config_groups
    with (
        env_override({"HYDRA_FULL_ERROR": "1"}),
        replaced(sys, "argv", argv),
        replaced(Hydra, "format_config_groups", list_groups),
        checked_loading(),
    ):
        main()


def _refuse_flag(message: str) -> NoReturn:
    raise ConfigError(f"{message}; --hydra-help lists the flags, --help the keys")


class JobErrors(Callback):
    """Callback that reports the error of a job in place of Hydra.

    Attributes:
        statuses: Exit statuses of the failed jobs, in order.
    """

    statuses: ClassVar[list[int]] = []

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse an unknown top-level key, which Hydra accepts as `+key=value`."""
        refusal = refuse_unknown_key(config, config.hydra.overrides.task)
        if refusal:
            write_error(refusal)
            raise SystemExit(ConfigError.exit_status)  # Hydra swallows all other exceptions of a callback

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Report a failed job."""
        # In a sweep Hydra must still see the failure, because jobs may run in other processes.
        if job_return.status is not JobStatus.FAILED:
            return
        error = job_return._return_value  # the public property prints and raises
        in_sweep = config.hydra.mode == RunMode.MULTIRUN
        prefix = f"job {config.hydra.job.num}: " if in_sweep else ""
        self.statuses.append(report(error, job_return.overrides or [], _CALL_ERRORS_IN_JOB, prefix=prefix))
        if not in_sweep:
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None


class CappedJobs(Callback):
    """Callback that limits parallel jobs to the number of cores."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Lower `n_jobs` of joblib before the launcher is built."""
        # -1 means all cores, None one.
        jobs, cores = config.hydra.launcher.get("n_jobs"), os.cpu_count() or 1
        if jobs is not None and jobs > cores:
            with read_write(config):
                config.hydra.launcher.n_jobs = cores
