"""Fingerprints of seen images and lesions: short id hashes for the card."""

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from segpipe.data.kept_results import pass_over

# Eight base64 characters per id. Two ids collide with a probability of 1 in 280 trillion.
_BYTES, _CHARACTERS = 6, 8
# Parts that may not contain images seen in a part: training images were learned, validation images chose the model.
_EXCLUDED_PARTS = {"train": ("val", "test"), "val": ("test",)}

Fingerprints = Mapping[str, str]
# SHA-256 by path, size and modification time, so that a process reads each version of a file once.
_HASHES: dict[tuple[str, int, int], str] = {}


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
