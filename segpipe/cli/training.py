"""A training as a command: on its own, or as a job of a sweep, which goes by the score on the validation images."""

from collections.abc import Callable
from functools import partial
from typing import Any

from omegaconf import DictConfig

from segpipe.cli.call import in_sweep, output_folder, say


def run_training(config: DictConfig, train: Callable[..., dict[str, Any]]) -> float | None:
    """Train and report on stdout.

    Args:
        config: Configuration of the training.
        train: Body of the training, one of `segpipe.workflows`.

    Returns:
        Score on the validation images in a sweep, else None.
    """
    if in_sweep():
        from segpipe.sweep.job import run_job

        return run_job(config, partial(train, say=say))
    train(config, output_folder(config), say=say)
    return None
