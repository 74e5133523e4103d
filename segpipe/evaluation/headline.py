"""The main metrics of a test as text for the terminal, each line with the component that it measures."""

from collections.abc import Iterator, Mapping
from typing import Any

from segpipe.evaluation.scored_images import images_text

_OF_MASKS = ("dice", "jaccard", "thresholded_jaccard")
# By the part of `metrics.json`: the component that stands before the names (the classifier's have no namesakes), and its metrics.
_SHOWN = {
    "classification": ("", ("accuracy", "majority_baseline", "balanced_accuracy", "sensitivity_mel", "macro_auroc", "ece")),
    "segmenter_alone": ("segmenter ", _OF_MASKS),
    "segmentation": ("localizer ", _OF_MASKS),
    "heatmaps": ("heatmap ", ("follow", "stay")),
}
_LEAST_WIDTH = 22


def headline(metrics: Mapping[str, Any]) -> str:
    """Write the main metrics in a few lines; accuracy never stands alone.

    Args:
        metrics: what `metrics.json` holds. The part `segmenter_alone` is of the segmenter's own mask at probability 0.5, the part
            `segmentation` of the localizer end to end, with how many masks came from each source.
    """
    rows = [row for part in _SHOWN if part in metrics for row in _rows(part, metrics[part])]
    width = max([_LEAST_WIDTH, *(len(name) for name, _ in rows)])
    return "\n".join(f"{name:<{width}} {text}" for name, text in rows)


def sources_text(sources: Mapping[str, int]) -> str:
    """Write how many masks came from each source, for example `unet 1975, contour 6`."""
    return ", ".join(f"{name} {count:,}" for name, count in sources.items())


def _rows(part: str, metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    prefix, names = _SHOWN[part]
    for name in names:
        metric = metrics["metrics"].get(name, {})
        if metric.get("value") is not None:
            yield f"{prefix}{name.replace('_', ' ')}", _value_text(metric)
    if "mask_sources" in metrics:
        yield f"{prefix}masks from", sources_text(metrics["mask_sources"])
    if "test_set" in metrics:
        yield f"{metrics['component']} scored on", images_text(metrics)


def _value_text(metric: Mapping[str, float | None]) -> str:
    interval = "" if metric["low"] is None else f"  (95 % {metric['low']:.3f} to {metric['high']:.3f})"
    return f"{metric['value']:.3f}{interval}"
