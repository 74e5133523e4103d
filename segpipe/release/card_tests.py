"""Sections of the model card with metrics and prediction sets.

Each table names its images; metrics on different images share no table.
"""

from collections.abc import Mapping
from typing import Any

from segpipe.bundle.card import ClassifierBundle, ClassifierCard, SegmenterBundle, SegmenterCard
from segpipe.bundle.card_file import StoredModel
from segpipe.evaluation.text import (
    MASK_METRICS,
    images_text,
    markdown_table,
    metric_text,
    results_table,
    same_images,
    short_hash,
    sources_text,
)
from segpipe.metrics.conformal import ConformalSets, least_images
from segpipe.metrics.trust import COLORS, TrustRules

Metrics = Mapping[str, Any]

# A model card needs no network.
SegmenterModel = SegmenterBundle | StoredModel[SegmenterCard]
ClassifierModel = ClassifierBundle | StoredModel[ClassifierCard]

UNTESTED = "The card of this {} has no test metrics; its performance is unknown."


def tests_text(segmenter: SegmenterModel, classifier: ClassifierModel) -> str:
    """Write the tests of a classifier and of a segmenter as Markdown."""
    sections = {
        "Classifier, end to end": _classifier_test(segmenter, classifier),
        "Segmenter": _segmenter_test(segmenter, classifier.card.metrics),
    }
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in sections.items())


def sets_text(sets: ConformalSets, measured: Mapping[str, Any]) -> str:
    """Write thresholds and measured coverage of prediction sets as Markdown.

    Args:
        sets: Prediction sets of a classifier.
        measured: Metrics on the test images by name, see `segpipe.metrics.conformal.SetMetrics`; empty cells where missing.
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
        f"The set of an image contains the true diagnosis with a probability of at least {sets.coverage:g}, for each diagnosis. "
        "It holds the predicted diagnosis, and all others with at least the probability in the table. The thresholds were fitted "
        f"to one photograph of each validation lesion.{_rare(sets)}\n\n{markdown_table(header, rows)}{of_sizes if size else ''}"
    )


def trust_text(rules: TrustRules) -> str:
    """Write the rules of trust and their test as Markdown.

    Args:
        rules: Rules of a classifier, with the metrics of each color on the test images.
    """
    limits = (
        f"A doubt is each of: spread over the views above {rules.max_spread:g}, more than {rules.max_set_size} diagnosis in the "
        f"prediction set, less than {rules.min_in_lesion:g} of the heatmap in the lesion, less than {rules.min_agreeing:g} of "
        "the similar cases with the diagnosis, an outline from the contour, a photograph of the training data. A finding is red "
        f"from {rules.red_from} doubts, or where the input gate rejects the image or no lesion was found; green without doubts."
    )
    return f"{limits}\n\n{trust_table(rules)}" if rules.test else limits


def trust_table(rules: TrustRules) -> str:
    """Write the metrics of each color on the test images as Markdown."""
    columns = {"fraction of the images": "fraction", "accuracy": "accuracy", "melanomas found": "sensitivity_mel"}
    rows = [[color, *(_text(rules.test, f"{name}_{color}") for name in columns.values())] for color in COLORS]
    return markdown_table(["", *columns], rows)


def _classifier_test(segmenter: SegmenterModel, classifier: ClassifierModel) -> str:
    metrics = classifier.card.metrics
    if "metrics" not in metrics:
        return UNTESTED.format("classifier")
    conditions = [*_pipeline_texts(metrics.get("pipeline") or {}, segmenter, classifier), *_mask_sources(metrics)]
    texts = [f"On {images_text(metrics)}, end to end: {'; '.join(conditions)}. {_intervals(metrics)}"]
    localizer = metrics.get("localizer")
    if localizer is None or same_images(localizer, metrics):
        together = {"classification": metrics} | ({} if localizer is None else {"segmentation": localizer})
        return "\n\n".join([*texts, results_table({"test": together})])
    texts += [
        results_table({"test": {"classification": metrics}}),
        f"The masks of that run were scored on {images_text(localizer)}:",
    ]
    return "\n\n".join([*texts, results_table({"test": {"segmentation": localizer}})])


def _pipeline_texts(pipeline: Metrics, segmenter: SegmenterModel, classifier: ClassifierModel) -> list[str]:
    """Describe the models and settings of a test, if they were recorded."""
    if not pipeline:
        return ["the segmenter that cut the crops was not recorded"]
    cut_by, views = pipeline["segmenter"], pipeline["views"]
    if cut_by is None:
        crops = f"crops by {pipeline['localize']}, without a segmenter"
    elif cut_by == segmenter.sha256:
        crops = "crops by the segmenter above"
    else:
        crops = f"**crops by another segmenter** (SHA-256 `{short_hash(cut_by)}`) than the one above"
    same_weights = pipeline["classifier"] == classifier.sha256
    weights = "the same weights as above" if same_weights else "**other weights than those above** (the file was changed)"
    return [crops, "one view" if views == 1 else f"{views} views averaged", weights]


def _mask_sources(metrics: Metrics) -> list[str]:
    sources = metrics.get("mask_sources")
    return [f"masks from {sources_text(sources)}"] if sources else []


def _segmenter_test(segmenter: SegmenterModel, of_classifier: Metrics) -> str:
    localizer = segmenter.card.metrics
    if "metrics" not in localizer:
        return UNTESTED.format("segmenter")
    if same_images(localizer, of_classifier):
        relation = "the same images as in the test of the classifier"
    elif localizer.get("test_set") and of_classifier.get("test_set"):
        relation = "**other images than in the test of the classifier**"
    else:
        relation = "it was not recorded whether they are those of the test of the classifier"
    alone, mask_sources = localizer.get("segmenter_alone"), "".join(f" ({text})" for text in _mask_sources(localizer))
    texts = [
        f"On {images_text(localizer)}; {relation}. {_alone_text(alone)} The localizer, end to end, uses the contour or the whole "
        f"image where the segmenter's mask is not plausible{mask_sources}. {_intervals(localizer)}"
    ]
    columns = ({} if alone is None else {"segmenter alone": alone}) | {"localizer, end to end": localizer}
    return "\n\n".join([*texts, _masks_table(columns)])


def _alone_text(alone: Metrics | None) -> str:
    if alone is None:
        return "The segmenter alone was not scored."
    return "The segmenter alone is scored on its own masks at probability 0.5, without checks or fallback."


def _masks_table(columns: Mapping[str, Metrics]) -> str:
    rows = [
        [title, *(metric_text(metrics["metrics"][name]) if name in metrics["metrics"] else "" for metrics in columns.values())]
        for name, title in MASK_METRICS.items()
    ]
    return markdown_table(["", *columns], rows)


def _intervals(metrics: Metrics) -> str:
    return f"Intervals are 95 % bootstrap intervals over {metrics['intervals_over']}s." if "intervals_over" in metrics else ""


def _rare(sets: ConformalSets) -> str:
    if not sets.rare:
        return ""
    return (
        f" This coverage needs {least_images(sets.coverage)} lesions of a diagnosis. Those with fewer ({', '.join(sets.rare)}) "
        "have the threshold of the rarest diagnoses that together have enough, and the coverage holds for these together."
    )


def _text(metrics: Mapping[str, Any], name: str) -> str:
    return metric_text(metrics[name]) if name in metrics else ""
