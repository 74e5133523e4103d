"""From a batch of images to findings: the one way for a photograph, a folder, a test split and a web page."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.arrays import require_images
from segpipe.bundle import SegmenterBundle
from segpipe.image_io import RgbImage
from segpipe.inference.finding import Finding
from segpipe.inference.namer import Answer, Crops, Namer
from segpipe.inference.networks import prepare_network, require_finite_logits, take_turn
from segpipe.lesion.localizer import Localization, MaskSource, localize
from segpipe.models.preprocessing import images_to_batch

# Photographs may come reduced, but no further than to sides of this many times those of the networks' input: the crop of a
# lesion that fills a sixth of the image's side still has as many pixels as the network can take, with a margin of 0.5.
OVERSAMPLING = 3


class Locator:
    """Finds the lesions of a batch: U-Net, then contour, then whole image.

    Args:
        bundle: of the U-Net; None where `start` lies behind it.
        device: where the U-Net runs.
        start: the first way that is tried.
        precision: that its convolutions are computed in.
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
        # The model as it was loaded is let go.
        self.bundle = None if bundle is None else replace(bundle, model=prepare_network(bundle.model, device, precision))

    def __call__(self, images: Sequence[RgbImage]) -> list[Localization]:
        """Find the lesions of a batch.

        Args:
            images: RGB uint8, each of any size.

        Returns:
            One localization each, in the coordinates of its image.

        Raises:
            AnswerError: the U-Net gave a number that is not finite for one of them.
            TypeError, ValueError: an image is not such an array, see `arrays.require_image`.
        """
        images = require_images(images)
        return self.localize(images, self.mask_probs(images) if self.start is MaskSource.UNET else [None] * len(images))

    def localize(self, images: Sequence[RgbImage], maps: Sequence[NDArray[np.float32] | None]) -> list[Localization]:
        """Localize the lesions from the segmenter's probability maps.

        Args:
            images: RGB uint8, each of any size.
            maps: what `mask_probs` gives for these images; None for each where the first mask source is not the U-Net.

        Returns:
            One localization each, in the coordinates of its image.
        """
        return [localize(image, mask_probs, start=self.start) for image, mask_probs in zip(images, maps, strict=True)]

    @torch.inference_mode()
    def mask_probs(self, images: Sequence[RgbImage]) -> list[NDArray[np.float32]]:
        """Run the segmenter alone.

        Args:
            images: RGB uint8, each of any size.

        Returns:
            The probability of lesion for each image, float32 in [0, 1], shape (size, size) of the network's input.

        Raises:
            ValueError: there is no segmenter.
        """
        if self.bundle is None:
            raise ValueError("a segmenter must be given where the way begins at the U-Net, got None")
        batch = images_to_batch(images, self.bundle.card.input, self._device)
        with take_turn(self._device, self._precision):
            logits = require_finite_logits(self.bundle.model(batch), "segmenter")
        return list(torch.sigmoid(logits.float())[:, 0].cpu().numpy())


class Pipeline:
    """Locates, cuts out and names the lesions of a batch of images. Threads may share it.

    One image is a batch of one: in float32 the numbers do not depend on what else is in the batch, but for rounding (1e-5).

    Attributes:
        locator: finds the lesions.
        namer: names them.
        least_side: a photograph may come reduced as long as both sides keep this many pixels.
    """

    def __init__(self, locator: Locator, namer: Namer) -> None:
        self.locator = locator
        self.namer = namer
        sizes = [bundle.card.input.size for bundle in (locator.bundle, *namer.bundles) if bundle is not None]
        self.least_side = OVERSAMPLING * max(sizes)

    def __call__(self, images: Sequence[RgbImage], *, between: Callable[[], None] = lambda: None) -> list[Finding]:
        """Find and name the lesions of a batch.

        Args:
            images: RGB uint8, shape (H, W, 3) each, of any size from `image_io.MIN_SIDE` on; at least one. The order of the
                colors cannot be seen from the pixels: what OpenCV reads is BGR and becomes RGB with `image[..., ::-1]`.
            between: called between the steps; what it raises ends the work.

        Returns:
            One finding each.

        Raises:
            AnswerError: a model gave a number that is not finite for one of them; alone, the others have their findings.
            TypeError, ValueError: an image is not such an array, see `arrays.require_image`.
        """
        localizations = self.locator(images)
        between()
        crops = [self.namer.cut(image, place) for image, place in zip(images, localizations, strict=True)]
        answers = self.namer(crops, between=between)
        return [self._finding(*parts) for parts in zip(localizations, crops, answers, strict=True)]

    def _finding(self, localization: Localization, crops: Crops, answer: Answer) -> Finding:
        probs = dict(zip(self.namer.classes, map(float, answer.probs), strict=True))
        return Finding(
            localization=localization,
            crop_box=crops[0].box,
            crop=crops[0].pixels,
            probs=probs,
            malignant=self.namer.malignant,
            operating_points=self.namer.operating_points,
            tta_spread=answer.tta_spread,
            heatmap=answer.heatmap,
        )
