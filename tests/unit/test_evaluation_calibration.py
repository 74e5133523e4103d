"""Calibration: hand-made errors, and temperatures that were put in and must come out again."""

import numpy as np
import pytest
from scipy.special import softmax

from segpipe.evaluation.calibration import expected_calibration_error, fit_temperature, reliability_curve


def calibrated_logits(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from just the probabilities that the logits claim."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2, size=(images, 4))
    drawn = random.random((images, 1)) < softmax(logits, axis=1).cumsum(axis=1)
    return logits, drawn.argmax(axis=1)


def test_hand_made_error() -> None:
    confidence = np.array([0.5, 0.5, 0.9, 0.9])
    correct = np.array([True, True, True, False])
    # Two bins of half the images each: |1 - 0.5| and |0.5 - 0.9|.
    assert expected_calibration_error(confidence, correct, bins=5) == pytest.approx((0.5 + 0.4) / 2)
    # In a single bin the two cancel: |3/4 - 0.7|.
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(0.05)


def test_an_edge_belongs_to_the_bin_below_and_zero_to_the_first() -> None:
    confidence = np.array([0.0, 0.5, 0.50001, 1.0])
    assert reliability_curve(confidence, np.ones(4, bool), bins=2).counts.tolist() == [2, 2]


def test_sure_and_right_has_no_error_and_sure_and_wrong_has_all() -> None:
    assert expected_calibration_error(np.ones(5), np.ones(5, bool)) == 0
    assert expected_calibration_error(np.ones(5), np.zeros(5, bool)) == 1


def test_error_is_the_weighted_gap_of_the_curve() -> None:
    random = np.random.default_rng(0)
    confidence, correct = random.random(400) * 0.7, random.random(400) < 0.4
    curve = reliability_curve(confidence, correct)
    gaps = np.abs(curve.accuracy - curve.confidence)
    assert np.isnan(gaps).tolist() == (curve.counts == 0).tolist()
    assert curve.counts.sum() == 400
    assert expected_calibration_error(confidence, correct) == pytest.approx(np.nansum(gaps * curve.counts) / 400)


def test_weights_are_the_same_as_repeated_images() -> None:
    random = np.random.default_rng(0)
    confidence, correct, weights = random.random(60), random.random(60) < 0.5, random.integers(0, 4, 60)
    repeated = np.repeat(np.arange(60), weights)
    weighted = expected_calibration_error(confidence, correct, weights=weights)
    assert weighted == pytest.approx(expected_calibration_error(confidence[repeated], correct[repeated]))


@pytest.mark.parametrize("function", [expected_calibration_error, reliability_curve])
@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "message"),
    [
        (np.array([0.5, 1.5]), np.array([True, True]), 15, r"lie in \[0, 1\], got 0.5 to 1.5"),
        (np.array([np.nan]), np.array([True]), 15, "got nan to nan"),
        (np.array([0.5]), np.array([True, True]), 15, r"got shapes \(1,\) and \(2,\)"),
        (np.array([]), np.array([], bool), 15, r"got shapes \(0,\) and \(0,\)"),
        (np.array([0.5]), np.array([True]), 0, "bins must be 1 or more, got 0"),
    ],
)
def test_values_that_do_not_fit_are_refused(function, confidence, correct, bins, message) -> None:
    with pytest.raises(ValueError, match=message):
        function(confidence, correct, bins=bins)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7, 6.0])
def test_a_known_temperature_comes_out_again(temperature) -> None:
    logits, labels = calibrated_logits(20_000)
    assert fit_temperature((logits * temperature)[None], labels) == pytest.approx(temperature, rel=0.03)


def test_scaling_the_logits_scales_the_temperature() -> None:
    logits, labels = calibrated_logits(500)
    assert fit_temperature(3 * logits[None], labels) == pytest.approx(3 * fit_temperature(logits[None], labels), rel=1e-4)


def test_views_that_agree_are_one_view() -> None:
    logits, labels = calibrated_logits(500)
    assert fit_temperature(np.stack([logits] * 4), labels) == pytest.approx(fit_temperature(logits[None], labels), rel=1e-5)


def test_it_is_the_mean_over_the_views_that_is_fitted() -> None:
    logits, labels = calibrated_logits(500)
    views = np.stack([logits, 4 * np.random.default_rng(1).normal(size=logits.shape)])

    def loss(temperature: float) -> float:
        return -np.log(softmax(views / temperature, axis=2).mean(axis=0)[np.arange(500), labels]).mean()

    fitted = fit_temperature(views, labels)
    assert loss(fitted) < min(loss(0.95 * fitted), loss(1.05 * fitted))


def test_the_temperature_lowers_the_calibration_error() -> None:
    logits, labels = calibrated_logits(5_000)
    too_sure = logits * 2.5
    correct = too_sure.argmax(axis=1) == labels

    def error(temperature: float) -> float:
        return expected_calibration_error(softmax(too_sure / temperature, axis=1).max(axis=1), correct)

    assert error(fit_temperature(too_sure[None], labels)) < 0.25 * error(1)


def test_labels_that_set_no_limit_end_at_the_range() -> None:
    logits = 0.1 * np.eye(3)[None]
    assert fit_temperature(logits, np.arange(3)) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(logits, np.array([1, 2, 0])) == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.ones((2, 3)), np.array([0]), r"got \(1, 2, 3\) and \(1,\)"),
        (np.ones((0, 3)), np.array([], int), r"got \(1, 0, 3\) and \(0,\)"),
        (np.array([[np.inf, 0.0]]), np.array([0]), "must be finite"),
        (np.array([[1.0, 0.0]]), np.array([2]), "lie in 0 to 1, got 2 to 2"),
    ],
)
def test_logits_that_do_not_fit_are_refused(logits, labels, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits[None], labels)
