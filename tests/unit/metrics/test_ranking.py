"""Curves of a ranking: against scikit-learn, and operating points at actual thresholds."""

import numpy as np
import pytest
from sklearn import metrics

from segpipe.metrics.classification import Ranking, ThresholdCurve

TARGETS = [0.5, 0.9, 0.95, 1.0]


def make_scores(images: int = 200, seed: int = 0, *, digits: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Scores correlated with the labels; few digits give many ties."""
    random = np.random.default_rng(seed)
    positive = random.random(images) < 0.3
    return (random.random(images) * 0.7 + 0.3 * positive).round(digits), positive


def curve_of(scores: list[float], positive: list[bool], weights: list[int] | None = None) -> ThresholdCurve:
    return Ranking(np.array(scores), np.array(positive)).curve(
        np.ones(len(scores), int) if weights is None else np.array(weights)
    )


def test_curve_computed_by_hand() -> None:
    curve = curve_of([0.9, 0.1, 0.7, 0.6, 0.5, 0.8], [True, False, True, False, True, False])
    # Three positives (0.9, 0.7, 0.5) against three negatives (0.8, 0.6, 0.1): 3 + 2 + 1 of the 9 pairs are in order.
    assert curve.auroc() == pytest.approx(6 / 9)
    assert curve.auprc() == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    # With two of three negatives below the threshold the specificity is below 0.9, so it must lie above 0.8: only 0.9 is found.
    assert curve.sensitivity_at_specificity(0.9) == pytest.approx(1 / 3)
    assert curve.sensitivity_at_specificity(2 / 3) == pytest.approx(2 / 3)
    # At least 90 % of three positives are all three: the threshold is 0.5, and 0.8 and 0.6 are false positives.
    assert curve.specificity_at_sensitivity(0.9) == pytest.approx(1 / 3)
    assert curve.specificity_at_sensitivity(1 / 3) == 1


@pytest.mark.parametrize("digits", [6, 1])
@pytest.mark.parametrize("highest_weight", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_curves_equal_those_of_scikit_learn(digits: int, highest_weight: int, seed: int) -> None:
    scores, positive = make_scores(seed=seed, digits=digits)
    weights = np.random.default_rng(9 + seed).integers(0, highest_weight, len(scores), endpoint=True)
    curve = Ranking(scores, positive).curve(weights)
    assert curve.auroc() == pytest.approx(metrics.roc_auc_score(positive, scores, sample_weight=weights))
    assert curve.auprc() == pytest.approx(metrics.average_precision_score(positive, scores, sample_weight=weights))
    false_positive_rate, sensitivity, _ = metrics.roc_curve(positive, scores, sample_weight=weights, drop_intermediate=False)
    for target in TARGETS:
        reached = 1 - false_positive_rate >= target - 1e-12
        assert curve.sensitivity_at_specificity(target) == pytest.approx(sensitivity[reached].max())
        reached = sensitivity >= target - 1e-12
        assert curve.specificity_at_sensitivity(target) == pytest.approx(1 - false_positive_rate[reached].min())


def test_ranking_weights_equal_repeated_images() -> None:
    scores, positive = make_scores(digits=2)
    weights = np.random.default_rng(2).integers(0, 4, len(scores))
    repeated = np.repeat(np.arange(len(scores)), weights)
    weighted = Ranking(scores, positive).curve(weights)
    copied = Ranking(scores[repeated], positive[repeated]).curve(np.ones(len(repeated), int))
    for target in TARGETS:
        assert weighted.sensitivity_at_specificity(target) == copied.sensitivity_at_specificity(target)
        assert weighted.specificity_at_sensitivity(target) == copied.specificity_at_sensitivity(target)
    assert (weighted.auroc(), weighted.auprc()) == pytest.approx((copied.auroc(), copied.auprc()))


@pytest.mark.parametrize("target", TARGETS)
def test_threshold_is_the_last_that_reaches_the_stated_rate(target: float) -> None:
    scores, positive = make_scores()
    curve = Ranking(scores, positive).curve(np.ones(len(scores), int))
    rates = [((scores >= t)[positive].mean(), (scores < t)[~positive].mean()) for t in [*np.unique(scores), 2.0]]
    assert curve.sensitivity_at_specificity(target) == max(
        sensitivity for sensitivity, specificity in rates if specificity >= target
    )
    assert curve.specificity_at_sensitivity(target) == max(
        specificity for sensitivity, specificity in rates if sensitivity >= target
    )


def test_rate_that_is_reached_exactly_counts() -> None:
    negatives = [0.1 * step for step in range(10)]
    curve = curve_of([*negatives, 0.85, 0.5], [False] * 10 + [True] * 2)  # one negative of ten, 0.9, lies above 0.85
    assert curve.sensitivity_at_specificity(0.9) == 0.5
    assert curve.specificity_at_sensitivity(0.5) == 0.9


def test_sensitivity_is_zero_where_the_highest_score_is_a_negative() -> None:
    assert curve_of([0.9, 0.8], [False, True]).sensitivity_at_specificity(0.9) == 0
    assert curve_of([0.5, 0.5], [False, True]).sensitivity_at_specificity(0.9) == 0
    assert curve_of([0.9, 0.8], [False, True]).specificity_at_sensitivity(0.9) == 0


@pytest.mark.parametrize("weights", [[0, 0, 1, 1], [1, 1, 0, 0]])
def test_metrics_are_undefined_without_positives_or_negatives(weights: list[int]) -> None:
    curve = curve_of([0.1, 0.2, 0.3, 0.4], [True, True, False, False], weights)
    assert not curve.is_defined
    values = curve.auroc(), curve.auprc(), curve.sensitivity_at_specificity(0.9), curve.specificity_at_sensitivity(0.9)
    assert np.isnan(values).all()
