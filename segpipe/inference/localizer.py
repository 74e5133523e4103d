"""Lesion localization in batches: U-Net, then contour, then whole image."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.bundle.card import SegmenterBundle
from segpipe.inference.networks import exclusive_device, prepare_network, require_finite_logits
from segpipe.io.arrays import require_images
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.lesion.localizer import localize
from segpipe.models.preprocessing import images_to_batch
from segpipe.types import RgbImage


class Localizer:
    """Localizer of lesions in a batch of images.

    Args:
        bundle: Bundle of the U-Net; None where `start` is a later mask source.
        device: Device of the U-Net.
        start: First mask source.
        precision: Precision of the U-Net.

    Attributes:
        bundle: Bundle with the U-Net in the form that runs; None without a U-Net.
        start: First mask source.
    """

    def __init__(
        self,
        bundle: SegmenterBundle | None,
        *,
        device: torch.device,
        start: MaskSource = MaskSource.UNET,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.start = start
        self._device = device
        self._precision = precision
        # No reference to the model as it was loaded is kept, so its memory is released.
        self.bundle = None if bundle is None else replace(bundle, model=prepare_network(bundle.model, device, precision))

    def __call__(self, images: Sequence[RgbImage]) -> list[Localization]:
        """Localize the lesions of a batch.

        Args:
            images: RGB uint8, each of any size.

        Returns:
            One localization per image, in pixels of the image.

        Raises:
            PredictionError: The U-Net returned a number that is not finite for one of them.
            ValueError: An image is not such an array, see `arrays.require_image`.
        """
        images = require_images(images)
        return self.localize(images, self.mask_probs(images) if self.start is MaskSource.UNET else [None] * len(images))

    def localize(self, images: Sequence[RgbImage], maps: Sequence[NDArray[np.float32] | None]) -> list[Localization]:
        """Localize lesions from the probability maps of the U-Net.

        Args:
            images: RGB uint8, each of any size.
            maps: Probability map of each image, from `mask_probs`; None for each where the first mask source is not the U-Net.

        Returns:
            One localization per image, in pixels of the image.
        """
        return [localize(image, mask_probs, start=self.start) for image, mask_probs in zip(images, maps, strict=True)]

    @torch.inference_mode()
    def mask_probs(self, images: Sequence[RgbImage]) -> list[NDArray[np.float32]]:
        """Run the U-Net alone.

        Args:
            images: RGB uint8, each of any size.

        Returns:
            Probability of lesion for each image, float32 in [0, 1], shape (size, size) of the network's input.

        Raises:
            ValueError: There is no U-Net.
        """
        if self.bundle is None:
            raise ValueError("a segmenter must be given where the first mask source is the U-Net, got None")
        batch = images_to_batch(images, self.bundle.card.input, self._device)
        with exclusive_device(self._device, self._precision):
            logits = require_finite_logits(self.bundle.model(batch), "segmenter")
        return list(torch.sigmoid(logits.float())[:, 0].cpu().numpy())
