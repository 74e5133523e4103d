"""Subcommand for the files of annotation tools."""

from omegaconf import DictConfig

from segpipe.cli.call import say
from segpipe.config.composing import typed
from segpipe.config.values import check_values
from segpipe.errors import require_extra


def annotations(config: DictConfig) -> None:
    """Convert masks and labels; prints what was written."""
    check_values(config)
    require_extra("annotations", "annotations")

    from segpipe.workflows.annotations import convert_annotations

    say(convert_annotations(typed(config)))
