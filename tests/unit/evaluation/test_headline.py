"""Test sets: hashes, comparison of images, description."""

from typing import Any

import pytest

from segpipe.evaluation.text import describe_test_set, images_text, same_images

IMAGES, LABELS = ["a" * 64, "b" * 64, "c" * 64], ["mel", "nv", "nv"]


def describe(images: list[str] = IMAGES, true_values: list[str] = LABELS, **named: Any) -> dict[str, Any]:
    return describe_test_set(images, true_values, **{"dataset": "drawn", "part": "test"} | named)


def test_hashes_do_not_depend_on_order_and_names() -> None:
    renamed = describe(IMAGES[::-1], LABELS[::-1], dataset="other", part=None)
    assert describe()["images"] == 3
    for name in ("images_sha256", "sha256"):
        assert len(renamed[name]) == 64
        assert renamed[name] == describe()[name]


@pytest.mark.parametrize(
    ("images", "labels", "same"),
    [
        (IMAGES, ["nv", "mel", "nv"], True),  # the labels of two images swapped
        (IMAGES, ["mel", "nv", "bcc"], True),
        (IMAGES[:2], LABELS[:2], False),
        ([*IMAGES, IMAGES[0]], [*LABELS, "mel"], False),  # one image twice
        ([*IMAGES[:2], "d" * 64], LABELS, False),  # another image
    ],
)
def test_other_images_or_labels_give_another_hash(images: list[str], labels: list[str], same: bool) -> None:
    other = describe(images, labels)
    assert other["sha256"] != describe()["sha256"]
    assert (other["images_sha256"] == describe()["images_sha256"]) == same
    assert same_images({"test_set": other}, {"test_set": describe()}) == same


@pytest.mark.parametrize("unknown", [{}, {"test_set": None}])
def test_images_without_a_hash_equal_no_others(unknown: dict[str, Any]) -> None:
    assert not same_images(unknown, {"test_set": describe()})
    assert not same_images(unknown, unknown)
    assert "no hash" in images_text(unknown | {"images": 5})


def test_text_has_number_data_set_part_and_hash() -> None:
    metrics = {"images": 1234, "test_set": describe()}
    assert images_text(metrics) == f"1,234 images of drawn, part test (test set {describe()['sha256'][:12]})"
    assert images_text({"images": 3, "test_set": describe(dataset=None, part=None)}).startswith("3 images (test set ")
