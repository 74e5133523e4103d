"""Duplicate images: hashes of files, fingerprints of seen ids, and near duplicates.

Near duplicates are rotated, mirrored, cropped, recolored or compressed copies, and serial shots. A perceptual hash, compared in
the eight orientations of a photograph, selects candidates. Most candidates are merely similar, a blob in the middle of a dark
circle. So fine detail has to agree as well after alignment.

The limits were measured on HAM10000: all 50 million pairs of its 10,015 images, and 200 images changed on purpose. Four pairs
of different lesion ids show one lesion. They differ in 3 to 45 of 255 hash bits; copies at JPEG quality 30, at a third of the
size, in another color cast or gamma, or with 5 % cropped differ in at most 46; 1,874 other candidates are within 50. The
correlation of detail is 0.94 to 0.99 for the four pairs, at least 0.92 for the copies, and at most 0.88 for the other
candidates. Of copies with 10 % cropped, two in five are found. A lesion that was photographed again differently is not found:
this applies to 19 in 20 of the pairs of HAM10000 that share a lesion id.
"""

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.io.passes import pass_over

# Eight base64 characters per id. Two ids collide with a probability of 1 in 280 trillion.
_BYTES, _CHARACTERS = 6, 8
# Parts that may not contain images seen in a part: training images were learned, validation images chose the model.
_EXCLUDED_PARTS = {"train": ("val", "test"), "val": ("test",)}

Fingerprints = Mapping[str, str]
# SHA-256 by path, size and modification time, so that a process reads each version of a file once.
_HASHES: dict[tuple[str, int, int], str] = {}

SIDE = 64
HASH_SIDE = 16
HASH_BITS = HASH_SIDE**2 - 1
MAX_DISTANCE = 50
MIN_SIMILARITY = 0.91
ORIENTATIONS = (
    *("as it is", "mirrored", "turned by 90°", "turned by 90° and mirrored"),
    *("turned by 180°", "turned by 180° and mirrored", "turned by 270°", "turned by 270° and mirrored"),
)
_ROWS_AT_ONCE = 16  # small enough for the processor's cache
_DETAIL_SIGMA = 2.0
_CONTRAST_LIMIT = 3.0
_ACROSS = np.linspace(-1, 1, SIDE, dtype=np.float32)
# 1 in the middle, 0 outside a circle, because dark corners make all dermoscopic photographs similar.
_MIDDLE = np.clip(4 * (1 - np.hypot(_ACROSS[:, None], _ACROSS)), 0, 1)

Thumbnails = NDArray[np.uint8]


def hash_file(path: str | Path | None) -> str | None:
    """Compute the SHA-256 of a file; None if unreadable."""
    try:
        version = _version(path)
        if version not in _HASHES:
            with open(version[0], "rb") as file:
                _HASHES[version] = hashlib.file_digest(file, "sha256").hexdigest()
        return _HASHES[version]
    except OSError:
        return None


def hash_files(paths: Iterable[str | None]) -> list[str | None]:
    """Compute the SHA-256 of many files; see `hash_file` and `keeping_results`."""
    files = [(path,) for path in paths]
    hashes: list[str | None] = pass_over("hashes", files, hash_file, what="hashing files")
    for (path,), digest in zip(files, hashes, strict=True):
        if digest is not None:  # may come from the disk, not from `hash_file`
            _HASHES[_version(path)] = digest
    return hashes


def _version(path: str | Path | None) -> tuple[str, int, int]:
    status = os.stat(path or "")
    return str(path), status.st_size, status.st_mtime_ns


def fingerprint_parts(parts: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Compute the fingerprints of the images and lesions of a training.

    Args:
        parts: Rows with `image_id` and `lesion_id`, by part.

    Returns:
        One text each for `train` and `val`, eight characters per id, sorted.
    """
    return {
        part: "".join(sorted({*map(hash_id, parts[part]["image_id"]), *map(hash_id, parts[part]["lesion_id"])}))
        for part in _EXCLUDED_PARTS
    }


def join_fingerprints(first: Fingerprints, second: Fingerprints) -> dict[str, str]:
    """Merge the fingerprints of two consecutive trainings."""
    return {part: "".join(sorted(_split(first.get(part, "")) | _split(second.get(part, "")))) for part in _EXCLUDED_PARTS}


def find_seen(parts: Mapping[str, pd.DataFrame], seen: Fingerprints) -> list[str]:
    """Find the images on which a model must not be tested.

    These are images that it has seen, and further images of their lesions.

    Args:
        parts: Rows with `image_id` and `lesion_id`, by part; only relevant parts.
        seen: Fingerprints of the model; training images may be in neither val nor test, validation images not in test.

    Returns:
        Sorted image ids.
    """
    found: set[str] = set()
    for part, excluded in _EXCLUDED_PARTS.items():
        known = _split(seen.get(part, ""))
        for other in set(excluded) & parts.keys():
            ids = parts[other][["image_id", "lesion_id"]]
            found.update(ids["image_id"][ids.map(hash_id).isin(known).any(axis=1)])
    return sorted(found)


def hash_id(name: str) -> str:
    """Hash an image or lesion id into eight base64 characters."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()[:_BYTES]).decode()


def _split(text: str) -> set[str]:
    return {text[start : start + _CHARACTERS] for start in range(0, len(text), _CHARACTERS)}


def hash_images(thumbnails: Thumbnails) -> NDArray[np.uint64]:
    """Compute perceptual hashes of images in their eight orientations.

    A bit is the sign of one of the lowest 16 x 16 coefficients of the cosine transform, without the first. Mirroring an image
    changes the sign of every second column of coefficients, and rotation also transposes them, so one transform serves all
    orientations.

    Args:
        thumbnails: Gray uint8, shape (N, 64, 64).

    Returns:
        Shape (4, 8, N): the four words of a hash, by orientation as in `ORIENTATIONS`, by image.
    """
    cosines = np.cos(np.pi / SIDE * np.outer(np.arange(HASH_SIDE), np.arange(SIDE) + 0.5)).astype(np.float32)
    images = thumbnails - thumbnails.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    images *= _MIDDLE
    coefficients = cosines @ images @ cosines.T
    coefficients[:, 0, 0] = 0
    mirror = np.where(np.arange(HASH_SIDE) % 2, -1, 1).astype(np.float32)
    words = []
    for _ in range(4):
        for oriented in (coefficients, coefficients * mirror):
            words.append(np.packbits((oriented > 0).reshape(len(thumbnails), -1), axis=1).view(np.uint64))
        coefficients = (coefficients * mirror).swapaxes(1, 2)
    return np.stack(words).transpose(2, 0, 1)


def find_candidates(words: NDArray[np.uint64], parts: NDArray[np.object_]) -> Iterator[tuple[int, int, int, int]]:
    """Find pairs of images in two parts with similar hashes.

    Args:
        words: Hashes from `hash_images` of N images.
        parts: Parts of the images, shape (N,).

    Yields:
        Indices of both images, orientation of the second, and number of different bits.
    """
    for one, other in combinations(dict.fromkeys(parts), 2):
        firsts, seconds = np.flatnonzero(parts == one), np.flatnonzero(parts == other)
        second_words = np.ascontiguousarray(words[:, :, seconds])
        for start in range(0, len(firsts), _ROWS_AT_ONCE):
            block = firsts[start : start + _ROWS_AT_ONCE]
            distance = np.zeros((len(block), len(ORIENTATIONS), len(seconds)), np.uint8)
            for word, second_word in zip(words, second_words, strict=True):
                distance += np.bitwise_count(word[0, block, None, None] ^ second_word)
            for row, orientation, column in np.argwhere(distance <= MAX_DISTANCE).tolist():
                yield int(block[row]), int(seconds[column]), orientation, int(distance[row, orientation, column])


def turn(image: Thumbnails, orientation: int) -> Thumbnails:
    """Rotate an image counterclockwise, then mirror it left to right.

    Args:
        image: Shape (H, W).
        orientation: Index in `ORIENTATIONS`.
    """
    turned = np.rot90(image, orientation // 2)
    return turned[:, ::-1] if orientation % 2 else turned


def compare_detail(first: Thumbnails, second: Thumbnails) -> float:
    """Correlate the fine detail of two images after affine alignment.

    Args:
        first: Gray uint8, shape (64, 64).
        second: Gray uint8, shape (64, 64), in the orientation of the first.

    Returns:
        Enhanced correlation coefficient of Evangelidis and Psarakis (doi:10.1109/TPAMI.2008.113), at most 1; 0 if the
        alignment fails.
    """
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-3)
    still, everywhere = np.eye(2, 3, dtype=np.float32), np.ones((SIDE, SIDE), np.uint8)
    try:
        found = cv2.findTransformECC(_detail(first), _detail(second), still, cv2.MOTION_AFFINE, criteria, everywhere, 3)
    except cv2.error:
        return 0.0
    return float(found[0])


def _detail(thumbnail: Thumbnails) -> NDArray[np.float32]:
    """Extract normalized fine detail from the middle of an image."""
    image = thumbnail.astype(np.float32)
    fine = image - cv2.GaussianBlur(image, (0, 0), _DETAIL_SIGMA)
    deviation = 1.4826 * np.median(np.abs(fine)) + 1e-3
    detail: NDArray[np.float32] = np.clip(fine / deviation, -_CONTRAST_LIMIT, _CONTRAST_LIMIT) * _MIDDLE
    return detail
