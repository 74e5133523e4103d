"""`segpipe compare`: trained classifiers compared on one labeled folder."""

from pathlib import Path

from omegaconf import DictConfig

from segpipe.cli.call import output_folder, say
from segpipe.config.schemas import optional_path
from segpipe.config.values import check_values


def run(config: DictConfig) -> None:
    """Run, score and time the classifiers of a call; prints the table."""
    check_values(config)

    from segpipe.comparison.compare import ComparisonSettings, compare_bundles
    from segpipe.comparison.table import name_folders
    from segpipe.inference.settings import PipelineSettings

    pipeline = PipelineSettings(
        segmenter=config.bundle.segmenter,
        localize=config.localize,
        tta=config.tta.views,
        explain="none",
        device=config.device,
        batch_size=config.batch_size,
    )
    given = ComparisonSettings(
        folder=config.folder,
        labels=Path(config.labels),
        output=output_folder(config),
        split=optional_path(config.split),
        part=config.part,
        pipeline=pipeline,
        overwrite=config.overwrite,
    )
    say(compare_bundles(name_folders(config.bundles, config.titles), given))
