"""Lesion localization in batches: U-Net, then contour, then whole image."""

from collections.abc import Sequence

import numpy as np

from segpipe.inference.networks import Float32Array, SegmenterNetwork, sigmoid
from segpipe.io.arrays import require_images
from segpipe.lesion.crop import resize_square
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.lesion.localizer import localize
from segpipe.types import RgbImage


class Localizer:
    """Localizer of lesions in a batch of images.

    Args:
        network: U-Net; None where `start` is a later mask source.
        start: First mask source.
    """

    def __init__(self, network: SegmenterNetwork | None, *, start: MaskSource = MaskSource.UNET) -> None:
        self.network = network
        self.start = start

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

    def localize(self, images: Sequence[RgbImage], maps: Sequence[Float32Array | None]) -> list[Localization]:
        """Localize lesions from the probability maps of the U-Net.

        Args:
            images: RGB uint8, each of any size.
            maps: Probability map of each image, from `mask_probs`; None for each where the first mask source is not the U-Net.

        Returns:
            One localization per image, in pixels of the image.
        """
        return [localize(image, mask_probs, start=self.start) for image, mask_probs in zip(images, maps, strict=True)]

    def mask_probs(self, images: Sequence[RgbImage]) -> list[Float32Array]:
        """Run the U-Net alone.

        Args:
            images: RGB uint8, each of any size.

        Returns:
            Probability of lesion for each image, float32 in [0, 1], shape (size, size) of the network's input.

        Raises:
            ValueError: There is no U-Net.
        """
        if self.network is None:
            raise ValueError("a segmenter must be given where the first mask source is the U-Net, got None")
        size = self.network.card.input.size
        logits = self.network.logits(np.stack([resize_square(image, size) for image in images]))
        return list(sigmoid(logits))
