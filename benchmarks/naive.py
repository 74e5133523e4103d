"""Plain script without segpipe's engine: one image at a time, ttach, pytorch-grad-cam.

It uses the same bundles and segpipe's functions for reading, mask and crop, so that the predictions can be compared. It has no
batches, threads, folded networks or fast heatmaps. `benchmarks/folder.py` runs it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import ttach
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

from segpipe.bundle.card import ClassifierBundle
from segpipe.bundle.card_file import SHIPPED
from segpipe.bundle.folder import load_classifier, load_segmenter
from segpipe.io.images import read_image
from segpipe.lesion.crop import cut_lesion
from segpipe.lesion.localization import localize
from segpipe.models.preprocessing import images_to_batch

CPU = torch.device("cpu")


class Probabilities(nn.Module):
    """Calibrated probabilities of a classifier, which ttach averages over views."""

    def __init__(self, bundle: ClassifierBundle) -> None:
        super().__init__()
        self.model = bundle.model
        self.temperature = bundle.card.temperature
        self.bias = torch.tensor(bundle.card.logit_bias or (0.0,))

    def forward(self, batch: Tensor) -> Tensor:
        """Compute probabilities (N, classes) of a normalized batch (N, 3, H, W)."""
        probs: Tensor = (self.model(batch) / self.temperature + self.bias).softmax(1)
        return probs


def predictions(paths: list[Path], output: Path) -> Iterator[tuple[Path, NDArray[np.float32]]]:
    """Write masks and compute heatmaps; yield the mean probabilities of each image."""
    unet, classifier = load_segmenter(SHIPPED / "segmenter"), load_classifier(SHIPPED / "classifier")
    views = ttach.ClassificationTTAWrapper(Probabilities(classifier), ttach.aliases.d4_transform(), merge_mode="mean")
    grad_cam = GradCAM(model=classifier.model, target_layers=[classifier.model.backbone.bn2])
    for path in paths:
        image = read_image(path)
        with torch.inference_mode():
            mask_probs = torch.sigmoid(unet.model(images_to_batch([image], unet.card.input, CPU)))[0, 0].numpy()
        localization = localize(image, mask_probs)
        Image.fromarray(localization.mask.astype(np.uint8) * 255).save(output / f"{path.stem}.png")
        spec = classifier.card.input
        _, pixels = cut_lesion(image, localization.mask, localization.box, classifier.card.crop, size=spec.size)
        crop = images_to_batch([pixels], spec, CPU)
        with torch.inference_mode():
            probs = views(crop)[0].numpy()
        grad_cam(crop.clone(), None)
        yield path, probs
