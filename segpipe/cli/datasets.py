"""`segpipe check`, `leaks` and `synthetic`: subcommands for data sets."""

from pathlib import Path

from omegaconf import DictConfig

from segpipe.cli.call import output_folder, say
from segpipe.config.composing import typed
from segpipe.config.values import check_values
from segpipe.errors import LeakError
from segpipe.io.output import check_output


def check(config: DictConfig) -> None:
    """Check a data set and report on stdout."""
    check_values(config)

    from segpipe.data.loading import load_dataset

    say(load_dataset(typed(config).data).report())


def leaks(config: DictConfig) -> None:
    """List lesions and images that the parts of a split share.

    Raises:
        LeakError: They share something.
    """
    check_values(config)

    from segpipe.data.leaks import find_leaks, join_parts
    from segpipe.data.loading import load_dataset
    from segpipe.data.splits import own_split
    from segpipe.data.tables import read_table

    dataset = load_dataset(typed(config).data)
    split = own_split(dataset.table, dataset.parts, seed=config.seed) if config.split is None else read_table(Path(config.split))
    leaks = find_leaks(join_parts(dataset.table, split))
    say(leaks.report())
    if leaks.all:
        raise LeakError(f"the parts of a split must share nothing, got {leaks}; leave one image of each pair out of the split")


def synthetic(config: DictConfig) -> None:
    """Draw sample images."""
    check_values(config)
    output = output_folder(config)
    check_output(output, overwrite=False)

    from segpipe.data.synthetic.dataset import write_samples

    write_samples(output, seed=config.seed)
    say(f"samples in {output}")
