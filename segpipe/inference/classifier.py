"""One classifier: what it sees of a lesion, what it says of each view of that, and why."""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.bundle.folder import ClassifierBundle
from segpipe.inference.gradcam import HeadPass, scale_to_unit
from segpipe.inference.heatmap import mean_heatmap
from segpipe.inference.networks import Item, batched, prepare_network, require_finite_logits, take_turn
from segpipe.inference.tta import View, margin_scales, mean_maps, stack_views, unstack
from segpipe.lesion.crop import cut_lesion, frame_of
from segpipe.lesion.localizer import Localization
from segpipe.models.classifier import LesionClassifier
from segpipe.models.preprocessing import images_to_batch
from segpipe.types import Box, RgbImage


@dataclass(frozen=True)
class Crop:
    """One square that a classifier sees of one image.

    Attributes:
        box: part of the image that was cut out, in pixels of the image.
        pixels: RGB uint8, shape (size, size, 3), as the network takes it.
        border: method by which a crop became square, see `segpipe.lesion.crop.CropRule`.
    """

    box: Box
    pixels: RgbImage
    border: str = "squeeze"

    @property
    def frame(self) -> Box:
        """Area that `pixels` stand for; beyond the image where its border is reflected."""
        return frame_of(self.box, self.border)


Crops = tuple[Crop, ...]  # of one image, for each of `margin_scales(views)`; the first is cut by the card's own margin


@dataclass(frozen=True)
class ViewPredictions:
    """What a classifier says of N crops. It holds their features, so that it can be asked for its reasons afterwards.

    Attributes:
        probs: calibrated, of each view: float64, shape (V, N, classes), on the CPU.
        head_pass: over all views, in the order of `stack_views`.
        views: the V views.
        frames: area that each crop shows, in pixels of the image, for each of the N images.
    """

    probs: Tensor
    head_pass: HeadPass
    views: Sequence[View]
    frames: Sequence[Sequence[Box]]

    def heatmaps(self, classes: Tensor) -> NDArray[np.float32]:
        """Where it looked for one class each, averaged over the views, those of closer crops in the frame of the first.

        Args:
            classes: indices, int64, shape (N,), on the CPU.

        Returns:
            Shape (N, h, w), each scaled by its maximum to [0, 1]; it covers the first of its frames.
        """
        target = classes.repeat(len(self.views)).to(self.head_pass.logits.device)
        of_crops = mean_maps(self.head_pass.maps(target), self.views).cpu().numpy()
        means = [mean_heatmap(list(maps), frames) for maps, frames in zip(of_crops.swapaxes(0, 1), self.frames, strict=True)]
        return np.asarray(scale_to_unit(torch.from_numpy(np.stack(means))).numpy())


class Classifier:
    """Classifies a group of crops over all views.

    Args:
        bundle: of the classifier.
        device: where it runs.
        views: for test-time augmentation, the identity first.
        batch_size: cap on images x views that run through the backbone at once.
        precision: that the backbone computes in; the head takes float32.
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
        # The model as it was loaded is let go.
        self.bundle = replace(bundle, model=prepare_network(bundle.model, device, precision, run=LesionClassifier.features))
        self._logit_bias = torch.tensor(bundle.card.logit_bias or (0.0,), dtype=torch.float64)

    def with_views(self, views: Sequence[View]) -> "Classifier":
        """The same classifier over other views; the network is shared."""
        other = copy(self)
        other._views = views
        return other

    def cut(self, image: RgbImage, localization: Localization) -> Crops:
        """Cut a lesion out by the rule of the bundle's card, once for each margin of the views."""
        card = self.bundle.card
        rules = [replace(card.crop, margin_fraction=scale * card.crop.margin_fraction) for scale in margin_scales(self._views)]
        cut = (cut_lesion(image, localization.mask, localization.box, rule, size=card.input.size) for rule in rules)
        return tuple(Crop(box, pixels, card.crop.border) for box, pixels in cut)

    @torch.inference_mode()
    def __call__(self, crops: Sequence[Crops]) -> ViewPredictions:
        """Classify a group of crops.

        Args:
            crops: as `cut` makes them, a group of `group_crops`.

        Returns:
            What it says of them.

        Raises:
            AnswerError: the network gave a number that is not finite.
        """
        head_pass = HeadPass(self.bundle.model.head, self._features(crops))
        logits = require_finite_logits(head_pass.logits.cpu(), "classifier")
        scaled = logits.double() / self.bundle.card.temperature  # Apple's MPS has no float64
        count = len(margin_scales(self._views))
        frames = [[crop.frame for crop in of_image[:count]] for of_image in crops]
        return ViewPredictions(unstack((scaled + self._logit_bias).softmax(1), self._views), head_pass, self._views, frames)

    def view_logits(self, crops: Sequence[Crops]) -> NDArray[np.float64]:
        """What the network says of each view before its calibration: logits, shape (V, N, classes)."""
        groups = group_crops(crops, self._views, self._batch_size)
        logits = [unstack(self(group).head_pass.logits, self._views) for group in groups]
        return np.asarray(torch.cat(logits, dim=1).cpu().double().numpy())

    def _features(self, crops: Sequence[Crops]) -> Tensor:
        batches = {
            scale: images_to_batch([of_image[number].pixels for of_image in crops], self.bundle.card.input, self._device)
            for number, scale in enumerate(margin_scales(self._views))
        }
        stacked = stack_views(batches, self._views).contiguous(memory_format=torch.channels_last)
        with take_turn(self._device, self._precision):
            return torch.cat([self.bundle.model.features(part) for part in torch.split(stacked, self._batch_size)]).float()


def group_crops(crops: Iterable[Item], views: Sequence[View], batch_size: int) -> Iterator[list[Item]]:
    """As many crops as `batch_size` allows with all their views; at least one."""
    return batched(crops, max(1, batch_size // len(views)))
