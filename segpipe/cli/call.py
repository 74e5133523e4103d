"""The call that a process works on: its words, where its results go, what it says."""

import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from segpipe.workflows.calls import own_folder

_words: list[str] = []  # of the program, `segpipe predict` for one
_arguments: list[str] = []  # as they came


def remember_call(program: Sequence[str], arguments: Sequence[str]) -> None:
    """Keep the words of a call for `command_again`.

    Args:
        program: Words before the arguments.
        arguments: `key=value` arguments and flags, as they came.
    """
    _words[:], _arguments[:] = program, arguments


def command_again(**values: str) -> str:
    """Write the command line of this call for a shell, with some values changed or added.

    Args:
        values: Values by key; a key that is not among them stays as it was, `overwrite` is left out.
    """
    kept = [argument for argument in _arguments if argument.partition("=")[0] not in {*values, "overwrite"}]
    return shlex.join([*_words, *kept, *(f"{key}={value}" for key, value in values.items())])


def given_values(*, without: Collection[str]) -> list[str]:
    """Return the `key=value` arguments of this call, as they came.

    Args:
        without: Keys that are left out.
    """
    return [argument for argument in _arguments if not argument.startswith("-") and argument.partition("=")[0] not in without]


def in_sweep() -> bool:
    """Tell whether this is one of the jobs of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def output_folder(config: DictConfig) -> Path:
    """Choose the folder that a run writes into: `output`, or one named after the date and time; call it once per run.

    In a multirun each job has a subfolder of its own, named by its number (that of a training is chosen by `segpipe.sweep.job`).
    """
    if in_sweep():
        return Path(config.output or HydraConfig.get().sweep.dir) / str(HydraConfig.get().job.num)
    return own_folder(config)


def say(text: str) -> None:
    """Write a line, or several, on stdout."""
    sys.stdout.write(f"{text}\n")
