"""`segpipe card`: the model card of a segmenter and a classifier."""

from pathlib import Path

from omegaconf import DictConfig

from segpipe.cli.call import say
from segpipe.config.values import check_values


def run(config: DictConfig) -> None:
    """Write the model card of a call into a file, or on stdout."""
    check_values(config)

    from segpipe.bundle.folder import SHIPPED, load_classifier, load_segmenter
    from segpipe.io.images import write_file
    from segpipe.release.model_card import model_card

    segmenter = load_segmenter(Path(config.bundle.segmenter or SHIPPED / "segmenter"))
    classifier = load_classifier(Path(config.bundle.classifier or SHIPPED / "classifier"))
    text = model_card(segmenter, classifier)
    if config.output is None:
        say(text.rstrip("\n"))
    else:
        write_file(Path(config.output), text.encode())
        say(f"model card in {config.output}")
