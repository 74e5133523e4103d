"""Operating points: thresholds by hand, reached targets, validation probabilities of a card."""

import numpy as np
import pytest

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.card_file import SHIPPED, read_card
from segpipe.data.duplicates import hash_id
from segpipe.metrics.operating_points import OperatingPoint, ValidationProbs, fit_point, reached_targets, target_codes

CLASSES = ("mel", "nv", "bcc")
MALIGNANT = ("mel", "bcc")
PROBS = np.array([[0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.0, 0.3, 0.7], [0.3, 0.7, 0.0]])
LABELS = np.array([0, 1, 0, 2, 1])


@pytest.mark.parametrize(
    ("target", "sensitivity", "threshold"),
    [
        ("mel", 0.5, 0.5),
        ("mel", 0.51, 0.2),
        ("malignant", 1.0, 0.4),
        ("malignant", 0.6, 0.6),
        ("malignant", 0.3, 0.7),
        ("nv", 1, 0.7),
    ],
)
def test_threshold_is_the_highest_of_sufficient_sensitivity(target: str, sensitivity: float, threshold: float) -> None:
    point = fit_point(target, sensitivity, PROBS, LABELS, classes=CLASSES, malignant=MALIGNANT)
    assert (point.target, point.target_sensitivity) == (target, sensitivity)
    assert point.threshold == pytest.approx(threshold, abs=2e-6) and point.threshold < threshold


def test_each_target_is_reached_by_its_own_probability() -> None:
    points = (OperatingPoint("mel", 0.3), OperatingPoint("malignant", 0.9), OperatingPoint("nv", 0.0))

    def reached(mel: float, bcc: float) -> tuple[str, ...]:
        return reached_targets(points, {"mel": mel, "nv": 1 - mel - bcc, "bcc": bcc}, MALIGNANT)

    assert reached(0.0, 0.0) == ("nv",)
    assert reached(0.0, 0.95) == ("malignant", "nv")
    assert reached(0.3, 0.65) == ("mel", "malignant", "nv")


def test_malignant_is_the_sum_of_the_malignant_classes_or_a_class_of_that_name() -> None:
    assert target_codes("malignant", MALIGNANT) == MALIGNANT
    assert target_codes("malignant", ()) == ("malignant",)
    assert target_codes("mel", MALIGNANT) == ("mel",)


def test_validation_probabilities_survive_packing_in_any_order() -> None:
    ids = ["a", "b", "c", "d", "é"]
    packed = ValidationProbs.pack([hash_id(name) for name in ids], LABELS, PROBS)
    assert ValidationProbs.pack([hash_id(name) for name in ids[::-1]], LABELS[::-1], PROBS[::-1]) == packed
    labels, probs = packed.unpack()
    order = np.argsort([hash_id(name) for name in ids])
    assert labels.tolist() == LABELS[order].tolist()
    np.testing.assert_allclose(probs, PROBS[order], atol=1e-7)
    assert not any(name in packed.images for name in ("ISIC", " "))


@pytest.mark.parametrize("target", ["mel", "malignant"])
def test_shipped_thresholds_are_the_highest_of_their_target_sensitivity(target: str) -> None:
    card = read_card(SHIPPED / "classifier", "classifier", ClassifierCard)
    assert [point.target for point in card.operating_points] == ["mel", "malignant"]
    point = next(point for point in card.operating_points if point.target == target)
    assert card.validation is not None and point.target_sensitivity == 0.95
    labels, probs = card.validation.unpack()
    indices = [card.classes.index(code) for code in target_codes(target, card.malignant)]
    scores = probs[:, indices].sum(axis=1)[np.isin(labels, indices)]
    assert (scores >= point.threshold).mean() >= 0.95 > (scores >= point.threshold + 2e-6).mean()
    for metric in point.test.values():
        assert 0 < metric["low"] < metric["value"] < metric["high"] < 1


def test_shipped_card_has_the_metrics_of_its_test() -> None:
    metrics = read_card(SHIPPED / "classifier", "classifier", ClassifierCard).metrics
    assert metrics["metrics"]["auroc_malignant"]["value"] == pytest.approx(0.9305178120838731, abs=1e-12)
    assert metrics["metrics"]["sensitivity_flagged_mel"]["value"] == pytest.approx(0.9481132075471698, abs=1e-12)
    assert metrics["metrics"]["sensitivity_flagged"]["value"] == pytest.approx(0.9736147757255936, abs=1e-12)
