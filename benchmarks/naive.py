"""The script that a competent user would write without segpipe's engine: image by image, ttach's d4, the grad-cam package.

It takes the same bundles, and segpipe's functions for reading, mask and crop, so that both can be held to the same answers; what
it does not have is batches, threads, folded networks and the short way to a heatmap. `benchmarks/folder.py` runs it.
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

from segpipe.bundle.folder import SHIPPED, ClassifierBundle, load_classifier, load_segmenter
from segpipe.io.images import read_image
from segpipe.lesion.crop import cut_lesion
from segpipe.lesion.localizer import localize
from segpipe.models.preprocessing import images_to_batch

CPU = torch.device("cpu")


class Probabilities(nn.Module):
    """The classifier with its calibration and a softmax, because ttach averages what a model gives."""

    def __init__(self, bundle: ClassifierBundle) -> None:
        super().__init__()
        self.model = bundle.model
        self.temperature = bundle.card.temperature
        self.bias = torch.tensor(bundle.card.logit_bias or (0.0,))

    def forward(self, batch: Tensor) -> Tensor:
        """Args: batch, normalised float (N, 3, H, W). Returns: probabilities, float (N, classes)."""
        probs: Tensor = (self.model(batch) / self.temperature + self.bias).softmax(1)
        return probs


def answers(paths: list[Path], output: Path) -> Iterator[tuple[Path, NDArray[np.float32]]]:
    """Work through images one by one: write the mask, make the heatmap, give the probabilities over the eight views."""
    unet, ensemble = load_segmenter(SHIPPED / "segmenter"), load_classifier(SHIPPED / "classifier")
    views = ttach.ClassificationTTAWrapper(Probabilities(ensemble), ttach.aliases.d4_transform(), merge_mode="mean")
    grad_cam = GradCAM(model=ensemble.model, target_layers=[ensemble.model.backbone.bn2])
    for path in paths:
        image = read_image(path)
        with torch.inference_mode():
            mask_probs = torch.sigmoid(unet.model(images_to_batch([image], unet.card.input, CPU)))[0, 0].numpy()
        place = localize(image, mask_probs)
        Image.fromarray(place.mask.astype(np.uint8) * 255).save(output / f"{path.stem}.png")
        spec = ensemble.card.input
        _, pixels = cut_lesion(image, place.mask, place.box, ensemble.card.crop, size=spec.size)
        crop = images_to_batch([pixels], spec, CPU)
        with torch.inference_mode():
            probs = views(crop)[0].numpy()
        grad_cam(crop.clone(), None)
        yield path, probs
