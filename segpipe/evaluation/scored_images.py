"""The identity of the images and true values that metrics were computed on, so that those of different tests are never joined."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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
