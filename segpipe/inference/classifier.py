"""One classifier: what it sees of a lesion, what it says of each view of that, and why."""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.bundle import ClassifierBundle
from segpipe.image_io import RgbImage
from segpipe.inference.gradcam import HeadPass, scale_to_unit
from segpipe.inference.networks import prepare_network, require_finite_logits, take_turn
from segpipe.inference.source import Item, batched
from segpipe.inference.tta import View, mean_maps, stack_views, unstack
from segpipe.lesion.crop import Box, crop_box, cut_out, resize_square
from segpipe.lesion.localizer import Localization
from segpipe.models.classifier import LesionClassifier
from segpipe.models.preprocessing import images_to_batch


@dataclass(frozen=True)
class Crop:
    """What a classifier sees of one image.

    Attributes:
        box: in pixels of the image.
        pixels: RGB uint8, shape (size, size, 3), as the network takes it.
    """

    box: Box
    pixels: RgbImage


@dataclass(frozen=True)
class Opinion:
    """What a classifier says of N crops. It holds their features, so that it can be asked for its reasons afterwards.

    Attributes:
        probs: calibrated, of each view: float64, shape (V, N, classes), on the CPU.
        head_pass: over all views, in the order of `stack_views`.
        views: the V views.
    """

    probs: Tensor
    head_pass: HeadPass
    views: Sequence[View]

    def heatmaps(self, classes: Tensor) -> NDArray[np.float32]:
        """Where it looked for one class each, averaged over the views.

        Args:
            classes: indices, int64, shape (N,), on the CPU.

        Returns:
            Shape (N, h, w), each scaled by its maximum to [0, 1].
        """
        target = classes.repeat(len(self.views)).to(self.head_pass.logits.device)
        return np.asarray(scale_to_unit(mean_maps(self.head_pass.maps(target), self.views)).cpu().numpy())


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

    def cut(self, image: RgbImage, localization: Localization) -> Crop:
        """Cut a lesion out by the rule of the bundle's card."""
        rule = self.bundle.card.crop
        box = crop_box(image, localization.box, rule)
        pixels = cut_out(image, localization.mask, box, keep_background=rule.keep_background)
        return Crop(box, resize_square(pixels, self.bundle.card.input.size))

    @torch.inference_mode()
    def __call__(self, crops: Sequence[Crop]) -> Opinion:
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
        return Opinion(unstack((scaled + self._logit_bias).softmax(1), self._views), head_pass, self._views)

    def view_logits(self, crops: Sequence[Crop]) -> NDArray[np.float64]:
        """What the network says of each view before its calibration: logits, shape (V, N, classes)."""
        groups = group_crops(crops, self._views, self._batch_size)
        logits = [unstack(self(group).head_pass.logits, self._views) for group in groups]
        return np.asarray(torch.cat(logits, dim=1).cpu().double().numpy())

    def _features(self, crops: Sequence[Crop]) -> Tensor:
        batch = images_to_batch([crop.pixels for crop in crops], self.bundle.card.input, self._device)
        stacked = stack_views(batch, self._views).contiguous(memory_format=torch.channels_last)
        with take_turn(self._device, self._precision):
            return torch.cat([self.bundle.model.features(part) for part in torch.split(stacked, self._batch_size)]).float()


def group_crops(crops: Iterable[Item], views: Sequence[View], batch_size: int) -> Iterator[list[Item]]:
    """As many crops as `batch_size` allows with all their views; at least one."""
    return batched(crops, max(1, batch_size // len(views)))
