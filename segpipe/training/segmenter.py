"""The training of the segmenter, from its configuration to the best weights."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig
from torch import nn

from segpipe.card import SegmenterCard
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import MaskDataset
from segpipe.models.preprocessing import InputSpec
from segpipe.models.starting_weights import load_starting_weights
from segpipe.models.unet import build_unet
from segpipe.training.metrics import MaskMetrics
from segpipe.training.setup import TrainingData, build_augmentation, fit_as_configured
from segpipe.training.tasks import Task


def build_untrained(config: DictConfig) -> nn.Module:
    """Seed all that is random in a training, and build the U-Net of its configuration with its starting weights.

    Args:
        config: see `segpipe.config.TrainSegConfig`.
    """
    seed_everything(config.seed, workers=True, verbose=False)
    settings = config.segmenter
    model = build_unet(**_arguments(config))
    load_starting_weights(model.get_submodule("encoder.model"), name=settings.encoder.removeprefix("tu-"), init=settings.init)
    return model


def train_segmenter(config: DictConfig, data: TrainingData, model: nn.Module, output: Path) -> SegmenterCard:
    """Train a U-Net on the train part; it ends with the weights of the best Dice on the val part.

    Args:
        config: see `segpipe.config.TrainSegConfig`.
        data: with masks.
        model: with its starting weights; trained in place, and in eval mode afterwards.
        output: takes `metrics.csv` and `checkpoints/`.

    Returns:
        The model's card, still without test metrics.
    """
    spec = InputSpec(config.segmenter.input_size)
    task = Task(
        model,
        spec,
        instantiate(config.loss),
        MaskMetrics(),
        optimizer=instantiate(config.optimizer),
        schedule=instantiate(config.scheduler),
    )
    examples = SeededDataModule(
        MaskDataset(data.parts["train"], size=spec.size, augmentation=build_augmentation(config)),
        MaskDataset(data.parts["val"], size=spec.size),
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
    )
    fitted = fit_as_configured(config, task, examples, output, monitor="val_dice", cpu_bf16=True)
    return SegmenterCard(arguments=_arguments(config), input=spec, training=data.describe(fitted, config))


def _arguments(config: DictConfig) -> dict[str, Any]:
    return {"encoder": config.segmenter.encoder, "decoder_channels": list(config.segmenter.decoder_channels)}
