"""The main metrics of a test as text for the terminal, each line with the component that it measures."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_HASH_DIGITS = 12  # hexadecimal digits that are shown


def describe_test_set(
    image_hashes: Sequence[str], true_values: Sequence[str], *, dataset: str | None, part: str | None
) -> dict[str, Any]:
    """Describe the images that metrics were computed on.

    Args:
        image_hashes: SHA-256 of the file of each scored image.
        true_values: true value of each image, in the same order: code of its diagnosis, or SHA-256 of its true mask's file.
        dataset: name of the data set; None where the images were named one by one.
        part: part of the split; None where all images were taken.

    Returns:
        `dataset`, `part`, `images` (number), `images_sha256` (hash of the contents of the images, whatever is known of them) and
        `sha256` (hash of the contents together with the true values). Names, folders and order change neither hash.
    """
    return {
        "dataset": dataset,
        "part": part,
        "images": len(image_hashes),
        "images_sha256": hash_all(image_hashes),
        "sha256": hash_all(f"{image} {true}" for image, true in zip(image_hashes, true_values, strict=True)),
    }


def same_images(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets of metrics are of the same images; false where one of them does not say which images it is of."""
    hashes = [(metrics.get("test_set") or {}).get("images_sha256") for metrics in (one, other)]
    return hashes[0] is not None and hashes[0] == hashes[1]


def images_text(metrics: Mapping[str, Any]) -> str:
    """Name the images of some metrics: their number, data set, part and hash.

    Args:
        metrics: one part of `metrics.json` or of a card, with `images` and, except in cards of older versions, `test_set`.
    """
    known, count = metrics.get("test_set"), metrics.get("images")
    number = "an unknown number of images" if count is None else f"{count:,} images"
    if known is None:
        return f"{number} of an unknown test set (no hash was recorded)"
    dataset = f" of {known['dataset']}" if known["dataset"] else ""
    part = f", part {known['part']}" if known["part"] else ""
    return f"{number}{dataset}{part} (test set {short_hash(known['sha256'])})"


def short_hash(sha256: str) -> str:
    """The first digits of a hash, as they are shown."""
    return sha256[:_HASH_DIGITS]


def hash_all(lines: Iterable[str]) -> str:
    """SHA-256 over lines of text, whatever their order."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


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
