"""`segpipe card`: the model card of a segmenter and a classifier."""

from pathlib import Path

from omegaconf import DictConfig

from segpipe.cli.call import say
from segpipe.config_values import check_values


def run(config: DictConfig) -> None:
    """Write the model card of a call into a file, or on stdout."""
    check_values(config)

    from segpipe.bundle import SHIPPED, load_classifier, load_segmenter
    from segpipe.evaluation.model_card import model_card
    from segpipe.image_io import write_file

    segmenter = load_segmenter(Path(config.bundle.segmenter or SHIPPED / "segmenter"))
    classifier = load_classifier(Path(config.bundle.classifier or SHIPPED / "classifier"))
    text = model_card(segmenter, classifier)
    if config.output is None:
        say(text.rstrip("\n"))
    else:
        write_file(Path(config.output), text.encode())
        say(f"model card in {config.output}")
