"""Tiny networks with random weights, and a batch of generated photographs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segpipe.bundle.card import ClassifierBundle, ClassifierCard
from segpipe.bundle.records import Training
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.models.classifier import build_classifier
from segpipe.models.preprocessing import InputSpec, images_to_batch

TRAINING = Training(dataset="tiny", dataset_hash="d", split_hash="s", images=1, epochs=1, best_epoch=0, settings={})


def drawn_batch(spec: InputSpec) -> Tensor:
    """Return generated photographs of all classes as an input of a network."""
    rng = np.random.default_rng(0)
    return images_to_batch([make_image(code, rng, (60, 80))[0] for code in CODES * 2], spec, torch.device("cpu"))


def settle(model: nn.Module, batch: Tensor) -> nn.Module:
    """Fit the statistics of BatchNorm to random weights."""
    with torch.no_grad():
        for _ in range(20):
            model.train()(batch)
    return model.eval()


def tiny_classifier(name: str, size: int, *, sha256: str, **card: Any) -> ClassifierBundle:
    """Return a random classifier with a head that separates generated images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        arguments = {"name": name, "attention": "cbam", "dropout": 0.2}
        model = build_classifier(classes=len(CODES), **arguments)
        spec = InputSpec(size)
        batch = drawn_batch(spec)
        settle(model, batch)
        with torch.no_grad():
            model.linear.weight.mul_(2 / model(batch).std(0)[:, None])
            model.linear.bias.sub_(model(batch).mean(0))
    named = {"classes": CODES, "malignant": MALIGNANT_CODES}
    return ClassifierBundle(model, ClassifierCard(arguments=arguments, input=spec, training=TRAINING, **named, **card), sha256)


class StandInUnet(nn.Module):
    """Stand-in for a trained U-Net, whose stages are the images themselves.

    Args:
        logits: Function from normalized images, (N, 3, H, W), to logits of lesion, (N, 1, H, W).
    """

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.decoder, self.segmentation_head = _Stages(), _First(), _Head(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.segmentation_head(self.decoder(self.encoder(images)))


class _Stages(nn.Module):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [images] * 3


class _First(nn.Module):
    def forward(self, stages: list[Tensor]) -> Tensor:
        return stages[0]


class _Head(nn.Module):
    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self._logits(images)
