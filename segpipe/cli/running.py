"""Border between the shell and Hydra: exit statuses, one-line errors, help pages."""

import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn, get_type_hints

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, ValidationError

from segpipe.cli.call import remember_call, report, report_interrupt, write_error
from segpipe.cli.subcommands import Subcommand, load_function
from segpipe.cli.sweeps import CappedJobs, SweptFolder, print_leaderboard
from segpipe.config import CONF
from segpipe.config.arguments import quote_text
from segpipe.config.composing import CALL_ERRORS, checked_loading, quote_paths, refuse_unknown_key, replaced
from segpipe.config.fields import Setting, list_keys, settings_of
from segpipe.config.loading import refuse_packages
from segpipe.config.schemas import SCHEMAS, TrainConfig
from segpipe.errors import ConfigError

# Errors that only a wrong call can cause in a job that reads its configuration.
_CALL_ERRORS_IN_JOB = (MissingMandatoryValue, InterpolationResolutionError, ValidationError)

PAGE = "segpipe"  # option of the config group hydra/help
DISCLAIMER = "Not a medical device."
_WIDTH, _INDENT = 120, 26
_ADDED = {"experiment": "Experiments, settings that belong together", "sweep": "Sweeps, for --multirun"}


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
    SweptFolder.folder = None
    remember_call(program, arguments)
    added = [f"hydra.help.app_name={quote_text(' '.join(program))}"]
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        _call_hydra(main, arguments, added=added, subcommand=subcommand)
        return 0
    added += [f"++hydra.callbacks.{kind.__name__}._target_={kind.__module__}.{kind.__name__}" for kind in _CALLBACKS]
    try:
        _call_hydra(main, arguments, added=added, subcommand=subcommand)
    except SystemExit as stop:
        return 2 if stop.code else 0  # a job never exits: 0 is Hydra's after --help, the rest is a wrong call
    except KeyboardInterrupt as stop:
        return report_interrupt(stop)
    except Exception as error:  # an error that is no wrong call is shown as a bug
        if not JobErrors.statuses:
            return report(error, arguments, CALL_ERRORS)
    finally:
        print_leaderboard()
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


_CALLBACKS = (JobErrors, CappedJobs, SweptFolder)


@dataclass(frozen=True)
class Option:
    """A yaml file of a config group.

    Attributes:
        name: Name of the file without its ending.
        summary: First sentence of the comment at its head.
        package: Key of its values; None for that of the group.
        schema: Schema of its values; None without one.
    """

    name: str
    summary: str
    package: str | None
    schema: type | None


def register_page(subcommand: Subcommand) -> None:
    """Register the help page of a subcommand as `hydra/help=PAGE`."""
    ConfigStore.instance().store(group="hydra/help", name=PAGE, node={"template": help_page(subcommand)})


def help_page(subcommand: Subcommand) -> str:
    """Write the help page of a subcommand as a template of Hydra."""
    schema = SCHEMAS[None][subcommand.config]
    program, summary = "${hydra.help.app_name}", subcommand.summary
    lines = [f"{program}: {summary[0].upper()}{summary[1:]}.", "", "Examples"]
    lines += [f"  {program} {example}".rstrip() for example in subcommand.examples]
    lines += ["", "Keys, as key=value", *_describe_keys(schema, subcommand.keys)]
    names = [entry.name for entry in fields(schema) if not subcommand.keys or entry.name in subcommand.keys]
    for group in (name for name in names if name in SCHEMAS):
        lines += ["", *_describe_group(group, settings_of(schema)[group])]
    if issubclass(schema, TrainConfig) and not subcommand.keys:
        for group, title in _ADDED.items():
            lines += ["", title, *(_line(f"+{group}={option.name}", option.summary) for option in list_options(group))]
    notes = textwrap.wrap(subcommand.notes, _WIDTH)
    lines += [
        "",
        *([*notes, ""] if notes else []),
        "All keys with their values",
        "$CONFIG",
        "--hydra-help lists all flags.",
        DISCLAIMER,
    ]
    return "\n".join(lines)


def list_options(group: str) -> list[Option]:
    """List the options of a config group."""
    return [_read_option(group, path) for path in sorted((CONF / group).glob("*.yaml"))]


def _read_option(group: str, path: Path) -> Option:
    text = path.read_text(encoding="utf-8")
    comment = re.match(r"(?:#.*\n)*", text)
    head = [line.removeprefix("#").strip() for line in (comment[0] if comment else "").splitlines()]
    package = next((line.removeprefix("@package ") for line in head if line.startswith("@package ")), None)
    sentences = " ".join(line for line in head if not line.startswith("@"))
    schema = re.search(r"^  - (\w+)_schema$", text, re.MULTILINE)
    found = SCHEMAS.get(group, {}).get(schema[1]) if schema else None
    return Option(path.stem, re.split(r"(?<=[\w=)`][.])\s(?=[A-Z`])", sentences)[0].removesuffix("."), package, found)


def _describe_keys(schema: type, keys: tuple[str, ...]) -> list[str]:
    """Describe the keys of a schema that belong to no config group."""
    kinds, settings = get_type_hints(schema), settings_of(schema)
    lines = []
    for name, setting in settings.items():
        if name in SCHEMAS or (keys and name not in keys):
            continue
        inner = list_keys(kinds[name], f"{name}.") if is_dataclass(kinds[name]) else [(name, setting)]
        lines += [_line(key, found.describe()) for key, found in inner]
    return lines


def _describe_group(group: str, setting: Setting) -> Iterator[str]:
    """Describe a config group: its options, then the keys of their schemas."""
    options = list_options(group)
    yield f"{setting.text}: {group}=OPTION"
    yield from (_line(f"{group}={option.name}", option.summary) for option in options)
    described: dict[tuple[str, str], list[str]] = {}
    for option in options:
        for key, inner in list_keys(option.schema, f"{option.package or group}.") if option.schema else ():
            described.setdefault((key, inner.describe()), []).append(option.name)
    for (key, text), names in described.items():
        only = "" if len(names) == len(options) or key.startswith(f"{group}.{names[0]}.") else f"; only with {', '.join(names)}"
        yield _line(key, text + only)


def _line(key: str, text: str) -> str:
    """Write a key with its text wrapped beside it."""
    lead = f"  {key}".ljust(_INDENT - 2) + "  "
    wrapped = textwrap.fill(text, _WIDTH, initial_indent=lead, subsequent_indent=" " * _INDENT, break_on_hyphens=False)
    return wrapped.rstrip().replace("$", "$$")  # a dollar sign in a template
