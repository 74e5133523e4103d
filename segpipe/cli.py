"""The border between the shell and Hydra: literal paths, where the output goes, one clear line per error, the exit status."""

import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import hydra._internal.hydra as hydra_internals
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException, ValidationError
from yaml import YAMLError  # type: ignore[import-untyped]

from segpipe.call_errors import explain, explain_unknown_key, unwrap
from segpipe.config import register_resolvers, register_schemas
from segpipe.config_loading import CheckedConfigLoader, refuse_packages
from segpipe.config_values import check_values
from segpipe.errors import ConfigError, SegpipeError, as_write_error

_PATH_ARGUMENT = re.compile(
    r"(\+{0,2}(?:image|folder|output|labels|masks|split|ckpt_path|bundles|bundle\.\w+|data\.(?:root|cache|table)"
    r"|(?:segmenter|classifier)\.init)=)(.+)",
    re.DOTALL,
)
# What only a wrong call can cause: from Hydra, before a job starts, and from within a job that reads its configuration.
_CALL_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError)
_given: list[str] = []  # arguments of the call, as they came
_CALL_ERRORS_IN_JOB = (MissingMandatoryValue, InterpolationResolutionError, ValidationError)


def run_script(main: Callable[[], Any], argv: list[str] | None = None) -> int:
    """Run an entry script and turn every outcome into an exit status.

    A wrong call is one line on stderr, in words that name the key, the value and the way out. With HYDRA_FULL_ERROR=1 in the
    environment, which is for developers, nothing is caught: each error leaves as an exception with its full traceback.

    Args:
        main: the function that `hydra.main` decorates.
        argv: arguments without the script's name; by default those of the process.

    Returns:
        0 all is well, 1 work that failed or a bug (with its traceback), 2 a wrong call, 130 interrupted.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        _call_hydra(main, arguments, callbacks=[])
        return 0
    JobErrors.statuses.clear()
    _given[:] = arguments
    callbacks = [f"++hydra.callbacks.{kind.__name__}._target_={__name__}.{kind.__name__}" for kind in (JobErrors, CappedJobs)]
    try:
        _call_hydra(main, arguments, callbacks=callbacks)
    except SystemExit as stop:
        return 2 if stop.code else 0  # a task never exits: 0 is Hydra's after --help, the rest is a wrong call
    except KeyboardInterrupt as stop:
        sys.stderr.write(": ".join(["interrupted", *map(str, stop.args)]) + "\n")
        return 130
    except Exception as error:  # the outermost border: what is no wrong call is shown as a bug
        if not JobErrors.statuses:
            return _report(error, arguments, _CALL_ERRORS)
    return next(iter(JobErrors.statuses), 0)


def compose_config(conf: Path, name: str, arguments: Sequence[str]) -> DictConfig:
    """The configuration of a call that `hydra.main` does not run, checked.

    Args:
        conf: folder of the yaml files.
        name: of the primary one.
        arguments: `key=value`, as they came.

    Raises:
        ConfigError: a wrong call, in the words of `run_script`.
    """
    register_schemas()
    register_resolvers()

    def refuse(reason: str) -> ConfigError:
        # What only a script has: its --help, and image= and folder=.
        return ConfigError(re.sub(r";? (--help|write image=).*", "", reason))

    try:
        with _checked_loading(), initialize_config_dir(str(conf), version_base="1.3"):
            config = compose(name, overrides=quote_paths(arguments))
    except _CALL_ERRORS as error:
        raise refuse(explain(error, arguments)) from error
    refusal = _refuse_unknown_key(config, arguments)
    if refusal:
        raise refuse(refusal)
    try:
        check_values(config)
    except ConfigError as error:
        raise refuse(str(error)) from error
    return config


def command_again(**values: str) -> str:
    """The command line of this call as a shell takes it, with some values changed or added; None of it is interpreted.

    Args:
        values: of keys; a key that is not among them stays as it was, `overwrite` goes.
    """
    kept = [argument for argument in _given if argument.partition("=")[0] not in {*values, "overwrite"}]
    return shlex.join(["python", sys.argv[0], *kept, *(f"{key}={value}" for key, value in values.items())])


def in_sweep() -> bool:
    """Whether this is one of the jobs of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def output_folder(config: DictConfig) -> Path:
    """The folder that a run writes into: `output`, or one named after the date and time; call it once per run.

    In a multirun each job has a subfolder of its own, named by its number (that of a training is chosen by `segpipe.sweep.job`).
    A training that resumes stays in its folder, see `segpipe.config_values.check_values`.
    """
    if in_sweep():
        return Path(config.output or HydraConfig.get().sweep.dir) / str(HydraConfig.get().job.num)
    if config.output is None and config.get("ckpt_path") is not None:
        return Path(config.ckpt_path).resolve().parent.parent  # OUTPUT/checkpoints/last.ckpt
    return Path(config.output or datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S"))


class JobErrors(Callback):
    """Shows the error of a job as soon as it ends, in place of Hydra, which adds lines of its own.

    Attributes:
        statuses: exit status of each failed job, in order.
    """

    statuses: ClassVar[list[int]] = []

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse a key that the schema does not know: Hydra itself lets `+key=value` through."""
        refusal = _refuse_unknown_key(config, config.hydra.overrides.task)
        if refusal:
            _write_error(refusal)
            raise SystemExit(ConfigError.exit_status)  # the only way out, Hydra swallows a callback's exceptions

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Report a failed job. A sweep goes on, and Hydra must still see the failure: its jobs may run in other processes."""
        if job_return.status is not JobStatus.FAILED:
            return
        error = job_return._return_value  # the public property prints and raises
        in_sweep = config.hydra.mode == RunMode.MULTIRUN
        prefix = f"job {config.hydra.job.num}: " if in_sweep else ""
        self.statuses.append(_report(error, job_return.overrides or [], _CALL_ERRORS_IN_JOB, prefix=prefix))
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


def _refuse_unknown_key(config: DictConfig, arguments: Sequence[str]) -> str | None:
    """What to say of a key at the top that the schema does not know, None where there is none."""
    schema: Any = OmegaConf.get_type(config)
    if not is_dataclass(schema):
        return (
            "a primary configuration must have a schema of segpipe first in its defaults, train_cls_schema for one; or give its "
            "values as an experiment, +experiment=NAME"
        )
    known = {field.name for field in fields(schema)}
    unknown = sorted(set(map(str, config)) - known - {"hydra"})
    return explain_unknown_key(unknown[0], known, arguments) if unknown else None


def quote_paths(overrides: Sequence[str]) -> list[str]:
    """Quote the values of path keys for Hydra's grammar, so that they are taken literally whatever their characters.

    Args:
        overrides: `key=value` arguments as the shell hands them over; a `[list]`, `null` and an empty value stay as they are.
    """
    return [_quote_path(override) for override in overrides]


def _quote_path(override: str) -> str:
    match = _PATH_ARGUMENT.fullmatch(override)
    if match is None or match[2] == "null" or (match[2][0], match[2][-1]) == ("[", "]"):
        return override
    key, path = match.groups()
    uninterpolated = re.sub(r"(\\*)\$\{", r"\1\1\\${", path)
    return key + QuotedString(uninterpolated, Quote.single).with_quotes()


def _call_hydra(main: Callable[[], Any], arguments: list[str], *, callbacks: list[str]) -> None:
    """Call Hydra's main; it raises its errors instead of printing them."""
    parser = get_args_parser()
    parser.error = _refuse_flag  # type: ignore[method-assign]
    parsed = parser.parse_intermixed_args(arguments)
    if parsed.experimental_rerun is not None:
        _refuse_flag("--experimental-rerun reads a pickled file, which can run any code")
    refuse_packages(parsed.config_path, parsed.config_dir)
    flags = [argument for argument in arguments if argument not in parsed.overrides]
    # In a sweep a comma or a bracket in a path has to keep Hydra's meaning.
    overrides = parsed.overrides if parsed.multirun else quote_paths(parsed.overrides)
    # The keys stand together, because Hydra does not take `a=1 --multirun b=2,3`.
    argv = [sys.argv[0], *overrides, *callbacks, *flags]
    # The help texts of conf/ name the config groups themselves; Hydra would take a second to list them.
    list_groups = (lambda *_: "") if parsed.help else Hydra.format_config_groups
    with (
        env_override({"HYDRA_FULL_ERROR": "1"}),
        _replaced(sys, "argv", argv),
        _replaced(Hydra, "format_config_groups", list_groups),
        _checked_loading(),
    ):
        main()


def _refuse_flag(message: str) -> NoReturn:
    raise ConfigError(f"{message}; --hydra-help lists the flags, --help the keys")


def _checked_loading() -> AbstractContextManager[None]:
    return _replaced(hydra_internals, "ConfigLoaderImpl", CheckedConfigLoader)


@contextmanager
def _replaced(owner: object, name: str, value: Any) -> Iterator[None]:
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def _report(error: Exception, arguments: Sequence[str], call_errors: tuple[type[Exception], ...], *, prefix: str = "") -> int:
    """Show an error on stderr, a wrong call as one line and a bug with its traceback; returns the exit status."""
    if isinstance(error, InstantiationException):
        error = unwrap(error)
    if isinstance(error, SegpipeError):
        _write_error(prefix + str(error))
        return error.exit_status
    if isinstance(error, call_errors):
        _write_error(prefix + explain(error, arguments))
        return ConfigError.exit_status
    refusal = as_write_error(error)
    if refusal is not None:
        _write_error(prefix + str(refusal))
        return refusal.exit_status
    traceback.print_exception(error)
    return 1


def _write_error(message: str) -> None:
    """Write one line; control characters and undecodable bytes, as they may stand in a file name, show by their codes."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda match: _code(match[0]), message)
    sys.stderr.write(f"error: {line}\n")


def _code(character: str) -> str:
    undecodable = "\udc80" <= character <= "\udcff"
    return f"\\x{ord(character) - 0xDC00:02x}" if undecodable else repr(character)[1:-1]
