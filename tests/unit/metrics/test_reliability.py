"""Calibration errors and reliability curves."""

import numpy as np
import pytest

from segpipe.metrics.calibration import expected_calibration_error, reliability_curve


def test_error_computed_by_hand() -> None:
    confidence = np.array([0.5, 0.5, 0.9, 0.9])
    correct = np.array([True, True, True, False])
    # Two bins of half the images each: |1 - 0.5| and |0.5 - 0.9|.
    assert expected_calibration_error(confidence, correct, bins=5) == pytest.approx((0.5 + 0.4) / 2)
    # In a single bin the two cancel: |3/4 - 0.7|.
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(0.05)


def test_edge_belongs_to_the_lower_bin_and_zero_to_the_first() -> None:
    confidence = np.array([0.0, 0.5, 0.50001, 1.0])
    assert reliability_curve(confidence, np.ones(4, bool), bins=2).counts.tolist() == [2, 2]


def test_error_is_zero_when_confident_and_right_and_one_when_confident_and_wrong() -> None:
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


def test_weights_of_the_error_equal_repeated_images() -> None:
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
def test_invalid_confidences_are_refused(function, confidence, correct, bins, message) -> None:
    with pytest.raises(ValueError, match=message):
        function(confidence, correct, bins=bins)
