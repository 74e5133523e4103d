"""Bootstrap: resampling of lesions, reproducibility, coverage of the metric, undefined metrics."""

import numpy as np
import pytest

from segpipe.metrics.bootstrap import Interval, bootstrap_intervals, with_intervals
from segpipe.metrics.calibration import expected_calibration_error
from segpipe.metrics.classification import LabeledPredictions, score_predictions


def mean_of(values: np.ndarray):
    return lambda weights: {"mean": float(np.average(values, weights=weights))}


def own_groups(images: int) -> list[str]:
    return [f"image_{index}" for index in range(images)]


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_images_of_a_lesion_are_resampled_together() -> None:
    seen = []
    groups = ["b", "a", "b", "c", "a", "b"]
    bootstrap_intervals(lambda weights: seen.append(weights) or {"one": 1.0}, groups, resamples=50)
    for weights in seen:
        assert weights[0] == weights[2] == weights[5]
        assert weights[1] == weights[4]
        assert weights[[0, 1, 3]].sum() == 3
    assert len({tuple(weights) for weights in seen}) > 5


def test_copies_of_a_lesion_do_not_narrow_the_interval() -> None:
    lesions = np.random.default_rng(0).random(80)
    values, groups = np.repeat(lesions, 4), [f"lesion_{index // 4}" for index in range(320)]
    of_lesions = bootstrap_intervals(mean_of(values), groups)["mean"]
    match_images = bootstrap_intervals(mean_of(values), own_groups(320))["mean"]
    once = bootstrap_intervals(mean_of(lesions), own_groups(80))["mean"]
    assert width(of_lesions) == pytest.approx(width(once), rel=0.15)
    # Four copies counted as independent images halve the width.
    assert width(of_lesions) == pytest.approx(2 * width(match_images), rel=0.15)


def test_two_lesions_give_the_widest_interval_however_many_images_they_have() -> None:
    values, groups = np.repeat([0.0, 1.0], 500), ["wrong"] * 500 + ["right"] * 500
    # One resample in four has the wrong lesion twice, one in four the right one.
    assert bootstrap_intervals(mean_of(values), groups)["mean"] == Interval(0.0, 1.0)
    assert width(bootstrap_intervals(mean_of(values), own_groups(1000))["mean"]) < 0.1


def test_metrics_come_with_their_intervals() -> None:
    values = np.arange(30.0)
    interval = bootstrap_intervals(mean_of(values), own_groups(30), resamples=50)["mean"]
    expected = {"mean": {"value": values.mean(), "low": interval.low, "high": interval.high}}
    assert with_intervals(mean_of(values), own_groups(30), resamples=50) == expected
    none = {"mean": {"value": values.mean(), "low": None, "high": None}}
    assert with_intervals(mean_of(values), own_groups(30), resamples=0) == none
    assert with_intervals(mean_of(values), ["one lesion"] * 30) == none


def test_interval_of_a_mean_is_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(size=400)
    interval = bootstrap_intervals(mean_of(values), own_groups(400), resamples=4000)["mean"]
    half = 1.96 * values.std() / np.sqrt(400)
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_higher_confidence_gives_a_wider_interval() -> None:
    values = np.random.default_rng(3).normal(size=100)
    narrow, wide = (bootstrap_intervals(mean_of(values), own_groups(100), confidence=c)["mean"] for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_interval_depends_on_the_seed_and_not_on_the_order_of_images() -> None:
    values = np.random.default_rng(1).random(40)
    groups = [f"lesion_{index // 2}" for index in range(40)]
    first = bootstrap_intervals(mean_of(values), groups, resamples=200)
    assert bootstrap_intervals(mean_of(values), groups, resamples=200) == first
    assert bootstrap_intervals(mean_of(values), groups, resamples=200, seed=1) != first
    backwards = bootstrap_intervals(mean_of(values[::-1]), groups[::-1], resamples=200)
    assert (backwards["mean"].low, backwards["mean"].high) == pytest.approx((first["mean"].low, first["mean"].high))


def test_intervals_contain_every_metric_of_a_classifier() -> None:
    random = np.random.default_rng(5)
    labels = random.integers(3, size=150)
    probs = random.dirichlet(np.ones(3), size=150)
    predictions = LabeledPredictions(probs, labels, ["mel", "nv", "bcc"])
    scores = score_predictions(predictions)
    intervals = bootstrap_intervals(lambda weights: score_predictions(predictions, weights), own_groups(150), resamples=100)
    assert intervals.keys() == scores.keys()
    assert [name for name, interval in intervals.items() if not interval.low <= scores[name] <= interval.high] == []


def test_interval_contains_a_metric_that_noise_can_only_raise() -> None:
    confidence = np.repeat([0.25, 0.5, 0.75], 40)
    correct = np.concatenate([np.arange(40) < 40 * level for level in (0.25, 0.5, 0.75)])
    assert expected_calibration_error(confidence, correct) == 0
    interval = bootstrap_intervals(
        lambda weights: {"ece": expected_calibration_error(confidence, correct, weights=weights)}, own_groups(120), resamples=100
    )["ece"]
    assert interval.low == 0 < interval.high


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_resamples_with_an_undefined_metric_are_skipped_for_it(missing) -> None:
    def metric(weights: np.ndarray) -> dict[str, float | None]:
        # A resample has a given image in two cases of three, and three given images in one of four.
        return {
            "often": 0.5 if weights[0] else missing,
            "rarely": 0.5 if weights[:3].all() else missing,
            "never": missing,
            "always": 1.0,
        }

    assert bootstrap_intervals(metric, own_groups(30)) == {"often": Interval(0.5, 0.5), "always": Interval(1.0, 1.0)}


def test_a_single_lesion_has_no_interval() -> None:
    assert bootstrap_intervals(mean_of(np.arange(4.0)), ["lesion"] * 4) == {}
    assert bootstrap_intervals(mean_of(np.arange(0.0)), []) == {}


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="resamples must be 1 or more, got 0"):
        bootstrap_intervals(mean_of(np.ones(2)), ["a", "b"], resamples=0)
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1, got 95"):
        bootstrap_intervals(mean_of(np.ones(2)), ["a", "b"], confidence=95)
