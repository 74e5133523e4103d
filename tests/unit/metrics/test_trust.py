"""Tests of the rules of trust, and of correctness by color."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from segpipe.metrics.classification import LabeledPredictions
from segpipe.metrics.trust import AMBER, DOUBTS, GREEN, RED, SERIOUS, Evidence, TrustRules
from segpipe.metrics.trust_scores import trust_metrics

GOOD = Evidence(gate=True, mask_source="unet", unsure=False, spread=0.01, set_size=1, in_lesion=0.9, agreeing=1.0)
FAULTS = {
    "gate": {"gate": False},
    "no_lesion": {"unsure": True},
    "contour": {"mask_source": "contour"},
    "views": {"spread": 0.3},
    "set": {"set_size": 2},
    "heatmap": {"in_lesion": 0.1},
    "similar": {"agreeing": 0.0},
    "known": {"known": True},
}


def test_every_doubt_has_a_case() -> None:
    assert FAULTS.keys() == set(DOUBTS)


def test_good_evidence_is_green() -> None:
    trust = TrustRules().judge(GOOD)
    assert (trust.color, trust.doubts, trust.missing) == (GREEN, (), ())


@pytest.mark.parametrize("doubt", DOUBTS)
def test_one_doubt_is_amber_and_a_serious_one_red(doubt: str) -> None:
    trust = TrustRules().judge(replace(GOOD, **FAULTS[doubt]))
    assert trust.doubts == (doubt,)
    assert trust.color == (RED if doubt in SERIOUS else AMBER)


def test_several_doubts_are_red_from_the_number_of_the_rules() -> None:
    evidence = replace(GOOD, spread=0.3, set_size=2, agreeing=0.0)
    assert TrustRules(red_from=3).judge(evidence).color == RED
    assert TrustRules(red_from=4).judge(evidence).color == AMBER


def test_limits_themselves_give_no_doubt() -> None:
    rules = TrustRules(max_spread=0.1, min_in_lesion=0.5, min_agreeing=0.25, max_set_size=2)
    assert rules.judge(replace(GOOD, spread=0.1, in_lesion=0.5, agreeing=0.25, set_size=2)).color == GREEN


def test_missing_evidence_gives_no_doubt_and_is_named() -> None:
    trust = TrustRules().judge(Evidence(None, "unet", False, None, None, None, None))
    assert (trust.color, trust.doubts) == (GREEN, ())
    assert trust.missing == ("gate", "views", "set", "heatmap", "similar")


@pytest.mark.parametrize(
    ("name", "value"), [("max_spread", 1.5), ("min_in_lesion", -0.1), ("min_agreeing", 2), ("max_set_size", 0), ("red_from", 0)]
)
def test_rules_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"trust.{name} must be"):
        TrustRules(**{name: value})


def test_correctness_is_counted_for_each_color() -> None:
    labels = np.array([0, 0, 1, 1, 0])
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3], [0.6, 0.4]])
    results = pd.DataFrame({"trust": ["green", "red", "green", "red", "amber"]})
    metrics = trust_metrics(results, LabeledPredictions(probs, labels, ["mel", "nv"]))
    assert metrics is not None
    scores = metrics(np.ones(5))
    assert [scores[f"fraction_{color}"] for color in ("green", "amber", "red")] == [0.4, 0.2, 0.4]
    assert [scores[f"accuracy_{color}"] for color in ("green", "amber", "red")] == [1, 1, 0]
    assert [scores[f"sensitivity_mel_{color}"] for color in ("green", "amber", "red")] == [1, 1, 0]
    weighted = metrics(np.array([2, 0, 0, 0, 0]))
    assert (weighted["fraction_green"], weighted["accuracy_red"]) == (1, None)


def test_run_of_an_older_version_has_no_colors() -> None:
    predictions = LabeledPredictions(np.array([[0.9, 0.1]]), np.array([0]), ["mel", "nv"])
    assert trust_metrics(pd.DataFrame({"path": ["a"]}), predictions) is None
