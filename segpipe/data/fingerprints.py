"""Which images and lesions a model has seen, as short hashes of their ids that fit on its card."""

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pandas as pd


def hash_file(path: str | Path | None) -> str | None:
    """Compute the SHA-256 of a file; None where there is none, or it cannot be read."""
    try:
        status = os.stat(path or "")
        return _hash_version(str(path), status.st_size, status.st_mtime_ns)
    except OSError:
        return None


def hash_files(paths: Iterable[str | None]) -> list[str | None]:
    """Compute the SHA-256 of many files, several at a time; see `hash_file`."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(hash_file, paths))


@cache
def _hash_version(path: str, size: int, changed: int) -> str:
    """One version of a file is read once in a process."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Eight characters of base64 for each id. That two ids agree by chance has odds of one in 280 million million.
_BYTES, _CHARACTERS = 6, 8
# A model has seen its training images, and was chosen by its validation images. By which parts it may not be judged any more:
_NOT_IN = {"train": ("val", "test"), "val": ("test",)}

Fingerprints = Mapping[str, str]


def fingerprint_parts(parts: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """The fingerprints of the images and lesions that a training sees.

    Args:
        parts: rows with `image_id` and `lesion_id`, by part.

    Returns:
        For `train` and `val` one text each, eight characters for each id, sorted.
    """
    return {
        part: "".join(sorted({*map(hash_id, parts[part]["image_id"]), *map(hash_id, parts[part]["lesion_id"])}))
        for part in _NOT_IN
    }


def join_fingerprints(first: Fingerprints, second: Fingerprints) -> dict[str, str]:
    """What a model has seen in two trainings, one after the other."""
    return {part: "".join(sorted(_split(first.get(part, "")) | _split(second.get(part, "")))) for part in _NOT_IN}


def find_seen(parts: Mapping[str, pd.DataFrame], seen: Fingerprints) -> list[str]:
    """The images by which a model may not be judged, because it has seen them or another image of their lesions.

    Args:
        parts: rows with `image_id` and `lesion_id`, by part; those that are of interest.
        seen: of the model; training images may stand neither in val nor in test, validation images not in test.

    Returns:
        Their ids, sorted.
    """
    found: set[str] = set()
    for part, judges in _NOT_IN.items():
        known = _split(seen.get(part, ""))
        for judge in set(judges) & parts.keys():
            ids = parts[judge][["image_id", "lesion_id"]]
            found.update(ids["image_id"][ids.map(hash_id).isin(known).any(axis=1)])
    return sorted(found)


def hash_id(name: str) -> str:
    """Hash the id of an image or a lesion into eight characters of base64."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()[:_BYTES]).decode()


def _split(text: str) -> set[str]:
    return {text[start : start + _CHARACTERS] for start in range(0, len(text), _CHARACTERS)}
