"""Epochs of small data sets, which are repeated to have enough steps."""

from segpipe.config.schemas import TrainConfig
from segpipe.io.files import counted

LEAST_STEPS = 8  # of the optimizer in an epoch


def least_draws(config: TrainConfig) -> int:
    """Return the number of training images that an epoch has at least."""
    return LEAST_STEPS * config.batch_size * config.trainer.accumulate_grad_batches


def repeats_text(config: TrainConfig, images: int) -> str | None:
    """Describe the epochs of a small data set, if any are repeated.

    Args:
        config: Configuration of the training.
        images: Number of training images.
    """
    draws = least_draws(config)
    if images >= draws:
        return None
    return (
        f"{counted(images, 'training image')}: each epoch draws {draws:,}, repeating them with other random changes, so that it "
        f"has {LEAST_STEPS} steps of {draws // LEAST_STEPS:,} images"
    )
