"""`segpipe check`: a data set checked before a training."""

from omegaconf import DictConfig

from segpipe.cli.call import say
from segpipe.config.values import check_values


def run(config: DictConfig) -> None:
    """Check the data set of a call and report on stdout."""
    check_values(config)

    from segpipe.data.loading import load_dataset

    say(load_dataset(config.data).report())
