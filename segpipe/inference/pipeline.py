"""From images to findings: the one pipeline for a photograph, a folder, a test split and a web page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.bundle.folder import SegmenterBundle
from segpipe.inference.ensemble import ClassifierEnsemble, Prediction, Seen
from segpipe.inference.finding import Finding
from segpipe.inference.image_sources import ImageSource, find_all, read_source
from segpipe.inference.networks import prepare_network, require_finite_logits, take_turn
from segpipe.io.arrays import kind_of, require_images
from segpipe.io.images import DEFAULT_MAX_PIXELS, Photograph
from segpipe.lesion.localizer import Localization, MaskSource, localize
from segpipe.models.preprocessing import images_to_batch
from segpipe.types import RgbImage

# Photographs may come reduced, but no further than to sides of this many times those of the networks' input: the crop of a
# lesion that fills a sixth of the image's side still has as many pixels as the network can take, with a margin of 0.5.
OVERSAMPLING = 3

AnySource = TypeVar("AnySource", bound=ImageSource)  # a list[str] is no list[ImageSource] to a type checker


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
            ValueError: an image is not such an array, see `arrays.require_image`.
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
    """Finds, crops and classifies lesions; `segpipe.load_pipeline` loads one. Threads may share it.

    One image is a batch of one: in float32 the numbers do not depend on what else is in the batch, but for rounding (1e-5).

    Attributes:
        locator: finds the lesions.
        namer: names them.
        least_side: a photograph may come reduced as long as both sides keep this many pixels.
    """

    def __init__(self, locator: Locator, ensemble: ClassifierEnsemble) -> None:
        self.locator = locator
        self.ensemble = ensemble
        sizes = [bundle.card.input.size for bundle in (locator.bundle, *ensemble.bundles) if bundle is not None]
        self.least_side = OVERSAMPLING * max(sizes)

    @overload
    def predict(self, source: ImageSource, *, max_pixels: int = ...) -> Finding: ...

    @overload
    def predict(self, source: list[ImageSource] | tuple[ImageSource, ...], *, max_pixels: int = ...) -> list[Finding]: ...

    @overload
    def predict(self, source: list[AnySource], *, max_pixels: int = ...) -> list[Finding]: ...

    @overload
    def predict(self, source: Iterator[ImageSource], *, max_pixels: int = ...) -> Iterator[Finding]: ...

    def predict(self, source: object, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Finding | list[Finding] | Iterator[Finding]:
        """Find, crop and classify the lesion of one image, or of many.

        Files are read as `segpipe predict` reads them, and give the same numbers: EXIF orientation applied, transparent parts on
        white, large photographs reduced as far as both sides keep `least_side` pixels. A PIL image or an array as large is
        reduced by the same factor, but by averaging pixels, not in the JPEG decoder; its numbers differ slightly from the file's.

        Args:
            source: a path, a URL that fsspec opens (`https://...`, `s3://...`), the bytes of an image file, a PIL image of any
                mode, or an RGB array, uint8, shape (H, W, 3). A list or tuple of these gives a list, an iterator an iterator that
                reads and answers one batch at a time. The order of the colors cannot be seen from pixels: an array that OpenCV
                read is BGR and becomes RGB with `image[..., ::-1]`.
            max_pixels: most pixels (height x width) of an image; checked before decoding.

        Returns:
            One finding for each image, in order.

        Raises:
            ImageError: an image cannot be read, or needs more memory than there is. In a list or an iterator the message begins
                with the index of the image; an iterator has yielded the findings of all images before it.
            AnswerError: a model gave a number that is not finite.
            ValueError: `source` is none of these, an array is no RGB image, or `max_pixels` is not a positive integer.
        """
        if not isinstance(max_pixels, int) or max_pixels < 1:
            raise ValueError(f"max_pixels must be an integer of 1 or more, got {max_pixels!r}; leave it out for the default")
        find = partial(find_all, self, partial(read_source, least_side=self.least_side, max_pixels=max_pixels))
        if isinstance(source, list | tuple):
            return list(find(source, batch_size=self.ensemble.batch_size, numbered=True))
        if isinstance(source, Iterator) and not hasattr(source, "read"):
            return find(source, batch_size=self.ensemble.batch_size, numbered=True)
        return next(find([source], batch_size=1, numbered=False))

    def __call__(self, images: Sequence[RgbImage], *, between: Callable[[], None] = lambda: None) -> list[Finding]:
        """Find, crop and classify the lesions of a batch of arrays in their own size; `predict` takes all else.

        Args:
            images: RGB uint8, shape (H, W, 3) each, of any size from `image_io.MIN_SIDE` on; at least one. The order of the
                colors cannot be seen from the pixels: what OpenCV reads is BGR and becomes RGB with `image[..., ::-1]`.
            between: called between the steps; what it raises ends the work.

        Returns:
            One finding each.

        Raises:
            AnswerError: a model gave a number that is not finite for one of them; alone, the others have their findings.
            ValueError: an image is not such an array, see `arrays.require_image`.
        """
        if not isinstance(images, list | tuple):
            raise ValueError(f"images must be a list of RGB arrays, got {kind_of(images)}; use pipeline.predict(image)")
        localizations = self.locator(images)
        between()
        crops = [self.ensemble.cut(image, place) for image, place in zip(images, localizations, strict=True)]
        answers = self.ensemble(crops, between=between)
        return [self._finding(*parts) for parts in zip(images, localizations, crops, answers, strict=True)]

    def _finding(self, image: RgbImage, localization: Localization, seen: Seen, answer: Prediction) -> Finding:
        crop = seen[0][0]
        return Finding(
            photograph=Photograph(image, *image.shape[:2]),
            localization=localization,
            window=crop.box,
            crop=crop.pixels,
            border=crop.border,
            probabilities=dict(zip(self.ensemble.classes, map(float, answer.probs), strict=True)),
            malignant=self.ensemble.malignant,
            operating_points=self.ensemble.operating_points,
            tta_spread=answer.tta_spread,
            class_map=answer.class_map,
        )
