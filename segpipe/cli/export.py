"""`segpipe export`: half-precision copies of trained models, scored."""

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from segpipe.cli.call import say
from segpipe.config.schemas import optional_path
from segpipe.config.values import check_values
from segpipe.errors import ConfigError


def run(config: DictConfig) -> None:
    """Write and score the copies of a call; prints the headline metrics."""
    check_values(config)
    segmenter, classifier, split = find_models(config)

    from segpipe.data.loading import load_dataset
    from segpipe.release.ship import ship

    headline = ship(
        partial(load_dataset, config.data),
        segmenter=segmenter,
        classifier=classifier,
        split=split,
        output=Path(config.output),
        results=optional_path(config.results),
    )
    say(f"{headline}\nbundles in {config.output}")


def find_models(config: DictConfig) -> tuple[Path, Path, Path]:
    """Find the segmenter, the classifier and the split of a call: those that it names, or those in its output folder.

    Raises:
        ConfigError: The call names one model without the other, or there is no split.
    """
    segmenter, classifier = optional_path(config.bundle.segmenter), optional_path(config.bundle.classifier)
    if (segmenter is None) != (classifier is None):
        raise ConfigError(
            "bundle.segmenter and bundle.classifier must be given together, or neither, to score the copies in output again"
        )
    output = Path(config.output)
    segmenter, classifier = segmenter or output / "segmenter", classifier or output / "classifier"
    split = optional_path(config.split) or classifier.parent / "split.csv"
    if not split.is_file():
        raise ConfigError(f"split must be the split.csv that both models were trained on, got none at {split}; give split=CSV")
    return segmenter, classifier, split
