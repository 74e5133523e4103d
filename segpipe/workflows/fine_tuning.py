"""Comparisons on the test part: true and predicted masks, start and result."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from torch import nn

from segpipe.bundle.card import Card, ClassifierCard, SegmenterCard
from segpipe.bundle.saving import bundle_classifier, bundle_segmenter
from segpipe.config.schemas import TrainClsConfig
from segpipe.evaluation.changes import changes_table, measure_changes
from segpipe.evaluation.crop_sources import (
    compare_probs,
    label_indices,
    measure_segmenter_part,
    predict_logits,
    predict_probs,
    probs_of_run,
)
from segpipe.evaluation.run import read_run
from segpipe.evaluation.score import Metrics, write_metrics
from segpipe.evaluation.truth import dataset_truth
from segpipe.inference.networks import ClassifierNetwork
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS
from segpipe.io.files import read_json
from segpipe.io.run_files import EPOCH_TABLE, MASK_TABLE, METRICS, TEST
from segpipe.metrics.calibration import fit_calibration
from segpipe.metrics.segmentation import score_masks
from segpipe.models.classifier import LesionClassifier
from segpipe.training.fine_tuning import LEVEL, read_best_weights
from segpipe.types import FloatArray

AnyModel = TypeVar("AnyModel", bound=nn.Module)
Value = TypeVar("Value")
Measure = Callable[[Localizer, pd.DataFrame], tuple[FloatArray, Any, Any]]

START, TUNED = "start", "fine_tuned"
PART, CHANGES = "segmenter_part", "fine_tuning"  # keys of `metrics.json`
_MASK_METRICS = ("dice", "jaccard", "thresholded_jaccard")


def compare_segmenters(card: SegmenterCard, start: nn.Module, table: pd.DataFrame, output: Path, *, measure: Measure) -> Metrics:
    """Compare start and result of a fine-tuning on the test images.

    Args:
        card: Card of the model that was kept, whose test is in `output`.
        start: Model with its starting weights.
        table: Test images, each with a mask.
        output: Folder of the training; its `metrics.json` is completed.
        measure: Function of a localizer and the images to the overlaps of its segmenter, shape (N, 2), and further values.

    Returns:
        Additions to `metrics.json`; empty where the training is no fine-tuning.
    """
    if not card.training.start:
        return {}
    image_ids, truth = list(table["image_id"]), dataset_truth(table)
    network = TorchSegmenter(bundle_segmenter(_other_model(card, start, output), card))
    other, *_ = measure(Localizer(network), table)
    kept = pd.read_csv(output / TEST / MASK_TABLE)[["dice", "jaccard"]].to_numpy()
    metrics = {name: partial(score_masks, *overlaps.T) for name, overlaps in _in_order(card, kept, other).items()}
    changes = {
        "images": len(table),
        "intervals_over": truth.interval_unit(image_ids),
        "metrics": measure_changes(metrics, _MASK_METRICS, truth.lesions_of(image_ids)),
    }
    return _add(output, {CHANGES: {"kept": _kept(card), **changes}})


def compare_classifiers(
    config: TrainClsConfig,
    network: ClassifierNetwork,
    start: LesionClassifier,
    parts: Mapping[str, pd.DataFrame],
    output: Path,
    *,
    segmenter: Localizer,
) -> Metrics:
    """Compare true masks with the segmenter's, and start with result.

    Args:
        config: Configuration of the training.
        network: Network that was kept, whose test is in `output`.
        start: Model with its starting weights.
        parts: Images of each part.
        output: Folder of the training; its `metrics.json` is completed.
        segmenter: Segmenter that cuts the crops.

    Returns:
        Additions to `metrics.json`.
    """
    card, table = network.card, parts["test"]
    options: dict[str, Any] = {"views": VIEWS[config.tta.views], "batch_size": config.batch_size}
    part = measure_segmenter_part(network, table, output / TEST, **options)
    added = {} if part is None else {PART: part}
    if card.training.start:
        other = _calibrate(config, card, _other_model(card, start, output), parts, segmenter=segmenter, **options)
        probs = predict_probs(lambda _, images: segmenter(images), other, table, what="start and fine-tuned", **options)
        both = _in_order(card, probs_of_run(read_run(output / TEST), table), probs)
        added[CHANGES] = {"kept": _kept(card), **compare_probs(both, table, card.classes)}
    return _add(output, added)


def _calibrate(
    config: TrainClsConfig,
    card: ClassifierCard,
    model: LesionClassifier,
    parts: Mapping[str, pd.DataFrame],
    *,
    segmenter: Localizer,
    **options: Any,
) -> TorchClassifier:
    """Calibrate the model that was not kept as the other was."""
    network, val = TorchClassifier(bundle_classifier(model, card)), parts["val"]
    logits = predict_logits(lambda _, images: segmenter(images), network, val, what="calibration", **options)
    counts = parts["train"]["dx"].value_counts().reindex(card.classes, fill_value=0).to_list()
    fit = fit_calibration(config.calibration, logits, label_indices(val, card.classes), counts=counts)
    calibrated = replace(card, temperature=fit.temperature, logit_bias=fit.logit_bias)
    return TorchClassifier(bundle_classifier(model, calibrated))


def comparison_lines(metrics: Metrics, card: Card, output: Path, *, monitor: str) -> Iterator[str]:
    """Write the comparisons of a test as tables.

    Args:
        metrics: Content of `metrics.json`.
        card: Card of the model that was kept.
        output: Folder of the training.
        monitor: Metric that chose the best epoch.
    """
    if PART in metrics:
        yield f"\nclassifier alone (crops by true masks) and with the segmenter\n{changes_table(metrics[PART])}"
    if CHANGES in metrics:
        best = card.training.best_epoch
        trained = float(pd.read_csv(output / EPOCH_TABLE, index_col="epoch")[monitor].loc[best])
        scores = f"{monitor} {trained:.4f} after epoch {best}, {card.training.start['scores'][monitor]:.4f} before"
        yield f"\nfine-tuning\n{changes_table(metrics[CHANGES])}\n{_reason(card.training.start)}: {scores}\n"


def _reason(start: Mapping[str, Any]) -> str:
    """Explain which weights were kept, from the record of the start."""
    if not start["kept"]:
        return "the fine-tuned weights are kept, because they are better on the validation images"
    if start["p_value"] is None:
        return "the start is kept, because no epoch is better on the validation images"
    return (
        f"the start is kept, because the validation images are too few to tell a gain from noise (p {start['p_value']:.2f}, "
        f"below {LEVEL:g} is needed)"
    )


def _other_model(card: Card, start: AnyModel, output: Path) -> AnyModel:
    """Return the model that was not kept."""
    if not card.training.start["kept"]:
        return start
    tuned = copy.deepcopy(start)
    tuned.load_state_dict(read_best_weights(output))
    return tuned


def _in_order(card: Card, kept: Value, other: Value) -> dict[str, Value]:
    first, second = (kept, other) if card.training.start["kept"] else (other, kept)
    return {START: first, TUNED: second}


def _kept(card: Card) -> str:
    return START if card.training.start["kept"] else TUNED


def _add(output: Path, added: Metrics) -> Metrics:
    """Add parts to the `metrics.json` of a test."""
    path = output / TEST / METRICS
    write_metrics(path, read_json(path) | added)
    return added
