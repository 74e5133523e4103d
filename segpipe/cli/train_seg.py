"""`segpipe train-seg`: the U-Net trained and scored on the test split."""

from omegaconf import DictConfig

from segpipe.cli.training import run_training
from segpipe.workflows import segmenter_training


def run(config: DictConfig) -> float | None:
    """Train, on its own or in a sweep."""
    return run_training(config, segmenter_training.train)
