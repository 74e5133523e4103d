"""Operating points of an ensemble, fitted to the mean probabilities of the validation images that its members share."""

from collections.abc import Sequence

import numpy as np

from segpipe.bundle.card import ClassifierCard
from segpipe.metrics.operating_points import OperatingPoint, fit_point, has_target


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
