"""`segpipe train-seg` and `train-cls`, alone or in a sweep."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from segpipe.cli.call import in_sweep, output_folder, say
from segpipe.config.composing import typed
from segpipe.config.schemas import TrainConfig
from segpipe.config.values import check_values


def train_segmenter(config: DictConfig) -> float | None:
    """Train the U-Net and score it on the test split."""
    from segpipe.workflows import segmenter_training

    return _run(config, segmenter_training.train)


def train_classifier(config: DictConfig) -> float | None:
    """Train the classifier and score it on the test split."""
    from segpipe.workflows import classifier_training

    return _run(config, classifier_training.train)


def _run(config: DictConfig, train: Callable[..., dict[str, Any]]) -> float | None:
    """Train and report on stdout.

    Args:
        config: Configuration of the training.
        train: Body of the training, from `segpipe.workflows`.

    Returns:
        Score on the validation images for the sweeper; None outside a sweep.
    """

    def checked(settings: TrainConfig, folder: Path) -> dict[str, Any]:
        check_values(config)
        return train(settings, folder, say=say)

    if in_sweep():
        from segpipe.sweep.job import run_job

        return run_job(typed(config), checked, say=say)
    check_values(config)
    train(typed(config), output_folder(config), say=say)
    return None
