"""Stages of a pipeline: localization of lesions, and a single classifier."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segpipe.inference.heatmap import HeatmapArray, frame_of, mean_heatmap, scale_to_unit
from segpipe.inference.networks import ClassifierNetwork, ClassifierPass, Float32Array, Item, SegmenterNetwork, batched, sigmoid
from segpipe.inference.tta import View, margin_scales, mean_maps, softmax, stack_views, unstack
from segpipe.lesion.crop import cut_lesion, resize_square
from segpipe.lesion.localization import Localization, MaskSource, accept_mask, localize
from segpipe.types import BoolMask, Box, FloatArray, RgbImage, require_images

# Features of each image, float32, shape (D,), from the encoder of a U-Net; None without them.
Features = Sequence[Float32Array | None]


class Localizer:
    """Localizer of lesions in a batch of images.

    Args:
        network: U-Net; None where `start` is a later mask source.
        start: First mask source, one of `segpipe.lesion.localization.FINDERS`.
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
            ValueError: An image is not such an array, see `segpipe.types.require_image`.
        """
        return self.with_features(images)[0]

    def with_features(
        self, images: Sequence[RgbImage], masks: Sequence[BoolMask | None] | None = None
    ) -> tuple[list[Localization], Features]:
        """Localize the lesions of a batch, with the U-Net's features.

        The U-Net sees images with a given mask, too: its features describe the photograph, which the input gate judges.

        Args:
            images: RGB uint8, each of any size.
            masks: Given mask of each image, bool, shape (H, W), or None to find it; None to find all.

        Returns:
            One localization per image, and the features of each image, see `segpipe.inference.networks.SegmenterPass`; None for
            each where the first mask source is not the U-Net.

        Raises:
            PredictionError: The U-Net returned a number that is not finite for one of them.
            ValueError: An image is not such an array, see `segpipe.types.require_image`, or a mask does not fit its image, see
                `segpipe.lesion.localization.accept_mask`.
        """
        images = require_images(images)
        nothing = [None] * len(images)
        maps, features = self.segment(images) if self.start is MaskSource.UNET else (nothing, nothing)
        return self.localize(images, maps, masks), features

    def localize(
        self,
        images: Sequence[RgbImage],
        maps: Sequence[Float32Array | None],
        masks: Sequence[BoolMask | None] | None = None,
    ) -> list[Localization]:
        """Localize lesions from the probability maps of the U-Net.

        Args:
            images: RGB uint8, each of any size.
            maps: Probability map of each image, from `segment`; None for each where the first mask source is not the U-Net.
            masks: Given masks, which replace the maps, as for `with_features`.

        Returns:
            One localization per image, in pixels of the image.
        """
        given = masks or [None] * len(images)
        return [
            localize(image, mask_probs, start=self.start) if mask is None else accept_mask(image, mask)
            for image, mask_probs, mask in zip(images, maps, given, strict=True)
        ]

    def segment(self, images: Sequence[RgbImage]) -> tuple[list[Float32Array], Features]:
        """Run the U-Net alone.

        Args:
            images: RGB uint8, each of any size.

        Returns:
            Probability of lesion for each image, float32 in [0, 1], shape (size, size) of the network's input; and the features
            of each image, shape (D,), or None for each.

        Raises:
            ValueError: There is no U-Net.
        """
        if self.network is None:
            raise ValueError("a segmenter must be given where the first mask source is the U-Net, got None")
        size = self.network.card.input.size
        found = self.network(np.stack([resize_square(image, size) for image in images]))
        return list(sigmoid(found.logits)), list(found.features) if found.features is not None else [None] * len(images)


@dataclass(frozen=True)
class Crop:
    """One square crop of an image, as a classifier sees it.

    Attributes:
        box: Part of the image that was cropped, in pixels of the image.
        pixels: RGB uint8, shape (size, size, 3), in the input size of the network.
        border: Method that made the crop square, see `segpipe.lesion.crop.CropRule`.
    """

    box: Box
    pixels: RgbImage
    border: str = "squeeze"

    @property
    def frame(self) -> Box:
        """Area that `pixels` cover, beyond the image where they are reflected."""
        return frame_of(self.box, self.border)


# Crops of one image, one for each of `margin_scales(views)`; the first has the margin of the card.
Crops = tuple[Crop, ...]


@dataclass(frozen=True)
class ViewPredictions:
    """Predictions of a classifier for N images in V views.

    Attributes:
        probs: Calibrated probabilities of each view, shape (V, N, classes).
        network_pass: Pass of the network over all views, in the order of `stack_views`.
        views: Views, V of them.
        frames: Area that each crop covers, in pixels of the image, for each of the N images.
    """

    probs: FloatArray
    network_pass: ClassifierPass
    views: Sequence[View]
    frames: Sequence[Sequence[Box]]

    @property
    def features(self) -> Float32Array:
        """Pooled features in the first view and crop, shape (N, C)."""
        return self.network_pass.features[: len(self.frames)]

    def heatmaps(self, classes: NDArray[np.int64]) -> HeatmapArray:
        """Compute one heatmap per image, averaged over the views.

        Args:
            classes: Index of the class to explain for each image, shape (N,).

        Returns:
            Shape (N, h, w), each scaled by its maximum to [0, 1]; it covers the first of the image's frames.
        """
        maps_by_crop = mean_maps(self.network_pass.maps(np.tile(classes, len(self.views))), self.views)
        means = [mean_heatmap(list(maps), frames) for maps, frames in zip(maps_by_crop.swapaxes(0, 1), self.frames, strict=True)]
        return scale_to_unit(np.stack(means))


class Classifier:
    """Classifier of a group of crops over all views.

    Args:
        network: Network of the classifier.
        views: Views for test-time augmentation, the identity first.
        batch_size: Largest number of images x views in one pass through the backbone.
    """

    def __init__(self, network: ClassifierNetwork, *, views: Sequence[View], batch_size: int) -> None:
        self.network = network
        self._views = views
        self._batch_size = batch_size

    def with_views(self, views: Sequence[View]) -> "Classifier":
        """Return a copy with other views that shares the network."""
        return Classifier(self.network, views=views, batch_size=self._batch_size)

    def cut(self, image: RgbImage, localization: Localization) -> Crops:
        """Crop the lesion by the card's rule, once per margin."""
        card = self.network.card
        rules = [replace(card.crop, margin_fraction=scale * card.crop.margin_fraction) for scale in margin_scales(self._views)]
        cut = (cut_lesion(image, localization.mask, localization.box, rule, size=card.input.size) for rule in rules)
        return tuple(Crop(box, pixels, card.crop.border) for box, pixels in cut)

    def __call__(self, crops: Sequence[Crops]) -> ViewPredictions:
        """Classify a group of crops.

        Args:
            crops: Crops of each image, from `cut`, in a group of `group_crops`.

        Raises:
            PredictionError: The network returned a number that is not finite.
        """
        card, scales = self.network.card, margin_scales(self._views)
        network_pass = self._pass(crops)
        scaled = network_pass.logits.astype(np.float64) / card.temperature + np.asarray(card.logit_bias or (0.0,))
        frames = [[crop.frame for crop in image_crops[: len(scales)]] for image_crops in crops]
        return ViewPredictions(unstack(softmax(scaled), self._views), network_pass, self._views, frames)

    def view_logits(self, crops: Sequence[Crops]) -> FloatArray:
        """Compute uncalibrated logits of each view, shape (V, N, classes)."""
        groups = group_crops(crops, self._views, self._batch_size)
        return np.concatenate([unstack(self._pass(group).logits.astype(np.float64), self._views) for group in groups], axis=1)

    def _pass(self, crops: Sequence[Crops]) -> ClassifierPass:
        pixels = {
            scale: np.stack([image_crops[number].pixels for image_crops in crops])
            for number, scale in enumerate(margin_scales(self._views))
        }
        return self.network(stack_views(pixels, self._views), batch_size=self._batch_size)


def group_crops(crops: Iterable[Item], views: Sequence[View], batch_size: int) -> Iterator[list[Item]]:
    """Group as many crops as `batch_size` allows, counting views."""
    return batched(crops, max(1, batch_size // len(views)))
