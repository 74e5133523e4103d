"""Training of the segmenter, from its configuration to the best weights."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import seed_everything
from torch import Tensor, nn
from torchmetrics import Metric

from segpipe.bundle.card import SegmenterCard
from segpipe.bundle.folder import load_segmenter
from segpipe.config.building import check_targets
from segpipe.config.schemas import TrainSegConfig
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import MaskDataset
from segpipe.models.preprocessing import InputSpec
from segpipe.models.unet import build_unet, encoder_network, fetch_encoder, require_mask
from segpipe.training.display import QUIET, Display
from segpipe.training.fine_tuning import is_fine_tuning
from segpipe.training.parts import (
    build_augmentation,
    build_loss,
    build_optimizer,
    build_scheduler,
    fit_as_configured,
    least_draws,
)
from segpipe.training.pictures import as_masks
from segpipe.training.preparation import TrainingData
from segpipe.training.starting_weights import load_starting_weights, refuse_other_network, start_bundle, start_card
from segpipe.training.tasks import Task

MONITOR = "val_dice"


class MaskMetrics(Metric):
    """Mean Dice and IoU of masks, in the resolution of the network.

    A pixel belongs to the mask where its probability is above 0.5.
    """

    dice: Tensor
    iou: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("dice", "iou", "images"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, masks: Tensor) -> None:
        """Add a batch.

        Args:
            logits: Logits, float, shape (N, 1, H, W).
            masks: True masks, 0 or 1, of the same shape.
        """
        predicted, true = logits > 0, masks > 0.5
        both = (predicted & true).sum((1, 2, 3))
        either = (predicted | true).sum((1, 2, 3))
        self.dice += torch.where(either > 0, 2 * both / (either + both), 1.0).sum()
        self.iou += torch.where(either > 0, both / either, 1.0).sum()
        self.images += len(logits)

    def compute(self) -> dict[str, Tensor]:
        """Compute `val_dice` and `val_iou`; both are 1 for two empty masks."""
        return {"val_dice": self.dice / self.images, "val_iou": self.iou / self.images}


def build_untrained(config: TrainSegConfig) -> nn.Module:
    """Seed the training, and build its U-Net with starting weights."""
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


def fit_segmenter(
    config: TrainSegConfig, data: TrainingData, model: nn.Module, output: Path, *, display: Display = QUIET
) -> SegmenterCard:
    """Train a U-Net; the weights of its best epoch are kept.

    Args:
        config: Configuration of the training.
        data: Checked and split data, all with masks.
        model: Model with its starting weights; trained in place, in eval mode afterwards.
        output: Folder for `metrics.csv`, `checkpoints/` and the pictures.
        display: Lines and pictures that show the progress of the training.

    Returns:
        Card of the model, without test metrics.

    Raises:
        BundleError: The starting weights have seen validation or test lesions of this training.
    """
    start = start_card(config)
    if start is not None:
        data.refuse_seen(start.training, key="segmenter.init", allowed=config.allow_leak)
    spec = InputSpec(config.segmenter.input_size)
    task = Task(
        model,
        spec,
        build_loss(config.loss),
        MaskMetrics(),
        optimizer=build_optimizer(config.optimizer),
        scheduler=build_scheduler(config.scheduler),
        mixup_alpha=config.augment.mixup_alpha,
        sizes={pair[0]: pair[1] for pair in config.augment.sizes},
    )
    weights = data.parts["train"]["weight"].to_numpy()
    augmentation = build_augmentation(config.augment)
    examples = SeededDataModule(
        MaskDataset(data.parts["train"], size=spec.size, cache=config.data.cache, augmentation=augmentation),
        MaskDataset(data.parts["val"], size=spec.size, cache=config.data.cache),
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        draw_probs=None if np.allclose(weights, weights[0]) else weights / weights.sum(),
        least_draws=least_draws(config),
    )
    monitor = config.trainer.monitor or MONITOR
    shown = display.callbacks(
        output, config.trainer, monitor=monitor, diagnoses=data.parts["val"]["dx"].to_list(), decode=as_masks
    )
    fitted = fit_as_configured(
        config,
        task,
        examples,
        output,
        identity=data.identity,
        monitor=monitor,
        cpu_bf16=True,
        fine_tuning=is_fine_tuning(config, data.dataset.classes, seen_by=data.seen_by),
        callbacks=shown,
    )
    return SegmenterCard(arguments=_arguments(config), input=spec, training=data.describe(fitted, config))


def _arguments(config: TrainSegConfig) -> dict[str, Any]:
    """Return the arguments of the network."""
    return {"encoder": config.segmenter.encoder, "decoder_channels": list(config.segmenter.decoder_channels)}
