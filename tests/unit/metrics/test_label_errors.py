"""Confident learning: thresholds, likely errors and their order."""

import numpy as np
import pytest

from segpipe.metrics.label_errors import judge_labels

# Thresholds: 0.65 for class 0 (images 0, 1 and 2), 0.7 for class 1 (images 3 and 4).
PROBS = np.array([[0.9, 0.1], [0.85, 0.15], [0.2, 0.8], [0.2, 0.8], [0.4, 0.6]])
LABELS = np.array([0, 0, 0, 1, 1])


def test_an_image_beyond_the_threshold_of_another_class_is_a_likely_error() -> None:
    quality = judge_labels(PROBS, LABELS)
    assert quality.likely_error.tolist() == [False, False, True, False, False]
    assert quality.suggested.tolist() == [1, 1, 1, 0, 0]
    np.testing.assert_allclose(quality.confidence, [0.9, 0.85, 0.2, 0.8, 0.6])
    assert quality.order()[0] == 2


def test_an_unsure_image_is_no_likely_error() -> None:
    probs = np.vstack([PROBS, [0.45, 0.55]])  # below both thresholds, although the other class is more probable
    quality = judge_labels(probs, np.append(LABELS, 0))
    assert not quality.likely_error[-1]
    assert quality.confidence[-1] == 0.45


def test_order_is_that_of_the_probability_of_the_given_class() -> None:
    rng = np.random.default_rng(0)
    quality = judge_labels(rng.dirichlet(np.ones(4), 300), rng.integers(0, 4, 300))
    order = quality.order()
    assert sorted(order) == list(range(300))
    assert (np.diff(quality.confidence[order]) >= 0).all()
    assert 0 < quality.likely_error.sum() < 300


def test_class_without_labels_is_never_confident() -> None:
    probs = np.array([[0.5, 0.1, 0.4], [0.1, 0.2, 0.7], [0.2, 0.7, 0.1]])
    quality = judge_labels(probs, np.array([0, 0, 1]))
    assert not quality.likely_error.any()
    assert quality.suggested[1] == 2  # still the most probable other class


def test_swapped_labels_are_found_among_separable_classes() -> None:
    rng = np.random.default_rng(1)
    true = rng.integers(0, 5, 1000)
    logits = rng.normal(size=(1000, 5)) + 4 * np.eye(5)[true]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    swapped = rng.choice(1000, 50, replace=False)
    given = true.copy()
    given[swapped] = (true[swapped] + rng.integers(1, 5, 50)) % 5
    quality = judge_labels(probs, given)
    assert np.isin(swapped, quality.order()[:100]).mean() > 0.9
    assert (quality.suggested[swapped] == true[swapped]).mean() > 0.8


@pytest.mark.parametrize(
    ("probs", "labels"),
    [
        (np.ones((2, 1)), np.array([0, 0])),
        (np.full((2, 2), 0.5), np.array([0, 2])),
        (np.full((2, 2), 0.5), np.array([0, -1])),
        (np.full((2, 2), 0.5), np.array([0])),
    ],
)
def test_labels_that_do_not_fit_are_refused(probs: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two or more"):
        judge_labels(probs, labels)
