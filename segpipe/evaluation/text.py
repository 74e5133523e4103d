"""Metrics as text: headline, names of test sets, and Markdown tables."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_HASH_DIGITS = 12  # hexadecimal digits that are shown
_LEAST_WIDTH = 22  # of the column of names
_MASK_METRICS = ("dice", "jaccard", "thresholded_jaccard")
# Prefix of the names, and the main metrics, by the part of `metrics.json`.
_SHOWN = {
    "classification": ("", ("accuracy", "majority_baseline", "balanced_accuracy", "sensitivity_mel", "macro_auroc", "ece")),
    "segmenter_alone": ("segmenter ", _MASK_METRICS),
    "segmentation": ("localizer ", _MASK_METRICS),
    "heatmaps": ("heatmap ", ("follow", "stay")),
}
MASK_METRICS = {
    "dice": "mean Dice",
    "jaccard": "mean Jaccard",
    "thresholded_jaccard": "thresholded Jaccard (below 0.65 counts 0)",
    "share_below_065": "fraction of images with a Jaccard below 0.65",
}
ROWS = (
    *(("segmentation", name, f"localizer: {title}") for name, title in MASK_METRICS.items()),
    ("classification", "macro_auroc", "macro AUROC"),
    ("classification", "balanced_accuracy", "balanced accuracy"),
    ("classification", "sensitivity_mel", "melanoma sensitivity"),
    ("classification", "specificity_mel", "melanoma specificity"),
    ("classification", "accuracy", "accuracy"),
    ("classification", "majority_baseline", "majority-class baseline accuracy"),
    ("classification", "ece", "expected calibration error"),
)


def headline(metrics: Mapping[str, Any]) -> str:
    """Write the main metrics, accuracy with its baseline, as lines of text.

    Args:
        metrics: Content of `metrics.json`. Its part `segmenter_alone` is on the segmenter's own masks at probability 0.5, its
            part `segmentation` on the masks of the localizer, with the number of masks from each source.
    """
    rows = [row for part in _SHOWN if part in metrics for row in _rows(part, metrics[part])]
    width = max([_LEAST_WIDTH, *(len(name) for name, _ in rows)])
    return "\n".join(f"{name:<{width}} {text}" for name, text in rows)


def images_text(metrics: Mapping[str, Any]) -> str:
    """Describe the images of some metrics: number, data set, part and hash.

    Args:
        metrics: Part of `metrics.json` or of a card, with `images` and, except in cards of older versions, `test_set`.
    """
    test_set, count = metrics.get("test_set"), metrics.get("images")
    number = "an unknown number of images" if count is None else f"{count:,} images"
    if test_set is None:
        return f"{number} of an unknown test set (no hash was recorded)"
    dataset = f" of {test_set['dataset']}" if test_set["dataset"] else ""
    part = f", part {test_set['part']}" if test_set["part"] else ""
    return f"{number}{dataset}{part} (test set {short_hash(test_set['sha256'])})"


def sources_text(sources: Mapping[str, int]) -> str:
    """Format the number of masks by source: `unet 1975, contour 6`."""
    return ", ".join(f"{name} {count:,}" for name, count in sources.items())


def describe_test_set(
    image_hashes: Sequence[str], true_values: Sequence[str], *, dataset: str | None, part: str | None
) -> dict[str, Any]:
    """Describe the images of a test.

    Args:
        image_hashes: SHA-256 of the file of each scored image.
        true_values: True value of each image, in the same order: code of its diagnosis, or SHA-256 of the file of its true mask.
        dataset: Name of the data set; None for single images.
        part: Part of the split; None for all images.

    Returns:
        `dataset`, `part`, `images` (number), `images_sha256` (hash of the contents of the images) and `sha256` (hash of the
        contents together with the true values). Neither hash depends on names, folders or order.
    """
    return {
        "dataset": dataset,
        "part": part,
        "images": len(image_hashes),
        "images_sha256": hash_all(image_hashes),
        "sha256": hash_all(f"{image} {true}" for image, true in zip(image_hashes, true_values, strict=True)),
    }


def same_images(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Check that two sets of metrics have the same images.

    Returns:
        False also where the hash of the images is missing.
    """
    hashes = [(metrics.get("test_set") or {}).get("images_sha256") for metrics in (one, other)]
    return hashes[0] is not None and hashes[0] == hashes[1]


def hash_all(lines: Iterable[str]) -> str:
    """Compute the SHA-256 of lines of text, regardless of their order."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def short_hash(sha256: str) -> str:
    """Shorten a hash to the digits that are shown."""
    return sha256[:_HASH_DIGITS]


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


def results_table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the main metrics of runs as a Markdown table.

    Args:
        columns: Content of `metrics.json` of each run by the title of its column; all parts are of the same images. A metric that
            no run has, for lack of the class, the labels or the masks, gets no row.
    """
    rows = []
    for part, name, title in ROWS:
        values = [metrics.get(part, {}).get("metrics", {}).get(name) for metrics in columns.values()]
        if any(values):
            rows.append([title, *("none" if value is None else metric_text(value) for value in values)])
    return markdown_table(["", *columns], rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table.

    Args:
        header: Title of each column.
        rows: Cells of each row, as many as there are columns.
    """
    lines = (
        "|".join(["", *(f" {_escape(cell)} " if cell else " " for cell in cells), ""])
        for cells in (header, ["---"] * len(header), *rows)
    )
    return "\n".join(lines)


def plain_table(rows: Sequence[Sequence[str]]) -> str:
    """Write a table of aligned columns for the terminal.

    Args:
        rows: Cells of each row, the titles first.
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def metric_text(metric: Mapping[str, float | None], number_format: str = ".3f") -> str:
    """Format a metric with its interval.

    Args:
        metric: `value`, `low` and `high`, see `segpipe.metrics.bootstrap.with_intervals`.
        number_format: Format of each number.

    Returns:
        Text such as `0.750 (0.650 to 0.850)`; `none` where the metric is undefined.
    """
    value, low, high = metric["value"], metric["low"], metric["high"]
    if value is None:
        return "none"
    number = f"{value:{number_format}}"
    return number if low is None or high is None else f"{number} ({low:{number_format}} to {high:{number_format}})"


def _escape(cell: str) -> str:
    return cell.replace("|", r"\|")
