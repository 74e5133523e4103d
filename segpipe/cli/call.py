"""Call of a process: arguments, output folder, messages and errors."""

import os
import re
import shlex
import sys
import traceback
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.errors import ConfigError, SegpipeError, as_missing_extra, as_write_error

if TYPE_CHECKING:
    from omegaconf import DictConfig

_program: list[str] = []  # for example segpipe, predict
_arguments: list[str] = []


def remember_call(program: Sequence[str], arguments: Sequence[str]) -> None:
    """Keep the command line of a call for `command_again`.

    Args:
        program: Words before the arguments.
        arguments: `key=value` arguments and flags, unchanged.
    """
    _program[:], _arguments[:] = program, arguments


def command_again(**values: str) -> str:
    """Write the command line of this call with changed values.

    Args:
        **values: Values by key; other keys are kept, except `overwrite`.
    """
    kept = [argument for argument in _arguments if argument.partition("=")[0] not in {*values, "overwrite"}]
    return shlex.join([*_program, *kept, *(f"{key}={value}" for key, value in values.items())])


def given_values(*, without: Collection[str]) -> list[str]:
    """Return the `key=value` arguments of this call, unchanged.

    Args:
        without: Keys to leave out.
    """
    return [argument for argument in _arguments if not argument.startswith("-") and argument.partition("=")[0] not in without]


def in_sweep() -> bool:
    """Return True for a job of a multirun."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def output_folder(config: "DictConfig") -> Path:
    """Choose the output folder of a run; call it once per run.

    It is `output`, or a folder named after the date and time. In a multirun each job has a subfolder with its number, except that
    `segpipe.sweep.job` chooses the subfolder of a training.
    """
    from hydra.core.hydra_config import HydraConfig

    from segpipe.workflows.calls import own_folder

    if in_sweep():
        return Path(config.output or HydraConfig.get().sweep.dir) / str(HydraConfig.get().job.num)
    return own_folder(config.output, ckpt_path=config.get("ckpt_path"))


def say(text: str) -> None:
    """Write one or more lines to stdout, without delay."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def report(error: Exception, arguments: Sequence[str], call_errors: tuple[type[Exception], ...], *, prefix: str = "") -> int:
    """Show an error on stderr and return the exit status.

    A wrong call is one line, a bug has its traceback.

    Args:
        error: Error that ended a call or a job.
        arguments: `key=value` arguments of the call.
        call_errors: Classes of errors that only a wrong call can cause.
        prefix: Text before the message.
    """
    if isinstance(error, BrokenPipeError):  # the reader of stdout has closed it
        _close_stdout()
        return 1
    if not isinstance(error, SegpipeError):
        error = _inner_error(error)
    if isinstance(error, SegpipeError):
        write_error(prefix + str(error))
        return error.exit_status
    if isinstance(error, call_errors):
        from segpipe.config.arguments import explain

        write_error(prefix + explain(error, arguments))
        return ConfigError.exit_status
    refusal = as_missing_extra(error) or as_write_error(error)
    if refusal is not None:
        write_error(prefix + str(refusal))
        return refusal.exit_status
    traceback.print_exception(error)
    return 1


def report_interrupt(stop: KeyboardInterrupt) -> int:
    """Show an interrupt on stderr and return the exit status."""
    sys.stderr.write(": ".join(["interrupted", *map(str, stop.args)]) + "\n")
    return 130


def _inner_error(error: Exception) -> Exception:
    """Return the error inside an `InstantiationException`, or the error itself."""
    from hydra.errors import InstantiationException

    from segpipe.config.arguments import unwrap

    return unwrap(error) if isinstance(error, InstantiationException) else error


def write_error(message: str) -> None:
    """Write an error as one line, with unprintable characters as codes."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda match: _code(match[0]), message)
    sys.stderr.write(f"error: {line}\n")


def _close_stdout() -> None:
    """Discard all further output, also when the process ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _code(character: str) -> str:
    undecodable = "\udc80" <= character <= "\udcff"
    return f"\\x{ord(character) - 0xDC00:02x}" if undecodable else repr(character)[1:-1]
