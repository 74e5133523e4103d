"""`segpipe train-cls`: the classifier trained and scored end to end on the test split."""

from omegaconf import DictConfig

from segpipe.cli.training import run_training
from segpipe.workflows import classifier_training


def run(config: DictConfig) -> float | None:
    """Train, on its own or in a sweep."""
    return run_training(config, classifier_training.train)
