"""Test of a classifier on crops by true or predicted masks."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.evaluation.changes import measure_changes
from segpipe.evaluation.run import Run, read_run, result_path
from segpipe.evaluation.truth import dataset_truth
from segpipe.inference.networks import ClassifierNetwork, batched
from segpipe.inference.stages import Classifier
from segpipe.inference.tta import View
from segpipe.io.files import display_path
from segpipe.io.images import read_image, read_mask
from segpipe.io.passes import follow
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.metrics.calibration import Calibration
from segpipe.metrics.classification import LabeledPredictions, score_predictions
from segpipe.types import FloatArray, Labels, RgbImage, mask_box

# Function of rows of a table and their images to the localization of each.
Localize = Callable[[Sequence[Mapping[Any, Any]], Sequence[RgbImage]], Sequence[Localization]]

METRICS = ("accuracy", "balanced_accuracy", "sensitivity_mel", "macro_auroc", "ece")
_BATCH_SIZE = 8


def true_localizations(rows: Sequence[Mapping[Any, Any]], images: Sequence[RgbImage]) -> list[Localization]:
    """Localize the lesions of images by their true masks.

    Args:
        rows: Rows with `mask_path`, one for each image.
        images: RGB uint8, each of any size.
    """
    masks = [read_mask(Path(row["mask_path"])) for row in rows]
    return [Localization(mask, mask_box(mask), MaskSource.UNET, ()) for mask in masks]


def predict_logits(
    localize: Localize, network: ClassifierNetwork, table: pd.DataFrame, *, views: Sequence[View], batch_size: int, what: str
) -> FloatArray:
    """Compute the uncalibrated logits of each view, shape (V, N, C).

    Args:
        localize: Source of the masks that the crops are cut by.
        network: Network of the classifier.
        table: Rows with `image_path`.
        views: Views for test-time augmentation.
        batch_size: Largest number of images x views in a batch.
        what: Name of the work, shown with its progress.
    """
    classifier = Classifier(network, views=views, batch_size=batch_size)
    logits = []
    for rows in batched(follow(table.to_dict("records"), len(table), what), _BATCH_SIZE):
        images = [read_image(Path(row["image_path"])) for row in rows]
        crops = [classifier.cut(*pair) for pair in zip(images, localize(rows, images), strict=True)]
        logits.append(classifier.view_logits(crops))
    return np.concatenate(logits, axis=1)


def predict_probs(localize: Localize, network: ClassifierNetwork, table: pd.DataFrame, **options: Any) -> FloatArray:
    """Compute the calibrated probabilities of images, shape (N, C).

    Args:
        localize: Source of the masks that the crops are cut by.
        network: Network of the calibrated classifier.
        table: Rows with `image_path`.
        **options: Further arguments of `predict_logits`.
    """
    calibration = Calibration(network.card.temperature, network.card.logit_bias)
    return calibration.probs(predict_logits(localize, network, table, **options))


def label_indices(table: pd.DataFrame, classes: Sequence[str]) -> Labels:
    """Return the class index of each row by its `dx`, shape (N,)."""
    return np.array([classes.index(code) for code in table["dx"]])


def probs_of_run(run: Run, table: pd.DataFrame) -> FloatArray:
    """Select the probabilities of images from the results of their run.

    Args:
        run: Results of `segpipe.evaluation.held_out.score_classifier`.
        table: Rows with `image_id` and `image_path`, all of them among the images of the run.

    Returns:
        Float64, shape (N, C).
    """
    paths = [display_path(result_path(row)) for row in table.to_dict("records")]
    columns = [f"p_{code}" for code in run.codes]
    probs: FloatArray = run.results.set_index("path").loc[paths, columns].to_numpy(dtype=np.float64)
    return probs


def compare_probs(probs: Mapping[str, FloatArray], table: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Compare two predictions for the same images.

    Args:
        probs: Probabilities of the first and of the second prediction, shape (N, C), by its name.
        table: Rows with `image_id`, `lesion_id` and `dx`, N of them.
        classes: Codes of the C classes.

    Returns:
        `images`, `intervals_over`, and `metrics`, see `segpipe.evaluation.changes.measure_changes`.
    """
    labels, image_ids = label_indices(table, classes), list(table["image_id"])
    truth = dataset_truth(table)
    metrics = {name: partial(score_predictions, LabeledPredictions(values, labels, classes)) for name, values in probs.items()}
    return {
        "images": len(table),
        "intervals_over": truth.interval_unit(image_ids),
        "metrics": measure_changes(metrics, METRICS, truth.lesions_of(image_ids)),
    }


def measure_segmenter_part(
    network: ClassifierNetwork, table: pd.DataFrame, output: Path, *, views: Sequence[View], batch_size: int
) -> dict[str, Any] | None:
    """Measure the segmenter's part in the test metrics of a classifier.

    The crops by true masks show the classifier alone, those by the segmenter's masks both together.

    Args:
        network: Network of the calibrated classifier.
        table: Test images.
        output: Folder of their results, see `segpipe.evaluation.held_out.score_classifier`.
        views: Views for test-time augmentation.
        batch_size: Largest number of images x views in a batch.

    Returns:
        Comparison of `true_masks` and `end_to_end`, see `compare_probs`; None without true masks.
    """
    masked = table[table["mask_path"].notna()]
    if masked.empty:
        return None
    options: dict[str, Any] = {"views": views, "batch_size": batch_size, "what": "crops by true masks"}
    by_true_masks = predict_probs(true_localizations, network, masked, **options)
    probs = {"true_masks": by_true_masks, "end_to_end": probs_of_run(read_run(output), masked)}
    return compare_probs(probs, masked, network.card.classes)
