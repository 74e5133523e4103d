"""The border between the shell and Hydra: every outcome of a command is an exit status, every error one clear line."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.utils import env_override

from segpipe.cli.call import remember_call
from segpipe.cli.callbacks import CappedJobs, JobErrors
from segpipe.cli.reporting import report
from segpipe.config.composing import CALL_ERRORS, checked_loading, replaced
from segpipe.config.literal_paths import quote_paths, quote_text
from segpipe.config.loading import refuse_packages
from segpipe.config.resources import CONF
from segpipe.errors import ConfigError


def run_work(work: Callable[..., Any], config_name: str, arguments: Sequence[str], *, program: Sequence[str]) -> int:
    """Do the work of a subcommand and turn every outcome into an exit status, see `run_main`.

    Args:
        work: Function that takes the configuration.
        config_name: Name of the primary configuration.
        arguments: Arguments of the call, without the program.
        program: Words by which the program was called.
    """
    return run_main(
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(work), arguments, program=program
    )


def run_main(main: Callable[[], Any], arguments: Sequence[str], *, program: Sequence[str]) -> int:
    """Run a function that `hydra.main` decorates and turn every outcome into an exit status.

    A wrong call is one line on stderr, in words that name the key, the value and the way out. With HYDRA_FULL_ERROR=1 in the
    environment, which is for developers, nothing is caught: each error leaves as an exception with its full traceback.

    Args:
        main: Function that `hydra.main` decorates.
        arguments: Arguments of the call, without the program.
        program: Words by which the program was called.

    Returns:
        0 for success, 1 for work that failed or a bug (with its traceback), 2 for a wrong call, 130 for an interrupt.
    """
    JobErrors.statuses.clear()
    remember_call(program, arguments)
    added = [f"hydra.help.app_name={quote_text(' '.join(program))}"]
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        _call_hydra(main, arguments, added=added)
        return 0
    added += [f"++hydra.callbacks.{kind.__name__}._target_={kind.__module__}.{kind.__name__}" for kind in (JobErrors, CappedJobs)]
    try:
        _call_hydra(main, arguments, added=added)
    except SystemExit as stop:
        return 2 if stop.code else 0  # a task never exits: 0 is Hydra's after --help, the rest is a wrong call
    except KeyboardInterrupt as stop:
        sys.stderr.write(": ".join(["interrupted", *map(str, stop.args)]) + "\n")
        return 130
    except Exception as error:  # the outermost border: what is no wrong call is shown as a bug
        if not JobErrors.statuses:
            return report(error, arguments, CALL_ERRORS)
    return next(iter(JobErrors.statuses), 0)


def _call_hydra(main: Callable[[], Any], arguments: Sequence[str], *, added: list[str]) -> None:
    """Call Hydra's main; it raises its errors instead of printing them."""
    parser = get_args_parser()
    parser.error = _refuse_flag  # type: ignore[method-assign]
    parsed = parser.parse_intermixed_args(list(arguments))
    if parsed.experimental_rerun is not None:
        _refuse_flag("--experimental-rerun reads a pickled file, which can run any code")
    refuse_packages(parsed.config_path, parsed.config_dir)
    flags = [argument for argument in arguments if argument not in parsed.overrides]
    # In a sweep a comma or a bracket in a path has to keep Hydra's meaning.
    overrides = parsed.overrides if parsed.multirun else quote_paths(parsed.overrides)
    # The keys stand together, because Hydra does not take `a=1 --multirun b=2,3`.
    argv = [sys.argv[0], *overrides, *added, *flags]
    # The help texts of conf/ name the config groups themselves; Hydra would take a second to list them.
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
