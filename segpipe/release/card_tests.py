"""The tests that two cards hold, as Markdown: each with the images that it is of; metrics of different images share no table."""

from collections.abc import Mapping
from typing import Any

from segpipe.bundle.folder import ClassifierBundle, SegmenterBundle
from segpipe.evaluation.headline import images_text, same_images, short_hash, sources_text
from segpipe.evaluation.table import OF_MASKS, figure_text, markdown_table, results_table

Metrics = Mapping[str, Any]

UNTESTED = "The card of this {} has no metrics of a test, so how good it is is not known."


def tests_text(segmenter: SegmenterBundle, classifier: ClassifierBundle) -> str:
    """Write the test of a classifier, end to end, and the test of a segmenter, one after the other."""
    sections = {
        "Classifier, end to end": _classifier_test(segmenter, classifier),
        "Segmenter": _segmenter_test(segmenter, classifier.card.metrics),
    }
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in sections.items())


def _classifier_test(segmenter: SegmenterBundle, classifier: ClassifierBundle) -> str:
    metrics = classifier.card.metrics
    if "metrics" not in metrics:
        return UNTESTED.format("classifier")
    conditions = [*_pipeline_texts(metrics.get("pipeline") or {}, segmenter, classifier), *_masks_from(metrics)]
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


def _pipeline_texts(pipeline: Metrics, segmenter: SegmenterBundle, classifier: ClassifierBundle) -> list[str]:
    """Name what a test ran with, as far as its metrics say."""
    if not pipeline:
        return ["which segmenter cut the crops was not recorded"]
    cut_by, views = pipeline["segmenter"], pipeline["views"]
    if cut_by is None:
        crops = f"crops by {pipeline['localize']}, without a segmenter"
    elif cut_by == segmenter.sha256:
        crops = "crops by the segmenter above"
    else:
        crops = f"**crops by another segmenter** (SHA-256 `{short_hash(cut_by)}`) than the one above"
    same_weights = pipeline["classifier"] == classifier.sha256
    weights = "these very weights" if same_weights else "**other weights than these** (before a change of the file)"
    return [crops, "one view" if views == 1 else f"{views} views averaged", weights]


def _masks_from(metrics: Metrics) -> list[str]:
    sources = metrics.get("mask_sources")
    return [f"masks from {sources_text(sources)}"] if sources else []


def _segmenter_test(segmenter: SegmenterBundle, of_classifier: Metrics) -> str:
    localizer = segmenter.card.metrics
    if "metrics" not in localizer:
        return UNTESTED.format("segmenter")
    if same_images(localizer, of_classifier):
        relation = "the images of the test above"
    elif localizer.get("test_set") and of_classifier.get("test_set"):
        relation = "**other images than those of the test above**"
    else:
        relation = "whether these are the images of the test above is not known"
    alone, masks_from = localizer.get("segmenter_alone"), "".join(f" ({text})" for text in _masks_from(localizer))
    texts = [
        f"On {images_text(localizer)}; {relation}. {_meaning(alone)} The localizer, end to end, takes the contour or the whole "
        f"image where the segmenter's mask is not plausible{masks_from}. {_intervals(localizer)}"
    ]
    columns = ({} if alone is None else {"segmenter alone": alone}) | {"localizer, end to end": localizer}
    return "\n\n".join([*texts, _masks_table(columns)])


def _meaning(alone: Metrics | None) -> str:
    if alone is None:
        return "The segmenter alone was not scored."
    return "The segmenter alone is its own mask at probability 0.5, without checks or fallback."


def _masks_table(columns: Mapping[str, Metrics]) -> str:
    rows = [
        [title, *(figure_text(metrics["metrics"][name]) if name in metrics["metrics"] else "" for metrics in columns.values())]
        for name, title in OF_MASKS.items()
    ]
    return markdown_table(["", *columns], rows)


def _intervals(metrics: Metrics) -> str:
    return f"Intervals are 95 % bootstrap intervals over {metrics['intervals_over']}s." if "intervals_over" in metrics else ""
