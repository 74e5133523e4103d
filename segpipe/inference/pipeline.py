"""From a batch of images to findings: the one way for a photograph, a folder, a test split and a web page."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.bundle import ClassifierBundle, SegmenterBundle
from segpipe.errors import ConfigError
from segpipe.image_io import RgbImage
from segpipe.inference.finding import Finding, Heatmap
from segpipe.inference.gradcam import explain, scale_to_unit
from segpipe.inference.source import batched
from segpipe.inference.tta import View, mean_maps, mean_probs, spread, stack_views, unstack
from segpipe.lesion.crop import Box, crop_box, cut_out, resize_square
from segpipe.lesion.localizer import Localization, MaskSource, localize
from segpipe.models.folding import AnyModel, fold_batch_norm
from segpipe.models.packing import pack_convolutions
from segpipe.models.preprocessing import images_to_batch

# Photographs may come reduced, but no further than to sides of this many times those of the networks' input: the crop of a
# lesion that fills a sixth of the image's side still has as many pixels as the network can take, with a margin of 0.5.
OVERSAMPLING = 3
_ACCELERATOR = threading.Lock()


@dataclass(frozen=True)
class Crop:
    """What the classifier sees of one image.

    Attributes:
        box: in pixels of the image.
        pixels: RGB uint8, shape (size, size, 3), as the network takes it.
    """

    box: Box
    pixels: RgbImage


@dataclass(frozen=True)
class Answer:
    """What the classifier says of one crop, over all views.

    Attributes:
        probs: calibrated, float64, shape (classes,), sums to 1.
        tta_spread: None with a single view.
        heatmap: None where no explanation was asked for.
    """

    probs: NDArray[np.float64]
    tta_spread: float | None
    heatmap: Heatmap | None


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
        self.bundle = None if bundle is None else replace(bundle, model=_prepare(bundle.model, device, precision))

    def __call__(self, images: Sequence[RgbImage]) -> list[Localization]:
        """Args: images, RGB uint8, each of any size. Returns: one localization each, in the coordinates of its image."""
        maps = self._mask_probs(images) if self.start is MaskSource.UNET else [None] * len(images)
        return [localize(image, mask_probs, start=self.start) for image, mask_probs in zip(images, maps, strict=True)]

    @torch.inference_mode()
    def _mask_probs(self, images: Sequence[RgbImage]) -> list[NDArray[np.float32]]:
        if self.bundle is None:
            raise ValueError("a segmenter must be given where the way begins at the U-Net, got None")
        batch = images_to_batch(images, self.bundle.card.input, self._device)
        with _turn(self._device, self._precision):
            logits = self.bundle.model(batch)
        return list(torch.sigmoid(logits.float())[:, 0].cpu().numpy())


class Namer:
    """Names the lesions of a batch of crops, over all views, and shows why.

    Args:
        bundle: of the classifier.
        device: where it runs.
        views: for test-time augmentation, the identity first.
        explained: code of the class to explain, `predicted` for the most probable one, None for no explanation.
        batch_size: cap on images x views that run through the backbone at once.
        precision: that the backbone computes in; the head takes float32.

    Raises:
        ConfigError: `explained` is not a class of the bundle.
    """

    def __init__(
        self,
        bundle: ClassifierBundle,
        *,
        device: torch.device,
        views: Sequence[View],
        explained: str | None,
        batch_size: int,
        precision: torch.dtype = torch.float32,
    ) -> None:
        classes = bundle.card.classes
        if explained not in (None, "predicted", *classes):
            raise ConfigError(f"explain.diagnosis must be one of {', '.join(classes)}, got {explained!r}")
        self.views = views
        self.explained = explained
        self.batch_size = batch_size
        self._device = device
        self.precision = precision
        # The model as it was loaded is let go.
        self.bundle = replace(bundle, model=_prepare(bundle.model, device, precision, part="backbone"))
        self._logit_bias = torch.tensor(bundle.card.logit_bias or (0.0,), dtype=torch.float64)

    def cut(self, image: RgbImage, localization: Localization) -> Crop:
        """Cut a lesion out by the rule of the bundle's card."""
        rule = self.bundle.card.crop
        box = crop_box(image, localization.box, rule)
        pixels = cut_out(image, localization.mask, box, keep_background=rule.keep_background)
        return Crop(box, resize_square(pixels, self.bundle.card.input.size))

    def __call__(self, crops: Sequence[Crop], *, between: Callable[[], None] = lambda: None) -> list[Answer]:
        """Args: crops, as `cut` makes them; between, see `Pipeline.__call__`. Returns: one answer each."""
        answers: list[Answer] = []
        for group in self._groups(crops):
            answers += self._name(group)
            between()
        return answers

    def view_logits(self, crops: Sequence[Crop]) -> NDArray[np.float64]:
        """What the network says of each view before its calibration: logits, shape (V, N, classes)."""
        with torch.inference_mode():
            logits = [unstack(self.bundle.model.head(self._features(group)), self.views) for group in self._groups(crops)]
            return torch.cat(logits, dim=1).cpu().double().numpy()

    def _groups(self, crops: Sequence[Crop]) -> Iterator[list[Crop]]:
        """As many crops as the cap allows with all their views; at least one."""
        return batched(crops, max(1, self.batch_size // len(self.views)))

    @torch.inference_mode()
    def _name(self, crops: Sequence[Crop]) -> list[Answer]:
        features = self._features(crops)
        if self.explained is None:
            logits, maps = self.bundle.model.head(features), None
        else:
            explained = explain(self.bundle.model.head, features, self._explained_class)
            logits, maps = explained.logits, scale_to_unit(mean_maps(explained.maps, self.views)).cpu().numpy()
        return self._answers(unstack(self._probs(logits), self.views), maps)

    def _features(self, crops: Sequence[Crop]) -> Tensor:
        batch = images_to_batch([crop.pixels for crop in crops], self.bundle.card.input, self._device)
        stacked = stack_views(batch, self.views).contiguous(memory_format=torch.channels_last)
        with _turn(self._device, self.precision):
            return torch.cat([self.bundle.model.features(part) for part in torch.split(stacked, self.batch_size)]).float()

    def _probs(self, logits: Tensor) -> Tensor:
        scaled = logits.cpu().double() / self.bundle.card.temperature  # Apple's MPS has no float64
        return (scaled + self._logit_bias).softmax(1)

    def _explained_class(self, logits: Tensor) -> Tensor:
        chosen = mean_probs(unstack(self._probs(logits), self.views)).argmax(1)
        if self.explained != "predicted":
            chosen = torch.full_like(chosen, self.bundle.card.classes.index(str(self.explained)))
        return chosen.repeat(len(self.views)).to(logits.device)

    def _answers(self, probs: Tensor, maps: NDArray[np.float32] | None) -> list[Answer]:
        means, spreads = mean_probs(probs).numpy(), spread(probs).tolist()
        answers = []
        for index, mean in enumerate(means):
            predicted = self.bundle.card.classes[int(mean.argmax())]
            shown = predicted if self.explained == "predicted" else str(self.explained)
            heatmap = None if maps is None else Heatmap(maps[index], shown)
            answers.append(Answer(mean, spreads[index] if len(self.views) > 1 else None, heatmap))
        return answers


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
        sizes = [bundle.card.input.size for bundle in (locator.bundle, namer.bundle) if bundle is not None]
        self.least_side = OVERSAMPLING * max(sizes)

    def __call__(self, images: Sequence[RgbImage], *, between: Callable[[], None] = lambda: None) -> list[Finding]:
        """Find and name the lesions of a batch.

        Args:
            images: RGB uint8, each of any size; at least one.
            between: called between the steps; what it raises ends the work.

        Returns:
            One finding each.
        """
        localizations = self.locator(images)
        between()
        crops = [self.namer.cut(image, place) for image, place in zip(images, localizations, strict=True)]
        answers = self.namer(crops, between=between)
        return [self._finding(*parts) for parts in zip(localizations, crops, answers, strict=True)]

    def _finding(self, localization: Localization, crop: Crop, answer: Answer) -> Finding:
        card = self.namer.bundle.card
        probs = dict(zip(card.classes, map(float, answer.probs), strict=True))
        point = card.operating_point
        return Finding(
            localization=localization,
            crop_box=crop.box,
            crop=crop.pixels,
            probs=probs,
            malignant=card.malignant,
            flagged=None if point is None else probs[point.diagnosis] >= point.threshold,
            tta_spread=answer.tta_spread,
            heatmap=answer.heatmap,
        )


def _prepare(model: AnyModel, device: torch.device, precision: torch.dtype, *, part: str = "") -> AnyModel:
    """A copy of a model in the form that is quickest on a device; `part` names what runs without a graph, by default all."""
    folded = fold_batch_norm(model)
    if device.type == "cpu" and precision is torch.float32:
        pack_convolutions(folded.get_submodule(part))
    return folded.to(device)


@contextmanager
def _turn(device: torch.device, precision: torch.dtype) -> Iterator[None]:
    """Run a network in a precision; on an accelerator one at a time, while the other threads read and cut beside it."""
    lock = nullcontext() if device.type == "cpu" else _ACCELERATOR
    with lock, torch.autocast(device.type, precision, enabled=precision != torch.float32):
        yield
