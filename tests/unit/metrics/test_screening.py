"""ScreeningMetrics for melanoma and malignancy: six images counted by hand, undefined metrics."""

import numpy as np
import pandas as pd
import pytest

from segpipe.diagnosis import CODES, known_malignant
from segpipe.metrics.classification import LabeledPredictions
from segpipe.metrics.screening import ScreeningMetrics, screening_metrics

TRUE_CODES = ["mel", "nv", "bcc", "nv", "akiec", "nv"]
P_MALIGNANT = [0.9, 0.8, 0.7, 0.6, 0.5, 0.1]
P_MEL = [0.5, 0.6, 0.4, 0.3, 0.2, 0.1]
FLAGGED_FOR = ["mel;malignant", "mel", "malignant", "", "", ""]
POINT = {"target": "mel", "threshold": 0.5}
BOTH = (POINT, {"target": "malignant", "threshold": 0.65})
UNWEIGHTED = np.ones(6, int)


def screening(
    *points: dict[str, object],
    codes: tuple[str, ...] = CODES,
    malignant: tuple[str, ...] | None = None,
    **columns: object,
) -> ScreeningMetrics:
    probs = np.zeros((6, len(codes)))
    probs[:, 0] = P_MEL
    labels = np.array([codes.index(code) if code in codes else 1 for code in TRUE_CODES])
    results = pd.DataFrame({"p_malignant": P_MALIGNANT, "flagged_for": FLAGGED_FOR} | columns)
    return screening_metrics(
        results,
        LabeledPredictions(probs, labels, codes),
        malignant=known_malignant(codes) if malignant is None else malignant,
        points=points,
    )


def test_screening_metrics_counted_by_hand() -> None:
    assert screening(POINT)(UNWEIGHTED) == pytest.approx(
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
            "sensitivity_flagged": 1,  # the one melanoma is flagged
            "specificity_flagged": 4 / 5,  # and one of the five others
            "sensitivity_flagged_mel": 1,
            "specificity_flagged_mel": 4 / 5,
        }
    )


def test_flags_are_scored_against_the_target_of_the_operating_point() -> None:
    scores = screening({"target": "nv", "threshold": 0.5}, flagged_for=["nv", "nv", "", "", "", ""])(UNWEIGHTED)
    assert (scores["sensitivity_flagged"], scores["specificity_flagged"]) == pytest.approx((1 / 3, 2 / 3))
    assert screening({"target": "df", "threshold": 0.5})(UNWEIGHTED)["sensitivity_flagged"] is None
    assert not [name for name in screening()(UNWEIGHTED) if "flagged" in name]


def test_operating_points_are_scored_one_by_one_and_together() -> None:
    scores = screening(*BOTH)(UNWEIGHTED)
    assert (scores["sensitivity_flagged_mel"], scores["specificity_flagged_mel"]) == pytest.approx((1, 4 / 5))
    # Malignant are mel, bcc and akiec: the first two are flagged for it, and no other image.
    assert (scores["sensitivity_flagged_malignant"], scores["specificity_flagged_malignant"]) == pytest.approx((2 / 3, 1))
    # Flagged for any target are mel, bcc and one of the three nevi.
    assert (scores["sensitivity_flagged"], scores["specificity_flagged"]) == pytest.approx((2 / 3, 2 / 3))


def test_screening_weights_equal_repeated_images() -> None:
    weights = np.array([2, 0, 1, 3, 1, 1])
    scores = screening(POINT)(weights)
    # Positives with weights 2, 1, 1 at 0.9, 0.7, 0.5; negatives 3 at 0.6 and 1 at 0.1.
    assert scores["sensitivity_malignant_at_specificity_090"] == 3 / 4
    assert scores["specificity_malignant_at_sensitivity_090"] == 1 / 4
    assert (scores["sensitivity_flagged"], scores["specificity_flagged"]) == (1, 1)


def test_malignancy_is_left_out_where_malignant_classes_are_unknown() -> None:
    assert set(screening(malignant=(), p_malignant="").rankings) == {"mel"}
    assert set(screening(codes=("mole", "wart")).rankings) == set()
    assert set(screening(codes=("bcc", "nv")).rankings) == {"malignant"}
    assert screening(codes=("mole", "wart"))(UNWEIGHTED) == {}


def test_malignancy_is_limited_to_the_classes_of_the_run() -> None:
    scores = screening(codes=("mel", "nv", "bcc"))(UNWEIGHTED)  # akiec counts as nv here
    assert scores["support_malignant"] == 2
    assert scores["auroc_malignant"] == pytest.approx((4 + 3) / 8)


def test_malignant_classes_are_those_of_the_card() -> None:
    assert screening(malignant=("nv",))(UNWEIGHTED)["support_malignant"] == 3
    assert screening(malignant=("mel",))(UNWEIGHTED)["auroc_malignant"] == 1


def test_metrics_without_a_positive_are_none() -> None:
    scores = screening(POINT)(np.array([0, 1, 0, 1, 0, 1]))
    assert {name for name, value in scores.items() if value is not None} == {
        *("support_mel", "support_malignant", "specificity_flagged", "specificity_flagged_mel")
    }
