"""Fingerprints identify exactly the images that a model must not be tested on."""

import json

import numpy as np
import pandas as pd
import pytest

from segpipe.data.duplicates import find_seen, fingerprint_parts, join_fingerprints
from segpipe.data.splits import PARTS


def parts(**lesions_of: str) -> dict[str, pd.DataFrame]:
    """Build parts with one image per letter, which is the id of its lesion."""
    return {
        part: pd.DataFrame([(f"{part}{number}{letter}", letter) for number, letter in enumerate(lesions_of.get(part, ""))],
                           columns=["image_id", "lesion_id"], dtype=str)
        for part in PARTS
    }  # fmt: skip


OWN = parts(train="aab", val="cd", test="ef")


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ({"train": "ab", "val": "cd", "test": "ef"}, []),
        ({"train": "xy", "val": "z"}, []),
        ({"train": "d"}, ["val1d"]),
        ({"train": "e"}, ["test0e"]),
        ({"val": "e"}, ["test0e"]),
        ({"val": "cab"}, []),
        ({"train": "cf", "val": "e"}, ["test0e", "test1f", "val0c"]),
        ({"test": "abcdef"}, []),
    ],
)
def test_seen_lesions_are_found(before: dict[str, str], found: list[str]) -> None:
    """Other images of the same lesions are found by lesion id."""
    renamed = {part: rows.assign(image_id="other " + rows["image_id"]) for part, rows in parts(**before).items()}
    assert find_seen(OWN, fingerprint_parts(renamed)) == found


def test_seen_images_are_found_without_lesion_ids() -> None:
    seen = fingerprint_parts({part: OWN["test"].assign(lesion_id=OWN["test"]["image_id"]) for part in PARTS})
    assert find_seen(OWN, seen) == ["test0e", "test1f"]


def test_parts_not_given_are_ignored() -> None:
    seen = fingerprint_parts(parts(train="de", val="f"))
    assert find_seen({"test": OWN["test"]}, seen) == ["test0e", "test1f"]
    assert find_seen({"val": OWN["val"]}, seen) == ["val1d"]


def test_no_fingerprints_find_no_images() -> None:
    assert find_seen(OWN, {}) == []


def test_order_and_repetition_do_not_matter() -> None:
    shuffled = {part: pd.concat([rows, rows]).sample(frac=1, random_state=0) for part, rows in OWN.items()}
    assert fingerprint_parts(shuffled) == fingerprint_parts(OWN)


def test_joined_fingerprints_cover_both_trainings() -> None:
    one, other = fingerprint_parts(parts(train="c", val="e")), fingerprint_parts(parts(train="f", val="e"))
    joined = join_fingerprints(one, other)
    assert joined == join_fingerprints(other, one)
    assert join_fingerprints(one, {}) == join_fingerprints(one, one) == one
    assert set(find_seen(OWN, joined)) == set(find_seen(OWN, one)) | set(find_seen(OWN, other)) == {"val0c", "test0e", "test1f"}


def test_fingerprints_of_10000_images_are_small_and_unique() -> None:
    names = np.array([f"ISIC_{number:07d}" for number in range(20_000)])
    whole = {
        part: pd.DataFrame({"image_id": ids, "lesion_id": ids})
        for part, ids in zip(PARTS, (names[:10_000], names[:0], names[10_000:]), strict=True)
    }
    seen = fingerprint_parts(whole)
    assert len(json.dumps(seen)) < 90_000
    assert find_seen(whole, seen) == []
