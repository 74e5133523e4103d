"""Prediction sets: coverage on exchangeable data, thresholds by hand, rare classes, order, records."""

from typing import Any

import numpy as np
import pytest

from segpipe.data.duplicates import hash_id
from segpipe.metrics.conformal import ROUNDING, ConformalSets, conformal_quantile, fit_sets, least_images
from segpipe.metrics.operating_points import ValidationProbs

CLASSES = ("mel", "nv", "bcc")


def draw(rng: np.random.Generator, counts: tuple[int, ...]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Draw probabilities of a classifier that is better at the classes with more images."""
    labels = np.repeat(np.arange(len(counts)), counts)
    logits = rng.normal(size=(len(labels), len(counts)))
    logits[np.arange(len(labels)), labels] += np.linspace(0.5, 2.5, len(counts))[labels]
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_each_class_is_covered_as_stated_on_exchangeable_data(coverage: float) -> None:
    rng = np.random.default_rng(0)
    counts, draws = (19, 39, 79), 1500  # (n + 1) x coverage is an integer, so the coverage is exact
    covered, in_set = np.zeros(3), np.zeros(3)
    for _ in range(draws):
        sets = fit_sets(*draw(rng, counts), range(sum(counts)), classes=CLASSES, coverage=coverage)
        probs, labels = draw(rng, (1, 1, 1))
        covered += 1 - probs[labels, labels] <= [sets.thresholds[code] for code in CLASSES]
        rows = [dict(zip(CLASSES, row, strict=True)) for row in probs.tolist()]
        in_set += [code in sets.prediction_set(row) for code, row in zip(CLASSES, rows, strict=True)]
    error = 3.5 * np.sqrt(coverage * (1 - coverage) / draws)
    np.testing.assert_allclose(covered / draws, coverage, atol=error)
    assert (in_set >= covered).all()  # the predicted class only adds to it


@pytest.mark.parametrize(
    ("coverage", "scores", "threshold"),
    [
        (0.9, np.linspace(0.1, 0.8, 8), 1.0),  # one image too few
        (0.9, np.linspace(0.1, 0.9, 9), 0.9),
        (0.95, np.linspace(0.01, 0.19, 19), 0.19),
        (0.5, [0.3, 0.1, 0.2], 0.2),
        (0.51, [0.3, 0.1, 0.2], 0.3),
        (0.5, [0.2, 0.2, 0.2, 0.7], 0.2),  # ties
        (0.9, [], 1.0),
        (0.5, [1.0], 1.0),
    ],
)
def test_threshold_is_the_smallest_of_sufficient_rank(coverage: float, scores: Any, threshold: float) -> None:
    assert conformal_quantile(np.array(scores), coverage) == pytest.approx(min(1.0, threshold + ROUNDING), abs=1e-12)


@pytest.mark.parametrize(("coverage", "least"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_least_number_of_images(coverage: float, least: int) -> None:
    assert least_images(coverage) == least
    assert conformal_quantile(np.full(least, 0.3), coverage) < 1
    assert conformal_quantile(np.full(least - 1, 0.3), coverage) == 1


def fit(counts: dict[str, int], scores: dict[str, float], coverage: float = 0.9) -> ConformalSets:
    """Fit sets to classes whose images all have one score."""
    labels = np.repeat(np.arange(3), [counts[code] for code in CLASSES])
    probs = np.zeros((len(labels), 3))
    probs[np.arange(len(labels)), labels] = [1 - scores[CLASSES[label]] for label in labels]
    return fit_sets(probs, labels, range(len(labels)), classes=CLASSES, coverage=coverage)


def test_rare_class_has_the_threshold_of_the_rarest_that_together_have_enough() -> None:
    scores = {"mel": 0.7, "nv": 0.2, "bcc": 0.3}
    sets = fit({"mel": 9, "nv": 50, "bcc": 5}, scores)
    assert sets.thresholds == pytest.approx({"mel": 0.7, "nv": 0.2, "bcc": 0.7}, abs=2e-6)  # of mel and bcc, 14 lesions
    assert (sets.images, sets.rare) == ({"mel": 9, "nv": 50, "bcc": 5}, ("bcc",))
    assert fit({"mel": 9, "nv": 50, "bcc": 9}, scores).rare == ()
    assert fit({"mel": 9, "nv": 50, "bcc": 9}, scores).thresholds["bcc"] == pytest.approx(0.3, abs=2e-6)
    without = fit({"mel": 4, "nv": 50, "bcc": 0}, scores)
    assert without.thresholds == pytest.approx({"mel": 0.2, "nv": 0.2, "bcc": 0.2}, abs=2e-6)  # 54 lesions, nearly all nv


def test_classes_with_too_few_lesions_together_are_in_every_set() -> None:
    sets = fit({"mel": 3, "nv": 4, "bcc": 1}, dict.fromkeys(CLASSES, 0.1))
    assert set(sets.thresholds.values()) == {1.0}
    assert sets.prediction_set({"mel": 1.0, "nv": 0.0, "bcc": 0.0}) == ("mel", "nv", "bcc")
    assert fit({"mel": 9, "nv": 9, "bcc": 0}, dict.fromkeys(CLASSES, 0.1), coverage=0.95).thresholds == dict.fromkeys(CLASSES, 1)


def test_one_photograph_of_each_lesion_counts() -> None:
    probs = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.1, 0.9, 0], [0.7, 0.3, 0]])
    labels, lesions = np.array([0, 1, 1, 0]), ["a", "b", "b", "a"]
    sets = fit_sets(probs, labels, lesions, classes=CLASSES, coverage=0.5)
    assert sets.images == {"mel": 1, "nv": 1, "bcc": 0}
    assert sets.thresholds == pytest.approx({"mel": 0.1, "nv": 0.2, "bcc": 0.1}, abs=2e-6)  # bcc has that of the rarest, mel


def test_lesions_follow_their_images_when_packed() -> None:
    names, lesions = ["a", "b", "c"], ["x", "y", "x"]
    packed = ValidationProbs.pack([*map(hash_id, names)], np.array([0, 1, 2]), np.eye(3), [*map(hash_id, lesions)])
    expected = {hash_id(name): hash_id(lesion) for name, lesion in zip(names, lesions, strict=True)}
    assert dict(zip(packed.image_hashes, packed.lesion_hashes, strict=True)) == expected
    with pytest.raises(ValueError, match="a hash, a label"):
        ValidationProbs(packed.images, packed.labels, packed.probs, packed.lesions[:8])


@pytest.mark.parametrize(
    ("probs", "expected"),
    [
        ((0.1, 0.3, 0.6), ("bcc", "nv", "mel")),
        ((0.6, 0.3, 0.1), ("mel", "nv")),
        ((0.05, 0.9, 0.05), ("nv",)),
        ((0.1, 0.45, 0.45), ("nv", "bcc", "mel")),  # equal probabilities keep the order of the classes
        ((0.0999, 0.9, 0.0001), ("nv",)),
    ],
)
def test_set_lists_codes_by_probability_with_the_predicted_first(probs: tuple[float, ...], expected: tuple[str, ...]) -> None:
    sets = ConformalSets(0.9, {"mel": 0.9, "nv": 0.75, "bcc": 0.8}, dict.fromkeys(CLASSES, 20))
    assert sets.prediction_set(dict(zip(CLASSES, probs, strict=True))) == expected


def test_set_holds_the_predicted_class_below_its_threshold() -> None:
    sets = ConformalSets(0.9, {"mel": 0.9, "nv": 0.2, "bcc": 0.3}, dict.fromkeys(CLASSES, 20))
    assert sets.prediction_set({"mel": 0.05, "nv": 0.55, "bcc": 0.4}) == ("nv",)
    assert sets.prediction_set({"mel": 0.3, "nv": 0.4, "bcc": 0.3}) == ("nv", "mel")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"coverage": 1.0}, "coverage must be above 0 and below 1, got 1.0"),
        ({"coverage": 0}, "coverage must be above 0 and below 1, got 0"),
        ({"thresholds": {"mel": 1.1}}, r"thresholds in \[0, 1\] .* got 1.1 and 3 for mel"),
        ({"thresholds": {"mel": float("nan")}}, "got nan"),
        ({"images": {"mel": -1}}, "0.5 and -1 for mel"),
        ({"images": {"nv": 3}}, "for each class, got mel and nv"),
        ({"images": {}, "thresholds": {}}, "got none and none"),
    ],
)
def test_wrong_records_are_refused(changes: dict[str, Any], reason: str) -> None:
    record: dict[str, Any] = {"coverage": 0.9, "thresholds": {"mel": 0.5}, "images": {"mel": 3}}
    assert ConformalSets(**record).check(["mel"]) is None
    with pytest.raises(ValueError, match=reason):
        ConformalSets(**record | changes)
    with pytest.raises(ValueError, match="must hold the classes mel, nv, got mel"):
        ConformalSets(**record).check(["mel", "nv"])
