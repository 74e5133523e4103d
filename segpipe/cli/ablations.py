"""`segpipe ablations`: finished runs over the same images compared with the first of them."""

from omegaconf import DictConfig

from segpipe.cli.call import say
from segpipe.config.schemas import optional_path
from segpipe.config.values import check_values


def run(config: DictConfig) -> None:
    """Compare the runs of a call; prints the table."""
    check_values(config)

    from segpipe.comparison.ablations import ablation_table
    from segpipe.comparison.table import name_folders
    from segpipe.evaluation.truth import read_truth

    folders = name_folders(config.runs, config.titles)
    say(ablation_table(folders, read_truth(labels=optional_path(config.labels), masks=optional_path(config.masks))))
