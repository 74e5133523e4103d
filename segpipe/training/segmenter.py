"""The training of the segmenter, from its configuration to the best weights."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from segpipe.card import SegmenterCard
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import MaskDataset
from segpipe.models.preprocessing import InputSpec
from segpipe.models.starting_weights import load_starting_weights
from segpipe.models.unet import build_unet
from segpipe.training.fit import fit
from segpipe.training.metrics import MaskMetrics
from segpipe.training.setup import TrainingData, build_augmentation, trainer_arguments
from segpipe.training.tasks import Task


def train_segmenter(config: DictConfig, data: TrainingData, output: Path) -> tuple[nn.Module, SegmenterCard]:
    """Train a U-Net on the train part and keep the weights with the best Dice on the val part.

    Args:
        config: see `segpipe.config.TrainSegConfig`.
        data: with masks.
        output: takes `metrics.csv` and `checkpoints/`.

    Returns:
        The model in eval mode, and its card, still without test metrics.
    """
    settings = config.segmenter
    arguments = {"encoder": settings.encoder, "decoder_channels": list(settings.decoder_channels)}
    model = build_unet(**arguments)
    load_starting_weights(model.get_submodule("encoder.model"), name=settings.encoder.removeprefix("tu-"), init=settings.init)
    spec = InputSpec(settings.input_size)
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
    fitted = fit(
        task,
        examples,
        output=output,
        monitor="val_dice",
        seed=config.seed,
        trainer=trainer_arguments(config, cpu_bf16=True),
        patience=config.trainer.patience,
        ckpt_path=None if config.ckpt_path is None else Path(config.ckpt_path),
    )
    return model, SegmenterCard(arguments=arguments, input=spec, training=data.describe(fitted, config))
