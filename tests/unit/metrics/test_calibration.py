"""Calibration: recovery of known temperatures and priors, thresholds of a given sensitivity."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import norm

from segpipe.metrics.calibration import METHODS, Calibration, calibration_errors, fit_calibration, negative_log_likelihood
from segpipe.metrics.operating_points import threshold_for_sensitivity


def calibrated_logits(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the probabilities of the logits."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2, size=(images, 4))
    drawn = random.random((images, 1)) < softmax(logits, axis=1).cumsum(axis=1)
    return logits, drawn.argmax(axis=1)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    return fit_calibration("temperature", logits, labels, counts=[1] * logits.shape[2]).temperature


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7, 6.0])
def test_fit_recovers_a_known_temperature(temperature) -> None:
    logits, labels = calibrated_logits(20_000)
    assert fit_temperature((logits * temperature)[None], labels) == pytest.approx(temperature, rel=0.03)


def test_scaling_the_logits_scales_the_temperature() -> None:
    logits, labels = calibrated_logits(500)
    logits, labels = np.tile(logits, (1_000, 1)), np.tile(labels, 1_000)  # so many that the prior has no weight
    assert fit_temperature(3 * logits[None], labels) == pytest.approx(3 * fit_temperature(logits[None], labels), rel=1e-4)


def test_equal_views_give_the_temperature_of_one_view() -> None:
    logits, labels = calibrated_logits(500)
    assert fit_temperature(np.stack([logits] * 4), labels) == pytest.approx(fit_temperature(logits[None], labels), rel=1e-5)


def test_mean_over_the_views_is_fitted() -> None:
    logits, labels = calibrated_logits(500)
    views = np.stack([logits, 4 * np.random.default_rng(1).normal(size=logits.shape)])

    def loss(temperature: float) -> float:
        return -np.log(softmax(views / temperature, axis=2).mean(axis=0)[np.arange(500), labels]).mean()

    fitted = fit_temperature(views, labels)
    assert loss(fitted) < min(loss(0.95 * fitted), loss(1.05 * fitted))


def test_temperature_lowers_the_calibration_error() -> None:
    logits, labels = calibrated_logits(5_000)
    overconfident = logits * 2.5

    def error(temperature: float) -> float:
        return calibration_errors(Calibration(temperature), overconfident[None], labels)["ece"]

    assert error(fit_temperature(overconfident[None], labels)) < 0.25 * error(1)


@pytest.mark.parametrize("margin", [0.1, 2.0, 20.0])
def test_few_images_move_the_temperature_little(margin: float) -> None:
    logits = margin * np.eye(3)[None]
    correct, wrong = fit_temperature(logits, np.arange(3)), fit_temperature(logits, np.array([1, 2, 0]))
    assert 0.6 < correct <= 1 < wrong
    many = np.tile(logits, (1, 100_000, 1)), np.tile(np.arange(3), 100_000)
    assert fit_temperature(*many) <= correct


@pytest.mark.parametrize("scale", [0.6, 1.6])
def test_prior_hardly_moves_the_temperature_of_a_thousand_images(scale: float) -> None:
    logits, labels = calibrated_logits(1_000)
    many = np.tile(logits, (300, 1)), np.tile(labels, 300)  # the same likelihood, without a weight of the prior
    without_prior = fit_temperature(scale * many[0][None], many[1])
    assert fit_temperature(scale * logits[None], labels) == pytest.approx(without_prior, rel=0.01)


def test_prior_of_the_temperature_is_normal_around_one() -> None:
    logits, labels = calibrated_logits(30)

    def loss(log_temperature: float) -> float:
        likelihood = -log_softmax(3 * logits / np.exp(log_temperature), axis=1)[np.arange(30), labels].sum()
        return likelihood - norm.logpdf(log_temperature, scale=0.5)

    fitted = np.log(fit_temperature(3 * logits[None], labels))
    assert fitted == pytest.approx(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x, abs=1e-4)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.ones((2, 3)), np.array([0]), r"got \(1, 2, 3\), \(1,\) and \(3,\)"),
        (np.ones((0, 3)), np.array([], int), r"got \(1, 0, 3\), \(0,\) and \(3,\)"),
        (np.array([[np.inf, 0.0]]), np.array([0]), "must be finite"),
        (np.array([[1.0, 0.0]]), np.array([2]), "lie in 0 to 1, got 2 to 2"),
    ],
)
def test_invalid_logits_and_labels_are_refused(logits, labels, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits[None], labels)


def test_probabilities_are_the_mean_over_views_of_the_softmax() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 6, 3))
    bias = (0.5, 0.0, -1.0)
    expected = softmax(logits / 1.7 + np.array(bias), axis=2).mean(axis=0)
    np.testing.assert_allclose(Calibration(1.7, bias).probs(logits), expected, rtol=1e-12)
    np.testing.assert_allclose(Calibration().probs(logits), softmax(logits, axis=2).mean(axis=0), rtol=1e-12)


def test_likelihood_is_that_of_the_labels() -> None:
    logits, labels = calibrated_logits(50)
    expected = -log_softmax(logits, axis=1)[np.arange(50), labels].mean()
    assert negative_log_likelihood(Calibration(), logits[None], labels) == pytest.approx(expected)


def test_logit_adjustment_recovers_the_class_frequencies() -> None:
    counts = [600, 300, 80, 20]
    logits, labels = calibrated_logits(20_000)
    log_prior = np.log(np.array(counts) / 1000)
    # Logits of a network whose loss removed the prior, and which is overconfident by a factor of two.
    shifted = 2 * (logits - log_prior)[None]
    fit = fit_calibration("logit_adjustment", shifted, labels, counts=counts)
    assert fit.temperature == pytest.approx(2, rel=0.05)
    np.testing.assert_allclose(fit.logit_bias, log_prior, rtol=0.05)
    assert calibration_errors(fit, shifted, labels)["ece"] < 0.02 < calibration_errors(Calibration(), shifted, labels)["ece"]


def test_each_method_fits_at_least_as_well_as_the_previous_one() -> None:
    logits, labels = calibrated_logits(400)
    losses = [
        negative_log_likelihood(
            fit_calibration(name, 3 * logits[None] + 1, labels, counts=[9, 3, 2, 1]), 3 * logits[None] + 1, labels
        )
        for name in METHODS
    ]
    assert losses[0] > losses[1] >= losses[2]


def test_temperature_keeps_the_predictions_of_a_single_view() -> None:
    logits, labels = calibrated_logits(300)
    before = calibration_errors(Calibration(), logits[None], labels)
    after = calibration_errors(Calibration(5.0), logits[None], labels)
    assert before["accuracy"] == after["accuracy"] == (logits.argmax(axis=1) == labels).mean()
    assert before["balanced_accuracy"] == after["balanced_accuracy"]


def test_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="none, temperature, logit_adjustment, got 'platt'"):
        fit_calibration("platt", np.zeros((1, 2, 2)), np.array([0, 1]), counts=[1, 1])


def test_thresholds_computed_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.95, 0.1])
    positive = np.array([True, True, True, True, False, False])
    assert [threshold_for_sensitivity(scores, positive, target) for target in (0.25, 0.5, 0.75, 1.0)] == [0.9, 0.8, 0.7, 0.6]
    assert threshold_for_sensitivity(scores, positive, 0.51) == 0.7
    assert threshold_for_sensitivity(scores, positive, 0.01) == 0.9


@pytest.mark.parametrize("target", [0.5, 0.8, 0.95, 1.0])
def test_threshold_is_the_highest_that_reaches_its_target(target: float) -> None:
    random = np.random.default_rng(3)
    scores, positive = random.random(140), random.random(140) < 0.3
    threshold = threshold_for_sensitivity(scores, positive, target)
    assert (scores[positive] >= threshold).mean() >= target
    assert (scores[positive] > threshold).mean() < target


@pytest.mark.parametrize(
    ("positive", "target", "message"),
    [
        ([True, False], 0.0, "got 0.0 and 1 images"),
        ([True, False], 1.1, "got 1.1"),
        ([False, False], 0.9, "got 0.9 and 0 images"),
    ],
)
def test_target_that_cannot_be_reached_is_refused(positive: list[bool], target: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        threshold_for_sensitivity(np.array([0.1, 0.2]), np.array(positive), target)
