"""What can go wrong at the borders: each error is one clear line, and knows the exit status it leads to."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import ClassVar, NoReturn


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


class MaskError(ImageError):
    """A picture cannot be used as a mask."""


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


class CommandParser(ArgumentParser):
    """Parses the arguments of a command of the package; wrong ones are an error like any other."""

    def error(self, message: str) -> NoReturn:
        """Raises a ConfigError."""
        raise ConfigError(f"{message}; --help shows the call")


def run_command(work: Callable[[], str]) -> int:
    """Print what a command of the package answers, or what is wrong, in one line on stderr.

    Args:
        work: parses the arguments and gives the answer.

    Returns:
        The exit status: 0, that of the error, or 130 where the user stopped it.
    """
    try:
        answer = work()
    except SegpipeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    except KeyboardInterrupt as stop:
        sys.stderr.write(": ".join(["interrupted", *map(str, stop.args)]) + "\n")
        return 130
    sys.stdout.write(answer.rstrip("\n") + "\n")
    return 0
