"""A single classifier: cropping, per-view predictions and heatmaps."""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.bundle.card import ClassifierBundle
from segpipe.inference.gradcam import HeadPass, scale_to_unit
from segpipe.inference.heatmap import frame_of, mean_heatmap
from segpipe.inference.networks import Item, batched, exclusive_device, prepare_network, require_finite_logits
from segpipe.inference.tta import View, margin_scales, mean_maps, stack_views, unstack
from segpipe.lesion.crop import cut_lesion
from segpipe.lesion.localization import Localization
from segpipe.models.classifier import LesionClassifier
from segpipe.models.preprocessing import images_to_batch
from segpipe.types import Box, RgbImage


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
        probs: Calibrated probabilities of each view, float64, shape (V, N, classes), on the CPU.
        head_pass: Pass through the head over all views, in the order of `stack_views`.
        views: Views, V of them.
        frames: Area that each crop covers, in pixels of the image, for each of the N images.
    """

    probs: Tensor
    head_pass: HeadPass
    views: Sequence[View]
    frames: Sequence[Sequence[Box]]

    def heatmaps(self, classes: Tensor) -> NDArray[np.float32]:
        """Compute one heatmap per image, averaged over the views.

        Args:
            classes: Index of the class to explain for each image, int64, shape (N,), on the CPU.

        Returns:
            Shape (N, h, w), each scaled by its maximum to [0, 1]; it covers the first of the image's frames.
        """
        target = classes.repeat(len(self.views)).to(self.head_pass.logits.device)
        maps_by_crop = mean_maps(self.head_pass.maps(target), self.views).cpu().numpy()
        means = [mean_heatmap(list(maps), frames) for maps, frames in zip(maps_by_crop.swapaxes(0, 1), self.frames, strict=True)]
        return np.asarray(scale_to_unit(torch.from_numpy(np.stack(means))).numpy())


class Classifier:
    """Classifier of a group of crops over all views.

    Args:
        bundle: Bundle of the classifier.
        device: Device of the network.
        views: Views for test-time augmentation, the identity first.
        batch_size: Largest number of images x views in one pass through the backbone.
        precision: Precision of the backbone; the head runs in float32.

    Attributes:
        bundle: Bundle with the network in the form that runs.
    """

    def __init__(
        self,
        bundle: ClassifierBundle,
        *,
        device: torch.device,
        views: Sequence[View],
        batch_size: int,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self._device = device
        self._views = views
        self._batch_size = batch_size
        self._precision = precision
        # No reference to the model as it was loaded is kept, so its memory is released.
        self.bundle = replace(bundle, model=prepare_network(bundle.model, device, precision, run=LesionClassifier.features))
        self._logit_bias = torch.tensor(bundle.card.logit_bias or (0.0,), dtype=torch.float64)

    def with_views(self, views: Sequence[View]) -> "Classifier":
        """Return a copy with other views that shares the network."""
        other = copy(self)
        other._views = views
        return other

    def cut(self, image: RgbImage, localization: Localization) -> Crops:
        """Crop the lesion by the card's rule, once per margin."""
        card = self.bundle.card
        rules = [replace(card.crop, margin_fraction=scale * card.crop.margin_fraction) for scale in margin_scales(self._views)]
        cut = (cut_lesion(image, localization.mask, localization.box, rule, size=card.input.size) for rule in rules)
        return tuple(Crop(box, pixels, card.crop.border) for box, pixels in cut)

    @torch.inference_mode()
    def __call__(self, crops: Sequence[Crops]) -> ViewPredictions:
        """Classify a group of crops.

        Args:
            crops: Crops of each image, from `cut`, in a group of `group_crops`.

        Raises:
            PredictionError: The network returned a number that is not finite.
        """
        head_pass = HeadPass(self.bundle.model.head, self._features(crops))
        logits = require_finite_logits(head_pass.logits.cpu(), "classifier")
        scaled = logits.double() / self.bundle.card.temperature  # on the CPU, because Apple's MPS has no float64
        count = len(margin_scales(self._views))
        frames = [[crop.frame for crop in image_crops[:count]] for image_crops in crops]
        return ViewPredictions(unstack((scaled + self._logit_bias).softmax(1), self._views), head_pass, self._views, frames)

    def view_logits(self, crops: Sequence[Crops]) -> NDArray[np.float64]:
        """Compute uncalibrated logits of each view, shape (V, N, classes)."""
        groups = group_crops(crops, self._views, self._batch_size)
        logits = [unstack(self(group).head_pass.logits, self._views) for group in groups]
        return np.asarray(torch.cat(logits, dim=1).cpu().double().numpy())

    def _features(self, crops: Sequence[Crops]) -> Tensor:
        batches = {
            scale: images_to_batch([image_crops[number].pixels for image_crops in crops], self.bundle.card.input, self._device)
            for number, scale in enumerate(margin_scales(self._views))
        }
        stacked = stack_views(batches, self._views).contiguous(memory_format=torch.channels_last)
        with exclusive_device(self._device, self._precision):
            return torch.cat([self.bundle.model.features(part) for part in torch.split(stacked, self._batch_size)]).float()


def group_crops(crops: Iterable[Item], views: Sequence[View], batch_size: int) -> Iterator[list[Item]]:
    """Group as many crops as `batch_size` allows, counting views."""
    return batched(crops, max(1, batch_size // len(views)))
