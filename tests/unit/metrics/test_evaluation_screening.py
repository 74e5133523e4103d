"""The search for melanoma and malignancy: six images that can be counted by hand, and what leaves a figure out."""

import numpy as np
import pandas as pd
import pytest

from segpipe.diagnosis import CODES, known_malignant
from segpipe.metrics.classification import Answers
from segpipe.metrics.screening import Screening, screening_of

TRUE_CODES = ["mel", "nv", "bcc", "nv", "akiec", "nv"]
P_MALIGNANT = [0.9, 0.8, 0.7, 0.6, 0.5, 0.1]
P_MEL = [0.5, 0.6, 0.4, 0.3, 0.2, 0.1]
FLAGGED_FOR = ["mel;malignant", "mel", "malignant", "", "", ""]
POINT = {"target": "mel", "threshold": 0.5}
BOTH = (POINT, {"target": "malignant", "threshold": 0.65})
ONCE = np.ones(6, int)


def screening(
    *points: dict[str, object],
    codes: tuple[str, ...] = CODES,
    malignant: tuple[str, ...] | None = None,
    **columns: object,
) -> Screening:
    probs = np.zeros((6, len(codes)))
    probs[:, 0] = P_MEL
    labels = np.array([codes.index(code) if code in codes else 1 for code in TRUE_CODES])
    results = pd.DataFrame({"p_malignant": P_MALIGNANT, "flagged_for": FLAGGED_FOR} | columns)
    return screening_of(
        results,
        Answers(probs, labels, codes),
        malignant=known_malignant(codes) if malignant is None else malignant,
        points=points,
    )


def test_figures_counted_by_hand() -> None:
    assert screening(POINT)(ONCE) == pytest.approx(
        {
            "auroc_mel": 4 / 5,  # 0.5 lies over four of five others
            "sensitivity_mel_at_specificity_090": 0,
            "specificity_mel_at_sensitivity_090": 4 / 5,
            "sensitivity_mel_at_specificity_095": 0,
            "specificity_mel_at_sensitivity_095": 4 / 5,
            "support_mel": 1,
            "auroc_malignant": 6 / 9,
            "sensitivity_malignant_at_specificity_090": 1 / 3,
            "specificity_malignant_at_sensitivity_090": 1 / 3,
            "sensitivity_malignant_at_specificity_095": 1 / 3,
            "specificity_malignant_at_sensitivity_095": 1 / 3,
            "support_malignant": 3,
            "sensitivity_flagged": 1,  # the one melanoma is called
            "specificity_flagged": 4 / 5,  # and one of the five others
            "sensitivity_flagged_mel": 1,
            "specificity_flagged_mel": 4 / 5,
        }
    )


def test_flags_are_scored_against_the_diagnosis_of_the_operating_point() -> None:
    scores = screening({"target": "nv", "threshold": 0.5}, flagged_for=["nv", "nv", "", "", "", ""])(ONCE)
    assert (scores["sensitivity_flagged"], scores["specificity_flagged"]) == pytest.approx((1 / 3, 2 / 3))
    assert screening({"target": "df", "threshold": 0.5})(ONCE)["sensitivity_flagged"] is None
    assert not [name for name in screening()(ONCE) if "flagged" in name]


def test_each_operating_point_is_scored_and_all_of_them_together() -> None:
    scores = screening(*BOTH)(ONCE)
    assert (scores["sensitivity_flagged_mel"], scores["specificity_flagged_mel"]) == pytest.approx((1, 4 / 5))
    # Malignant are mel, bcc and akiec: the first two are called for it, and no other image.
    assert (scores["sensitivity_flagged_malignant"], scores["specificity_flagged_malignant"]) == pytest.approx((2 / 3, 1))
    # Called at all are mel, bcc and one of the three nevi.
    assert (scores["sensitivity_flagged"], scores["specificity_flagged"]) == pytest.approx((2 / 3, 2 / 3))


def test_weights_are_the_same_as_repeated_images() -> None:
    weights = np.array([2, 0, 1, 3, 1, 1])
    scores = screening(POINT)(weights)
    # Positives with weights 2, 1, 1 at 0.9, 0.7, 0.5; negatives 3 at 0.6 and 1 at 0.1.
    assert scores["sensitivity_malignant_at_specificity_090"] == 3 / 4
    assert scores["specificity_malignant_at_sensitivity_090"] == 1 / 4
    assert (scores["sensitivity_flagged"], scores["specificity_flagged"]) == (1, 1)


def test_malignancy_is_left_out_where_the_run_does_not_know_it() -> None:
    assert set(screening(malignant=(), p_malignant="").rankings) == {"mel"}
    assert set(screening(codes=("mole", "wart")).rankings) == set()
    assert set(screening(codes=("bcc", "nv")).rankings) == {"malignant"}
    assert screening(codes=("mole", "wart"))(ONCE) == {}


def test_truth_of_malignancy_goes_over_the_classes_of_the_run() -> None:
    scores = screening(codes=("mel", "nv", "bcc"))(ONCE)  # akiec counts as nv here
    assert scores["support_malignant"] == 2
    assert scores["auroc_malignant"] == pytest.approx((4 + 3) / 8)


def test_malignant_is_what_the_card_calls_so() -> None:
    assert screening(malignant=("nv",))(ONCE)["support_malignant"] == 3
    assert screening(malignant=("mel",))(ONCE)["auroc_malignant"] == 1


def test_figures_without_a_positive_are_none() -> None:
    scores = screening(POINT)(np.array([0, 1, 0, 1, 0, 1]))
    assert {name for name, value in scores.items() if value is not None} == {
        *("support_mel", "support_malignant", "specificity_flagged", "specificity_flagged_mel")
    }
