"""Metrics of groups: each of its own images, with limits for small groups."""

from functools import partial

import numpy as np
import pytest

from segpipe.metrics import bootstrap
from segpipe.metrics.bootstrap import MIN_IMAGES, MIN_LESIONS, join_groups, score_groups
from segpipe.metrics.segmentation import score_masks

RANDOM = np.random.default_rng(0)


def score(values: list[str], lesions: list[str]) -> dict[str, object]:
    dices, jaccards = RANDOM.random((2, len(values)))
    groups = score_groups({"sex": values}, lesions, lambda rows: partial(score_masks, dices[rows], jaccards[rows]))
    for value, group in groups["sex"].items():
        rows = np.flatnonzero(np.array(values) == value)
        scores = {name: metric["value"] for name, metric in group["metrics"].items()}
        assert scores in ({}, pytest.approx(score_masks(dices[rows], jaccards[rows])))
    return groups["sex"]


def test_each_group_has_the_metrics_of_its_own_images() -> None:
    groups = score(["male", "female", "male"] * 20, [f"lesion_{number}" for number in range(60)])
    assert {value: (group["images"], group["lesions"]) for value, group in groups.items()} == {
        "female": (20, 20),
        "male": (40, 40),
    }
    for group in groups.values():
        assert group["metrics"].keys() == {"dice", "jaccard", "thresholded_jaccard", "share_below_065"}
        assert group["metrics"]["dice"]["low"] < group["metrics"]["dice"]["value"] < group["metrics"]["dice"]["high"]


def test_few_images_have_no_metrics_and_few_lesions_no_intervals() -> None:
    few = score(["male"] * (MIN_IMAGES - 1), ["lesion"] * (MIN_IMAGES - 1))["male"]
    assert few == {"images": MIN_IMAGES - 1, "lesions": 1, "metrics": {}}
    enough = score(["male"] * MIN_IMAGES, [str(number) for number in range(MIN_IMAGES)])["male"]
    assert enough["metrics"]["dice"]["value"] > 0
    images = 5 * MIN_LESIONS
    for lesions, has_intervals in ((MIN_LESIONS - 1, False), (MIN_LESIONS, True)):
        group = score(["male"] * images, [str(number % lesions) for number in range(images)])["male"]
        assert (group["metrics"]["dice"]["low"] is not None) is has_intervals


def test_only_the_main_metrics_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 5)
    metric = {"accuracy": 0.5, "sensitivity_mel": 0.25, "sensitivity_nv": 0.5, "auprc_mel": 0.1}
    groups = score_groups({"sex": ["male"] * 30}, [str(n) for n in range(30)], lambda rows: lambda weights: metric)
    assert groups["sex"]["male"]["metrics"].keys() == {"accuracy", "sensitivity_mel"}


def test_parts_are_joined_under_each_group() -> None:
    joined = join_groups(
        {"classification": {"sex": {"male": {"images": 1}}}, "segmentation": {"sex": {"male": {"images": 2}, "female": {}}}}
    )
    assert joined == {
        "sex": {"male": {"classification": {"images": 1}, "segmentation": {"images": 2}}, "female": {"segmentation": {}}}
    }
    assert join_groups({}) == {}
