"""From a batch of images to findings: the one way for a photograph, a folder, a test split and a web page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.bundle import SHIPPED, ClassifierBundle, SegmenterBundle, load_classifier, load_segmenter
from segpipe.errors import ConfigError
from segpipe.image_io import RgbImage
from segpipe.inference.finding import Finding, Heatmap
from segpipe.inference.gradcam import explain, scale_to_unit
from segpipe.inference.tta import View, mean_maps, mean_probs, spread, stack_views, unstack
from segpipe.lesion.crop import Box, crop_box, cut_out, resize_square
from segpipe.lesion.localizer import Localization, MaskSource, localize
from segpipe.models.preprocessing import images_to_batch


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
    """

    def __init__(self, bundle: SegmenterBundle | None, *, device: torch.device, start: MaskSource = MaskSource.UNET) -> None:
        self.bundle = bundle
        self._device = device
        self._start = start
        self._model = None if bundle is None else bundle.model.to(device)

    def __call__(self, images: Sequence[RgbImage]) -> list[Localization]:
        """Args: images, RGB uint8, each of any size. Returns: one localization each, in the coordinates of its image."""
        maps = self._mask_probs(images) if self._start is MaskSource.UNET else [None] * len(images)
        return [localize(image, mask_probs, start=self._start) for image, mask_probs in zip(images, maps, strict=True)]

    @torch.inference_mode()
    def _mask_probs(self, images: Sequence[RgbImage]) -> list[NDArray[np.float32]]:
        if self._model is None or self.bundle is None:
            raise ValueError("a segmenter must be given where the way begins at the U-Net, got None")
        logits = self._model(images_to_batch(images, self.bundle.card.input, self._device))
        return list(torch.sigmoid(logits.float())[:, 0].cpu().numpy())


class Namer:
    """Names the lesions of a batch of crops, over all views, and shows why.

    Args:
        bundle: of the classifier.
        device: where it runs.
        views: for test-time augmentation, the identity first.
        explained: code of the class to explain, `predicted` for the most probable one, None for no explanation.
        batch_size: cap on images x views that run through the backbone at once.

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
    ) -> None:
        classes = bundle.card.classes
        if explained not in (None, "predicted", *classes):
            raise ConfigError(f"explain.diagnosis must be one of {', '.join(classes)}, got {explained!r}")
        self.bundle = bundle
        self._device = device
        self._model = bundle.model.to(device)
        self._logit_bias = torch.tensor(bundle.card.logit_bias or (0.0,), dtype=torch.float64)
        self._views = views
        self._explained = explained
        self._batch_size = batch_size

    def cut(self, image: RgbImage, localization: Localization) -> Crop:
        """Cut a lesion out by the rule of the bundle's card."""
        rule = self.bundle.card.crop
        box = crop_box(image, localization.box, rule)
        pixels = cut_out(image, localization.mask, box, keep_background=rule.keep_background)
        return Crop(box, resize_square(pixels, self.bundle.card.input.size))

    @torch.inference_mode()
    def __call__(self, crops: Sequence[Crop]) -> list[Answer]:
        """Args: crops, as `cut` makes them. Returns: one answer each."""
        features = self._features(crops)
        if self._explained is None:
            logits, maps = self._model.head(features), None
        else:
            explained = explain(self._model.head, features, self._explained_class)
            logits, maps = explained.logits, scale_to_unit(mean_maps(explained.maps, self._views)).cpu().numpy()
        return self._answers(unstack(self._probs(logits), self._views), maps)

    @torch.inference_mode()
    def view_logits(self, crops: Sequence[Crop]) -> NDArray[np.float64]:
        """What the network says of each view before its calibration: logits, shape (V, N, classes)."""
        logits = unstack(self._model.head(self._features(crops)), self._views)
        return logits.cpu().double().numpy()

    def _features(self, crops: Sequence[Crop]) -> Tensor:
        batch = images_to_batch([crop.pixels for crop in crops], self.bundle.card.input, self._device)
        parts = torch.split(stack_views(batch, self._views), self._batch_size)
        return torch.cat([self._model.features(part) for part in parts])

    def _probs(self, logits: Tensor) -> Tensor:
        scaled = logits.cpu().double() / self.bundle.card.temperature  # Apple's MPS has no float64
        return (scaled + self._logit_bias).softmax(1)

    def _explained_class(self, logits: Tensor) -> Tensor:
        chosen = mean_probs(unstack(self._probs(logits), self._views)).argmax(1)
        if self._explained != "predicted":
            chosen = torch.full_like(chosen, self.bundle.card.classes.index(str(self._explained)))
        return chosen.repeat(len(self._views)).to(logits.device)

    def _answers(self, probs: Tensor, maps: NDArray[np.float32] | None) -> list[Answer]:
        means, spreads = mean_probs(probs).numpy(), spread(probs).tolist()
        answers = []
        for index, mean in enumerate(means):
            predicted = self.bundle.card.classes[int(mean.argmax())]
            shown = predicted if self._explained == "predicted" else str(self._explained)
            heatmap = None if maps is None else Heatmap(maps[index], shown)
            answers.append(Answer(mean, spreads[index] if len(self._views) > 1 else None, heatmap))
        return answers


class Pipeline:
    """Locates, cuts out and names the lesions of a batch of images.

    One image is a batch of one: the numbers do not depend on what else is in the batch.
    """

    def __init__(self, locator: Locator, namer: Namer) -> None:
        self.locator = locator
        self.namer = namer

    def __call__(self, images: Sequence[RgbImage]) -> list[Finding]:
        """Args: images, RGB uint8, each of any size; at least one. Returns: one finding each."""
        localizations = self.locator(images)
        crops = [self.namer.cut(image, place) for image, place in zip(images, localizations, strict=True)]
        answers = self.namer(crops)
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
            p_malignant=sum(probs[code] for code in card.malignant) if card.malignant else None,
            flagged=None if point is None else probs[point.diagnosis] >= point.threshold,
            tta_spread=answer.tta_spread,
            heatmap=answer.heatmap,
        )


def choose_device(name: str) -> torch.device:
    """The device of a name: `auto` (CUDA, then Apple's MPS, then the CPU), `cpu`, `cuda`, `cuda:N`, or `mps`.

    Raises:
        ConfigError: the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}") from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise ConfigError(f"device={name} is not there on this machine; device=auto takes what is")
    return device


def load_locator(segmenter: str | None, *, device: torch.device, start: MaskSource = MaskSource.UNET) -> Locator:
    """A locator with a segmenter bundle, by default the shipped one; none is loaded where `start` lies behind the U-Net.

    Raises:
        BundleError: the bundle cannot be used.
    """
    folder = SHIPPED / "segmenter" if segmenter is None else Path(segmenter)
    return Locator(load_segmenter(folder) if start is MaskSource.UNET else None, device=device, start=start)


def load_namer(
    classifier: str | None, *, device: torch.device, views: Sequence[View], explained: str | None, batch_size: int
) -> Namer:
    """A namer with a classifier bundle, by default the shipped one; the other arguments are those of `Namer`.

    Raises:
        BundleError: the bundle cannot be used.
    """
    bundle = load_classifier(SHIPPED / "classifier" if classifier is None else Path(classifier))
    return Namer(bundle, device=device, views=views, explained=explained, batch_size=batch_size)
