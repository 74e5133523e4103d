"""`segpipe heatmaps`: faithfulness of the heatmaps of trained classifiers."""

from pathlib import Path

from omegaconf import DictConfig

from segpipe.cli.call import say
from segpipe.config.schemas import optional_path
from segpipe.config.values import check_values


def run(config: DictConfig) -> None:
    """Test the heatmaps of the classifiers of a call; prints the table."""
    check_values(config)

    from segpipe.bundle.folder import SHIPPED
    from segpipe.comparison.table import name_folders
    from segpipe.evaluation.heatmap_results import Sample, results_text, score_bundles
    from segpipe.io.images import write_file
    from segpipe.io.strict_json import encode_json

    sample = Sample(
        folder=Path(config.folder),
        split=optional_path(config.split),
        part=config.part,
        images=config.heatmap_sample,
        segmenter=optional_path(config.bundle.segmenter) or SHIPPED / "segmenter",
        device=config.device,
    )
    results = score_bundles(name_folders(config.bundles, config.titles), sample)
    say(results_text(results))
    if config.output is not None:
        write_file(Path(config.output), encode_json(results))
        say(f"\n{config.output}")
