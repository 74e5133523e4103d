"""Classifier ensembles: averaged probabilities, heatmaps, operating points and prediction sets."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segpipe.bundle.card import ClassifierCard
from segpipe.errors import ConfigError
from segpipe.inference.heatmap import ClassMap, mean_heatmap
from segpipe.inference.networks import ClassifierNetwork, Float32Array
from segpipe.inference.stages import Classifier, Crops, ViewPredictions, group_crops
from segpipe.inference.tta import IDENTITY, View, mean_probs, spread
from segpipe.lesion.localization import Localization
from segpipe.metrics.conformal import ConformalSets, fit_sets
from segpipe.metrics.operating_points import OperatingPoint, ValidationProbs, fit_point, has_target
from segpipe.metrics.trust import DEFAULT_RULES
from segpipe.types import FloatArray, RgbImage

EnsembleCrops = tuple[Crops, ...]  # crops of one image for each classifier, in the order of the bundles


@dataclass(frozen=True)
class Prediction:
    """Prediction of an ensemble for one image, averaged over classifiers and views.

    Attributes:
        probs: Calibrated probabilities, float64, shape (classes,), which sum to 1.
        tta_spread: Disagreement of the views, see `segpipe.inference.tta.spread`; None with a single view.
        class_map: Heatmap in the frame of the first crop of the first classifier; None without an explanation.
        features: Pooled features of the first classifier, of the first view of its first crop, shape (C,).
    """

    probs: FloatArray
    tta_spread: float | None
    class_map: ClassMap | None
    features: Float32Array


class ClassifierEnsemble:
    """One or more classifiers whose probabilities are averaged.

    Args:
        networks: Networks of the classifiers, at least one, with the same classes, see
            `segpipe.inference.runtimes.Runtime.load_classifiers`.
        views: Views for test-time augmentation, the identity first.
        explained: Code of the class to explain, `predicted` for the most probable one, None for no explanation.
        batch_size: Largest number of images x views in one pass through a backbone.
        coverage: Coverage of the prediction sets, see `ensemble_sets`.

    Attributes:
        classes: Codes in the order of the probabilities.
        malignant: Codes of the malignant classes; empty where they are not known.
        operating_points: Operating points of the card, or of the averaged probabilities; empty where none are known.
        conformal: Prediction sets of the card, or of the averaged probabilities; None where none are known.
        rules: Rules of trust of the first card, or the default ones.

    Raises:
        ConfigError: `explained` is not a class of the networks, or their cards cannot give prediction sets of this coverage.
    """

    def __init__(
        self,
        networks: Sequence[ClassifierNetwork],
        *,
        views: Sequence[View],
        explained: str | None,
        batch_size: int,
        coverage: float | None = None,
    ) -> None:
        card = networks[0].card
        if explained not in (None, "predicted", *card.classes):
            raise ConfigError(f"explain.diagnosis must be one of {', '.join(card.classes)}, got {explained!r}; or leave it out")
        self.networks = tuple(networks)
        self.views = views
        self.explained = explained
        self.batch_size = batch_size
        self._classifiers = [Classifier(network, views=views, batch_size=batch_size) for network in networks]
        self.classes = card.classes
        self.malignant = card.malignant
        cards = [network.card for network in networks]
        self.operating_points = ensemble_points(cards)
        self.conformal = ensemble_sets(cards, coverage)
        self.rules = card.trust or DEFAULT_RULES

    def in_one_view(self) -> "ClassifierEnsemble":
        """Return a copy without augmentation and explanation that shares the networks."""
        single = copy(self)
        single.views, single.explained = (IDENTITY,), None
        single._classifiers = [classifier.with_views(single.views) for classifier in self._classifiers]
        return single

    def cut(self, image: RgbImage, localization: Localization) -> EnsembleCrops:
        """Crop the lesion for each classifier by its own rule."""
        return tuple(classifier.cut(image, localization) for classifier in self._classifiers)

    def __call__(self, crops: Sequence[EnsembleCrops], *, on_step: Callable[[], None] = lambda: None) -> list[Prediction]:
        """Classify images, and explain the predictions where that is set.

        Args:
            crops: Crops of each image, from `cut`.
            on_step: Callback after each batch; an exception that it raises ends the work.

        Returns:
            One prediction per image.

        Raises:
            PredictionError: A network returned a number that is not finite.
        """
        predictions: list[Prediction] = []
        for group in group_crops(crops, self.views, self.batch_size):
            predictions += self._predict(group)
            on_step()
        return predictions

    def explain(self, crops: Sequence[EnsembleCrops], classes: Sequence[int]) -> list[ClassMap]:
        """Explain a given class of each image.

        Args:
            crops: Crops of each image, from `cut`.
            classes: Index of the class to explain for each image.

        Returns:
            One heatmap per image, over all views.
        """
        chosen, class_maps = iter(classes), list[ClassMap]()
        for group in group_crops(crops, self.views, self.batch_size):
            class_maps += self._class_maps(self._view_predictions(group), group, np.array([next(chosen) for _ in group]))
        return class_maps

    def _predict(self, crops: Sequence[EnsembleCrops]) -> list[Prediction]:
        members = self._view_predictions(crops)
        # All classifiers see the same views, so each view has its own mean.
        view_probs = np.mean([member.probs for member in members], axis=0)
        probs = mean_probs(view_probs)
        spreads = spread(view_probs).tolist() if len(self.views) > 1 else [None] * len(crops)
        class_maps = [None] * len(crops) if self.explained is None else self._class_maps(members, crops, self._explained(probs))
        return [Prediction(*parts) for parts in zip(probs, spreads, class_maps, members[0].features, strict=True)]

    def _view_predictions(self, crops: Sequence[EnsembleCrops]) -> list[ViewPredictions]:
        return [classifier(own) for classifier, own in zip(self._classifiers, zip(*crops, strict=True), strict=True)]

    def _explained(self, probs: FloatArray) -> NDArray[np.int64]:
        """Return the index of the class to explain for each image."""
        predicted: NDArray[np.int64] = probs.argmax(1)
        if self.explained == "predicted":
            return predicted
        return np.full_like(predicted, self.classes.index(str(self.explained)))

    def _class_maps(
        self, members: Sequence[ViewPredictions], crops: Sequence[EnsembleCrops], indices: NDArray[np.int64]
    ) -> list[ClassMap]:
        """Average the heatmaps of all classifiers for one class per image."""
        heatmaps = zip(*(member.heatmaps(indices) for member in members), strict=True)
        return [
            ClassMap(mean_heatmap(maps, [own.frame for own, *_ in image_crops]), self.classes[index], image_crops[0][0].border)
            for maps, image_crops, index in zip(heatmaps, crops, indices.tolist(), strict=True)
        ]


def ensemble_points(cards: Sequence[ClassifierCard]) -> tuple[OperatingPoint, ...]:
    """Determine the operating points of averaged classifiers.

    The points of a single classifier are those of its card, which were fitted to its probabilities. The mean of several has other
    probabilities: for each target that all members have a point for, a threshold is fitted to the mean on the validation images,
    at the highest target sensitivity of the members.

    Args:
        cards: Cards of classifiers with the same classes, at least one.

    Returns:
        The points; none where the members do not share one split and its validation images, or a card does not keep the
        probabilities of these.
    """
    first = cards[0]
    if len(cards) == 1:
        return first.operating_points
    known = _shared_validation(cards)
    if not known:
        return ()
    labels, mean = known[0].unpack()[0], _mean(known)
    return tuple(
        fit_point(point.target, sensitivity, mean, labels, classes=first.classes, malignant=first.malignant)
        for point in first.operating_points
        if (sensitivity := _shared_sensitivity(point.target, cards)) is not None
        and has_target(point.target, labels, classes=first.classes, malignant=first.malignant)
    )


def ensemble_sets(cards: Sequence[ClassifierCard], coverage: float | None = None) -> ConformalSets | None:
    """Determine the prediction sets of averaged classifiers.

    The sets of a single classifier are those of its card. The mean of several has other probabilities, and so has another
    coverage other thresholds: these are fitted to the validation images on the cards.

    Args:
        cards: Cards of classifiers with the same classes, at least one.
        coverage: Coverage of the sets, in (0, 1); None for that of the card, the highest one where there are several.

    Returns:
        The sets; None without a coverage where a card has no sets, or the members do not share their validation images.

    Raises:
        ConfigError: The cards cannot give sets of the coverage.
    """
    known = _shared_validation(cards)
    lesions = next((probs.lesion_hashes for probs in known if probs.lesions), [])
    if coverage is None:
        own = [card.conformal.coverage for card in cards if card.conformal is not None]
        if len(cards) == 1 or len(own) < len(cards) or not lesions:
            return cards[0].conformal if len(cards) == 1 else None
        coverage = max(own)
    if not lesions:
        raise ConfigError(
            f"conformal.coverage={coverage} needs classifiers whose cards hold the probabilities and lesions of the same "
            "validation images; leave it out, or train or export the classifiers with this version of segpipe"
        )
    return fit_sets(_mean(known), known[0].unpack()[0], lesions, classes=cards[0].classes, coverage=coverage)


def _shared_validation(cards: Sequence[ClassifierCard]) -> list[ValidationProbs]:
    """List the validation probabilities of all cards, none without shared images."""
    known = [card.validation for card in cards if card.validation is not None]
    images = {(card.training.split_hash, probs.images, probs.labels) for card, probs in zip(cards, known, strict=False)}
    return known if len(known) == len(cards) and len(images) == 1 else []


def _mean(members: Sequence[ValidationProbs]) -> FloatArray:
    mean: FloatArray = np.mean([probs.unpack()[1] for probs in members], axis=0)
    return mean


def _shared_sensitivity(target: str, cards: Sequence[ClassifierCard]) -> float | None:
    """Return the highest target sensitivity; None where a member has none."""
    found = [point.target_sensitivity for card in cards for point in card.operating_points if point.target == target]
    known = [sensitivity for sensitivity in found if sensitivity is not None]
    return max(known) if len(known) == len(cards) else None
