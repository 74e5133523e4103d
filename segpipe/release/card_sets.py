"""Prediction sets of a card: fit for older cards, section of the model card."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from segpipe.bundle.card import ClassifierCard
from segpipe.data.duplicates import hash_id
from segpipe.evaluation.text import markdown_table, metric_text
from segpipe.metrics.conformal import ConformalSets, least_images, sets_of_validation


def with_prediction_sets(card: ClassifierCard, split: pd.DataFrame, *, coverage: float) -> ClassifierCard:
    """Add prediction sets to the card of an older version.

    Args:
        card: Card of a classifier; one with prediction sets, or without validation probabilities, is returned as it is.
        split: Split of its training: `image_id` and `lesion_id`, which the card did not keep.
        coverage: Coverage of the prediction sets, in (0, 1).
    """
    if card.conformal is not None or card.validation is None:
        return card
    lesion_of = {hash_id(image): hash_id(lesion) for image, lesion in zip(split["image_id"], split["lesion_id"], strict=True)}
    lesions = "".join(lesion_of.get(image, image) for image in card.validation.image_hashes)
    validation = replace(card.validation, lesions=lesions)
    sets = sets_of_validation(validation, classes=card.classes, coverage=coverage)
    return replace(card, validation=validation, conformal=sets)


def sets_text(sets: ConformalSets, measured: Mapping[str, Any]) -> str:
    """Write thresholds and measured coverage of prediction sets as Markdown.

    Args:
        sets: Prediction sets of a classifier.
        measured: Metrics on the test images by name, see `segpipe.metrics.prediction_sets.SetMetrics`; empty cells where missing.
    """
    rows = [
        [code, f"{sets.images[code]:,}", f"{1 - threshold:.4f}", _text(measured, f"coverage_{code}")]
        for code, threshold in sets.thresholds.items()
    ]
    rows.append(["mean over the classes", "", "", _text(measured, "macro_coverage")])
    header = ["", "validation lesions", "smallest probability in a set", "coverage on test"]
    size, single = (_text(measured, name) for name in ("set_size", "single_label"))
    of_sizes = f"\n\nMean number of diagnoses in a set on test: {size}; fraction of the sets with one diagnosis: {single}."
    return (
        f"The set of an image contains its diagnosis with a probability of at least {sets.coverage:g}, for each diagnosis. It "
        "holds the predicted diagnosis, and all others with at least the probability in the table. The thresholds were fitted to "
        f"one photograph of each validation lesion.{_rare(sets)}\n\n{markdown_table(header, rows)}{of_sizes if size else ''}"
    )


def _rare(sets: ConformalSets) -> str:
    if not sets.rare:
        return ""
    return (
        f" This coverage needs {least_images(sets.coverage)} lesions of a diagnosis. Those with fewer ({', '.join(sets.rare)}) "
        "have the threshold of the rarest diagnoses that together have enough, and the coverage holds for these together."
    )


def _text(metrics: Mapping[str, Any], name: str) -> str:
    return metric_text(metrics[name]) if name in metrics else ""
