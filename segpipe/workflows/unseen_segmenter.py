"""Segmenter that cuts the test crops of a classifier training."""

from pathlib import Path

from segpipe.bundle.card_file import SHIPPED
from segpipe.bundle.folder import load_segmenter
from segpipe.config.schemas import TrainClsConfig
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchSegmenter
from segpipe.training.preparation import TrainingData


def segmenter_folder(config: TrainClsConfig) -> Path:
    """Return the folder of the segmenter that cuts the test crops."""
    return Path(config.bundle.segmenter or SHIPPED / "segmenter")


def load_unseen_segmenter(config: TrainClsConfig, data: TrainingData) -> Localizer:
    """Load the segmenter that cuts the test crops.

    Args:
        config: Configuration of the training.
        data: Data of the training.

    Raises:
        BundleError: The segmenter has seen validation or test lesions of this training, and `allow_leak` is not set.
    """
    bundle = load_segmenter(segmenter_folder(config))
    data.refuse_seen(bundle.card.training, key="bundle.segmenter", allowed=config.allow_leak)
    return Localizer(TorchSegmenter(bundle))
