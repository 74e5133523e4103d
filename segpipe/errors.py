"""What can go wrong at the borders: each error is one clear line, and knows the exit status it leads to."""

import sys
from collections.abc import Callable
from typing import ClassVar


class SegpipeError(Exception):
    """A problem that the user can mend; shown as one line, never as a traceback.

    Attributes:
        exit_status: what an entry script ends with: 2 for a wrong call, 1 for work that failed.
    """

    exit_status: ClassVar[int] = 2


class ConfigError(SegpipeError):
    """A key or a value of the configuration is wrong."""


class ImageError(SegpipeError):
    """A file cannot be used as an image."""


class DatasetError(SegpipeError):
    """A data set, a split or a table of labels cannot be used."""


class BundleError(SegpipeError):
    """A model on disk is damaged, foreign, or of another kind."""


class OutputError(SegpipeError):
    """The output folder cannot be used."""


class ImagesFailedError(SegpipeError):
    """Some or all images of a folder failed; the others were done."""

    exit_status = 1


class RunStoppedError(SegpipeError):
    """A run over images cannot go on; what was done until then is kept."""

    exit_status = 1


class TrainingError(SegpipeError):
    """A training started and failed."""

    exit_status = 1


def run_command(work: Callable[[], str]) -> int:
    """Print what a command of the package answers, or what is wrong, in one line on stderr.

    Args:
        work: gives the answer.

    Returns:
        The exit status: 0, or that of the error.
    """
    try:
        answer = work()
    except SegpipeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    sys.stdout.write(answer.rstrip("\n") + "\n")
    return 0
