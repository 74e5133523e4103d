"""Errors of a call as one clear line on stderr, and the exit status that they lead to."""

import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

from hydra.errors import InstantiationException

from segpipe.config.call_errors import explain, unwrap
from segpipe.errors import ConfigError, SegpipeError, as_write_error


def report(error: Exception, arguments: Sequence[str], call_errors: tuple[type[Exception], ...], *, prefix: str = "") -> int:
    """Show an error on stderr, a wrong call as one line and a bug with its traceback; returns the exit status.

    Args:
        error: Error that ended a call or a job.
        arguments: `key=value` arguments of the call.
        call_errors: Classes of errors that only a wrong call can cause.
        prefix: Text before the message.
    """
    if isinstance(error, InstantiationException):
        error = unwrap(error)
    if isinstance(error, BrokenPipeError):  # whoever reads stdout has seen enough
        _close_stdout()
        return 1
    if isinstance(error, SegpipeError):
        write_error(prefix + str(error))
        return error.exit_status
    if isinstance(error, call_errors):
        write_error(prefix + explain(error, arguments))
        return ConfigError.exit_status
    refusal = as_write_error(error)
    if refusal is not None:
        write_error(prefix + str(refusal))
        return refusal.exit_status
    traceback.print_exception(error)
    return 1


def write_error(message: str) -> None:
    """Write one line; control characters and undecodable bytes, as they may stand in a file name, show by their codes."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda match: _code(match[0]), message)
    sys.stderr.write(f"error: {line}\n")


def _close_stdout() -> None:
    """Let nothing be written any more, not even when the process ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _code(character: str) -> str:
    undecodable = "\udc80" <= character <= "\udcff"
    return f"\\x{ord(character) - 0xDC00:02x}" if undecodable else repr(character)[1:-1]
