"""`segpipe leaks`: lesions and photographs that the parts of a split share."""

from pathlib import Path

from omegaconf import DictConfig

from segpipe.cli.call import say
from segpipe.config.values import check_values
from segpipe.errors import LeakError


def run(config: DictConfig) -> None:
    """List what the parts of a split share, on stdout; raises where they share something."""
    check_values(config)

    from segpipe.data.leaks import find_leaks, join_parts
    from segpipe.data.loading import load_dataset
    from segpipe.data.splits import own_split
    from segpipe.data.tables import read_table

    dataset = load_dataset(config.data)
    split = own_split(dataset, seed=config.seed) if config.split is None else read_table(Path(config.split))
    leaks = find_leaks(join_parts(dataset.table, split))
    say(leaks.report())
    if leaks.all:
        raise LeakError(f"the parts of a split must share nothing, got {leaks}; leave one image of each pair out of the split")
