"""The training of the segmenter, from its configuration to the best weights."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning import seed_everything
from omegaconf import DictConfig
from torch import nn

from segpipe.bundle.card import SegmenterCard
from segpipe.bundle.folder import load_segmenter
from segpipe.config.building import build, check_targets
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import MaskDataset
from segpipe.models.preprocessing import InputSpec
from segpipe.models.unet import build_unet, encoder_network, fetch_encoder, require_mask
from segpipe.training.setup import TrainingData, build_augmentation, fit_as_configured
from segpipe.training.starting_weights import load_starting_weights, refuse_other_network, start_bundle, start_card
from segpipe.training.tasks import MaskMetrics, Task


def build_untrained(config: DictConfig) -> nn.Module:
    """Seed all that is random in a training, and build the U-Net of its configuration with its starting weights.

    Args:
        config: see `segpipe.config.schemas.TrainSegConfig`.
    """
    check_targets(config)
    seed_everything(config.seed, workers=True, verbose=False)
    settings = config.segmenter
    model, folder = build_unet(**_arguments(config)), start_bundle(config)
    require_mask(model, settings.encoder)
    if folder is None:
        fetch = partial(fetch_encoder, settings.encoder)
        load_starting_weights(encoder_network(model), name=settings.encoder, init=settings.init, fetch=fetch)
    else:
        start = load_segmenter(folder)
        refuse_other_network(config, start.card, _arguments(config))
        model.load_state_dict(start.model.state_dict())
    return model


def train_segmenter(config: DictConfig, data: TrainingData, model: nn.Module, output: Path) -> SegmenterCard:
    """Train a U-Net on the train part; it ends with the weights of the best Dice on the val part.

    Args:
        config: see `segpipe.config.schemas.TrainSegConfig`.
        data: with masks.
        model: with its starting weights; trained in place, and in eval mode afterwards.
        output: takes `metrics.csv` and `checkpoints/`.

    Returns:
        The model's card, still without test metrics.

    Raises:
        BundleError: the starting weights have seen lesions by which the model will be judged.
    """
    start = start_card(config)
    if start is not None:
        data.refuse_seen(start.training, key="segmenter.init", allowed=config.allow_leak)
    spec = InputSpec(config.segmenter.input_size)
    task = Task(
        model,
        spec,
        build(config.loss, "loss"),
        MaskMetrics(),
        optimizer=build(config.optimizer, "optimizer", _partial_=True),
        schedule=build(config.scheduler, "scheduler"),
        mixup_alpha=config.augment.mixup_alpha,
        sizes=dict(config.augment.sizes),
    )
    weights = data.parts["train"]["weight"].to_numpy()
    examples = SeededDataModule(
        MaskDataset(data.parts["train"], size=spec.size, cache=config.data.cache, augmentation=build_augmentation(config)),
        MaskDataset(data.parts["val"], size=spec.size, cache=config.data.cache),
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        shares=None if np.allclose(weights, weights[0]) else weights / weights.sum(),
    )
    fitted = fit_as_configured(config, task, examples, output, identity=data.identity, monitor="val_dice", cpu_bf16=True)
    return SegmenterCard(arguments=_arguments(config), input=spec, training=data.describe(fitted, config))


def _arguments(config: DictConfig) -> dict[str, Any]:
    return {"encoder": config.segmenter.encoder, "decoder_channels": list(config.segmenter.decoder_channels)}
