"""Metrics of a classifier: against scikit-learn, by hand, and with weights."""

import numpy as np
import pytest
from sklearn import metrics

from segpipe.diagnosis import CODES
from segpipe.metrics.classification import LabeledPredictions, classes_left_out, score_predictions

CLASSES = len(CODES)


def make_predictions(images: int, seed: int = 0, *, digits: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities correlated with the labels; few digits give many ties."""
    random = np.random.default_rng(seed)
    labels = np.concatenate(
        [np.arange(CLASSES), random.choice(CLASSES, images - CLASSES, p=[0.2, 0.4, 0.1, 0.1, 0.1, 0.05, 0.05])]
    )
    logits = random.normal(size=(images, CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs.round(digits), labels


def scikit_scores(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    predicted = probs.argmax(axis=1)
    _, sensitivity, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(CLASSES), sample_weight=weights, zero_division=0
    )
    scores = {
        "accuracy": metrics.accuracy_score(labels, predicted, sample_weight=weights),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted, sample_weight=weights),
        "macro_f1": metrics.f1_score(labels, predicted, average="macro", sample_weight=weights),
    }
    for index, code in enumerate(CODES):
        one, column = labels == index, probs[:, index]
        scores |= {
            f"sensitivity_{code}": sensitivity[index],
            f"specificity_{code}": metrics.recall_score(one, predicted == index, pos_label=0, sample_weight=weights),
            f"f1_{code}": f1[index],
            f"auroc_{code}": metrics.roc_auc_score(one, column, sample_weight=weights),
            f"auprc_{code}": metrics.average_precision_score(one, column, sample_weight=weights),
            f"support_{code}": weights[one].sum(),
        }
    for area in ("auroc", "auprc"):
        scores[f"macro_{area}"] = np.mean([scores[f"{area}_{code}"] for code in CODES])
    return scores


@pytest.mark.parametrize("digits", [6, 1])
@pytest.mark.parametrize("highest_weight", [1, 4])
def test_metrics_equal_those_of_scikit_learn(digits, highest_weight) -> None:
    probs, labels = make_predictions(300, digits=digits)
    weights = np.random.default_rng(1).integers(0, highest_weight, 300, endpoint=True)
    expected = scikit_scores(probs, labels, weights)
    scores = score_predictions(LabeledPredictions(probs, labels, CODES), weights)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_classification_weights_equal_repeated_images() -> None:
    probs, labels = make_predictions(200, digits=2)
    weights = np.random.default_rng(2).integers(0, 4, 200)
    weights[:CLASSES] = 1
    repeated = np.repeat(np.arange(200), weights)
    assert score_predictions(LabeledPredictions(probs, labels, CODES), weights) == pytest.approx(
        score_predictions(LabeledPredictions(probs[repeated], labels[repeated], CODES))
    )


def test_without_weights_each_image_counts_once() -> None:
    predictions = LabeledPredictions(*make_predictions(50), CODES)
    assert score_predictions(predictions) == score_predictions(predictions, np.ones(50, int))


def test_metrics_computed_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    scores = score_predictions(LabeledPredictions(probs, np.array([0, 0, 1, 1, 1]), ["mel", "nv"]))
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["majority_baseline"] == pytest.approx(3 / 5)
    assert [scores["sensitivity_mel"], scores["specificity_nv"]] == pytest.approx([1 / 2, 1 / 2])
    assert [scores["sensitivity_nv"], scores["specificity_mel"]] == pytest.approx([2 / 3, 2 / 3])
    assert scores["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores["f1_mel"] == pytest.approx(1 / 2)
    # Of the 2 x 3 pairs, (0.9 over each of three) and (0.4 over 0.3 and 0.2) are in order.
    assert [scores["auroc_mel"], scores["auroc_nv"]] == pytest.approx([5 / 6, 5 / 6])
    # From the top: 0.9 is mel (precision 1), 0.6 is not, 0.4 is (precision 2/3).
    assert scores["auprc_mel"] == pytest.approx((1 + 2 / 3) / 2)


def test_perfect_predictions_score_one() -> None:
    labels = np.arange(3 * CLASSES) % CLASSES
    scores = score_predictions(LabeledPredictions(np.eye(CLASSES)[labels], labels, CODES))
    assert scores.pop("ece") == 0
    assert scores.pop("majority_baseline") == pytest.approx(1 / CLASSES)
    assert {value for name, value in scores.items() if not name.startswith("support")} == {1}


def test_constant_prediction_scores_at_chance() -> None:
    labels = np.repeat(np.arange(CLASSES), [3, 20, 2, 2, 2, 1, 1])
    probs = np.tile(np.where(np.arange(CLASSES) == CODES.index("nv"), 0.4, 0.1), (len(labels), 1))
    scores = score_predictions(LabeledPredictions(probs, labels, CODES))
    assert scores["accuracy"] == scores["majority_baseline"] == pytest.approx(20 / 31)
    assert scores["balanced_accuracy"] == pytest.approx(1 / CLASSES)
    assert scores["sensitivity_mel"] == 0
    assert scores["macro_auroc"] == pytest.approx(0.5)
    assert [scores[f"auprc_{code}"] for code in CODES] == pytest.approx([n / 31 for n in (3, 20, 2, 2, 2, 1, 1)])


def test_class_without_images_is_left_out_of_the_means() -> None:
    probs, labels = make_predictions(120)
    kept = labels != CODES.index("df")
    predictions = LabeledPredictions(probs, labels, CODES).select(np.flatnonzero(kept))
    scores = score_predictions(predictions)
    assert classes_left_out(predictions) == ["df"]
    assert [name for name, value in scores.items() if value is None] == ["sensitivity_df", "f1_df", "auroc_df", "auprc_df"]
    for mean, name in (("balanced_accuracy", "sensitivity"), ("macro_auroc", "auroc"), ("macro_auprc", "auprc")):
        assert scores[mean] == pytest.approx(np.mean([scores[f"{name}_{code}"] for code in CODES if code != "df"]))


def test_single_class_has_no_auroc() -> None:
    predictions = LabeledPredictions(np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([0, 0]), ["mel", "nv"])
    scores = score_predictions(predictions)
    assert classes_left_out(predictions) == ["mel", "nv"]
    assert scores["macro_auroc"] is None
    assert scores["macro_auprc"] is None
    assert scores["specificity_mel"] is None
    assert scores["balanced_accuracy"] == scores["sensitivity_mel"] == 0.5


def test_weights_without_a_class_leave_the_means_undefined() -> None:
    probs, labels = make_predictions(120)
    scores = score_predictions(LabeledPredictions(probs, labels, CODES), (labels != CODES.index("df")).astype(int))
    assert scores["balanced_accuracy"] is None
    assert scores["macro_auroc"] is None
    assert scores["auroc_df"] is None
    assert scores["auroc_mel"] is not None


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        (np.ones((2, 3)), np.array([0, 1]), r"shape \(2, 2\), images by classes, got \(2, 3\)"),
        (np.ones((0, 2)), np.array([], int), "at least one image"),
        (np.array([[-2.0, 3.0]]), np.array([0]), r"lie in \[0, 1\], got -2.0 to 3.0; give probabilities"),
        (np.array([[np.nan, 0.5]]), np.array([0]), "got nan"),
        (np.array([[0.5, 0.5]]), np.array([2]), "lie in 0 to 1, got 2 to 2"),
        (np.array([[0.5, 0.5]]), np.array([-1]), "lie in 0 to 1, got -1 to -1"),
    ],
)
def test_invalid_arrays_are_refused(probs, labels, message) -> None:
    with pytest.raises(ValueError, match=message):
        LabeledPredictions(probs, labels, ["mel", "nv"])


@pytest.mark.parametrize("weights", [np.ones(3, int), np.zeros(2, int), np.array([2, -1])])
def test_weights_that_are_not_counts_are_refused(weights) -> None:
    with pytest.raises(ValueError, match="weights must be 2 counts of 0 or more, not all 0"):
        score_predictions(LabeledPredictions(np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([0, 1]), ["mel", "nv"]), weights)
