"""Groups are scored as if they were all there is; small ones say less."""

from functools import partial

import numpy as np
import pytest

from segpipe.metrics import bootstrap as groups
from segpipe.metrics.bootstrap import MIN_IMAGES, MIN_LESIONS, join_groups, score_groups
from segpipe.metrics.segmentation import score_masks

RANDOM = np.random.default_rng(0)


def scored(values: list[str], lesions: list[str]) -> dict[str, object]:
    dices, jaccards = RANDOM.random((2, len(values)))
    found = score_groups({"sex": values}, lesions, lambda rows: partial(score_masks, dices[rows], jaccards[rows]))
    for value, group in found["sex"].items():
        rows = np.flatnonzero(np.array(values) == value)
        figures = {name: figure["value"] for name, figure in group["metrics"].items()}
        assert figures in ({}, pytest.approx(score_masks(dices[rows], jaccards[rows])))
    return found["sex"]


def test_each_group_has_the_figures_of_its_own_images() -> None:
    found = scored(["male", "female", "male"] * 20, [f"lesion_{number}" for number in range(60)])
    assert {value: (group["images"], group["lesions"]) for value, group in found.items()} == {
        "female": (20, 20),
        "male": (40, 40),
    }
    for group in found.values():
        assert group["metrics"].keys() == {"dice", "jaccard", "thresholded_jaccard", "share_below_065"}
        assert group["metrics"]["dice"]["low"] < group["metrics"]["dice"]["value"] < group["metrics"]["dice"]["high"]


def test_few_images_have_no_figures_and_few_lesions_no_intervals() -> None:
    few = scored(["male"] * (MIN_IMAGES - 1), ["lesion"] * (MIN_IMAGES - 1))["male"]
    assert few == {"images": MIN_IMAGES - 1, "lesions": 1, "metrics": {}}
    enough = scored(["male"] * MIN_IMAGES, [str(number) for number in range(MIN_IMAGES)])["male"]
    assert enough["metrics"]["dice"]["value"] > 0
    images = 5 * MIN_LESIONS
    for lesions, has_intervals in ((MIN_LESIONS - 1, False), (MIN_LESIONS, True)):
        group = scored(["male"] * images, [str(number % lesions) for number in range(images)])["male"]
        assert (group["metrics"]["dice"]["low"] is not None) is has_intervals


def test_only_the_main_figures_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "RESAMPLES", 5)
    metric = {"accuracy": 0.5, "sensitivity_mel": 0.25, "sensitivity_nv": 0.5, "auprc_mel": 0.1}
    found = score_groups({"sex": ["male"] * 30}, [str(n) for n in range(30)], lambda rows: lambda weights: metric)
    assert found["sex"]["male"]["metrics"].keys() == {"accuracy", "sensitivity_mel"}


def test_parts_are_joined_below_each_group() -> None:
    joined = join_groups(
        {"classification": {"sex": {"male": {"images": 1}}}, "segmentation": {"sex": {"male": {"images": 2}, "female": {}}}}
    )
    assert joined == {
        "sex": {"male": {"classification": {"images": 1}, "segmentation": {"images": 2}}, "female": {"segmentation": {}}}
    }
    assert join_groups({}) == {}
