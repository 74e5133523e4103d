"""From crops to answers: the mean of what one or more classifiers say over all views, and why."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.folder import ClassifierBundle
from segpipe.errors import ConfigError
from segpipe.inference.classifier import Classifier, Crops, ViewPredictions, group_crops
from segpipe.inference.heatmap import ClassMap, mean_heatmap
from segpipe.inference.tta import IDENTITY, View, mean_probs, spread
from segpipe.lesion.localizer import Localization
from segpipe.metrics.operating_points import OperatingPoint, fit_point, has_target
from segpipe.types import RgbImage


def ensemble_points(cards: Sequence[ClassifierCard]) -> tuple[OperatingPoint, ...]:
    """Return the operating points of one or more classifiers whose probabilities are averaged.

    The points of a single classifier are those of its card, which were fitted to its probabilities. The mean of several has other
    probabilities: for each target that all members have a point for, a threshold is fitted to the mean on the validation images,
    at the highest target sensitivity of the members.

    Args:
        cards: of classifiers with the same classes, at least one.

    Returns:
        The points; none where the members do not share one split and its validation images, or a card does not keep the
        probabilities of these.
    """
    first = cards[0]
    if len(cards) == 1:
        return first.operating_points
    known = [card.validation for card in cards if card.validation is not None]
    images = {(card.training.split_hash, probs.images, probs.labels) for card, probs in zip(cards, known, strict=False)}
    if len(known) < len(cards) or len(images) > 1:
        return ()
    labels = known[0].unpack()[0]
    mean = np.mean([probs.unpack()[1] for probs in known], axis=0)
    return tuple(
        fit_point(point.target, sensitivity, mean, labels, classes=first.classes, malignant=first.malignant)
        for point in first.operating_points
        if (sensitivity := _shared_sensitivity(point.target, cards)) is not None
        and has_target(point.target, labels, classes=first.classes, malignant=first.malignant)
    )


def _shared_sensitivity(target: str, cards: Sequence[ClassifierCard]) -> float | None:
    """Highest target sensitivity of the members; None where a member has no such point, or one that was chosen otherwise."""
    found = [point.target_sensitivity for card in cards for point in card.operating_points if point.target == target]
    known = [sensitivity for sensitivity in found if sensitivity is not None]
    return max(known) if len(known) == len(cards) else None


Seen = tuple[Crops, ...]  # what each classifier sees of one image, in the order of the bundles


@dataclass(frozen=True)
class Prediction:
    """What the classifiers say of one image, over all views.

    Attributes:
        probs: calibrated, float64, shape (classes,), sums to 1.
        tta_spread: None with a single view.
        class_map: in the frame of the first crop of the first classifier; None where no explanation was asked for.
    """

    probs: NDArray[np.float64]
    tta_spread: float | None
    class_map: ClassMap | None


class ClassifierEnsemble:
    """Names the lesions of a batch of images, and shows why; the probabilities of several classifiers are averaged.

    Args:
        bundles: of the classifiers, at least one; all have the same classes, see `segpipe.inference.loading.load_classifiers`.
        device: where they run.
        views: for test-time augmentation, the identity first.
        explained: code of the class to explain, `predicted` for the most probable one, None for no explanation.
        batch_size: cap on images x views that run through a backbone at once.
        precision: that the backbones compute in; the heads take float32.

    Attributes:
        bundles: with their models as they run.
        classes: codes in the order of the probabilities.
        malignant: codes of the malignant classes; empty where it is not known.
        operating_points: of the card, or of the mean of several classifiers; empty where none are known.

    Raises:
        ConfigError: `explained` is not a class of the bundles.
    """

    def __init__(
        self,
        bundles: Sequence[ClassifierBundle],
        *,
        device: torch.device,
        views: Sequence[View],
        explained: str | None,
        batch_size: int,
        precision: torch.dtype = torch.float32,
    ) -> None:
        card = bundles[0].card
        if explained not in (None, "predicted", *card.classes):
            raise ConfigError(f"explain.diagnosis must be one of {', '.join(card.classes)}, got {explained!r}; or leave it out")
        self.views = views
        self.explained = explained
        self.batch_size = batch_size
        self.precision = precision
        self._classifiers = [
            Classifier(bundle, device=device, views=views, batch_size=batch_size, precision=precision) for bundle in bundles
        ]
        self.bundles = tuple(classifier.bundle for classifier in self._classifiers)
        self.classes = card.classes
        self.malignant = card.malignant
        self.operating_points = ensemble_points([bundle.card for bundle in bundles])

    def in_one_view(self) -> "ClassifierEnsemble":
        """The same classifiers over the crop as it is, without an explanation; the networks are shared."""
        single = copy(self)
        single.views, single.explained = (IDENTITY,), None
        single._classifiers = [classifier.with_views(single.views) for classifier in self._classifiers]
        return single

    def cut(self, image: RgbImage, localization: Localization) -> Seen:
        """Cut a lesion out for each classifier, by the rule of its own card."""
        return tuple(classifier.cut(image, localization) for classifier in self._classifiers)

    def __call__(self, crops: Sequence[Seen], *, between: Callable[[], None] = lambda: None) -> list[Prediction]:
        """Args: crops of each image, as `cut` makes them; between, see `Pipeline.__call__`. Returns: one answer each."""
        answers: list[Prediction] = []
        for group in group_crops(crops, self.views, self.batch_size):
            answers += self._name(group)
            between()
        return answers

    @torch.inference_mode()
    def explain(self, crops: Sequence[Seen], classes: Sequence[int]) -> list[ClassMap]:
        """Explain a given class of each image.

        Args:
            crops: Crops of each image, as `cut` makes them.
            classes: Index of the class to explain for each image.

        Returns:
            One heatmap each, over all views.
        """
        chosen, heatmaps = iter(classes), list[ClassMap]()
        for group in group_crops(crops, self.views, self.batch_size):
            heatmaps += self._class_maps(self._opinions(group), group, torch.tensor([next(chosen) for _ in group]))
        return heatmaps

    def _opinions(self, crops: Sequence[Seen]) -> list[ViewPredictions]:
        return [classifier(seen) for classifier, seen in zip(self._classifiers, zip(*crops, strict=True), strict=True)]

    @torch.inference_mode()
    def _name(self, crops: Sequence[Seen]) -> list[Prediction]:
        view_predictions = self._opinions(crops)
        # All classifiers see the same views, so each view has its own mean.
        of_views = torch.stack([view_predictions.probs for view_predictions in view_predictions]).mean(0)
        probs = mean_probs(of_views)
        spreads = spread(of_views).tolist() if len(self.views) > 1 else [None] * len(crops)
        maps = [None] * len(crops) if self.explained is None else self._class_maps(view_predictions, crops, self._chosen(probs))
        return [Prediction(*parts) for parts in zip(probs.numpy(), spreads, maps, strict=True)]

    def _chosen(self, probs: Tensor) -> Tensor:
        """Index of the class to explain for each image."""
        predicted = probs.argmax(1)
        if self.explained == "predicted":
            return predicted
        return torch.full_like(predicted, self.classes.index(str(self.explained)))

    def _class_maps(self, view_predictions: Sequence[ViewPredictions], crops: Sequence[Seen], chosen: Tensor) -> list[ClassMap]:
        """Why the answer is as it is: all classifiers explain the same class of an image."""
        maps = zip(*(view_predictions.heatmaps(chosen) for view_predictions in view_predictions), strict=True)
        return [
            ClassMap(mean_heatmap(of_image, [own.frame for own, *_ in seen]), self.classes[index], seen[0][0].border)
            for of_image, seen, index in zip(maps, crops, chosen.tolist(), strict=True)
        ]
