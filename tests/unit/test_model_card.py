"""The model card says what the bundles say, and nothing is left out because it looks bad."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segpipe.bundle import ClassifierBundle, SegmenterBundle, save_bundle
from segpipe.diagnosis import CODES
from segpipe.evaluation.bootstrap import with_intervals
from segpipe.evaluation.classification import Answers, score_answers
from segpipe.evaluation.model_card import LIMITS, LIMITS_OF_DATA, main, model_card
from segpipe.evaluation.segmentation import score_masks
from segpipe.evaluation.table import figure_text, results_table
from segpipe.operating_points import OperatingPoint


@pytest.fixture(scope="module")
def bundles(segmenter: SegmenterBundle, classifier: ClassifierBundle) -> tuple[SegmenterBundle, ClassifierBundle]:
    """The bundles with figures on their cards, as `segpipe.evaluation.ship` puts them there."""
    random = np.random.default_rng(0)
    labels = np.arange(70) % 7
    answers = Answers(random.dirichlet(np.ones(7), 70), labels, CODES)
    screening = {
        f"{figure}_{name}{rest}": {"value": 0.5, "low": 0.4, "high": 0.6}
        for name in ("mel", "malignant")
        for figure, rest in [
            ("auroc", ""),
            *(
                (one, f"_at_{other}_{digits}")
                for one, other in (("sensitivity", "specificity"), ("specificity", "sensitivity"))
                for digits in ("090", "095")
            ),
        ]
    }
    flags = {
        "sensitivity_flagged": {"value": 0.951, "low": 0.9, "high": 0.99},
        "specificity_flagged": {"value": 0.612, "low": 0.5, "high": 0.7},
    }
    measured = {name: flags[f"{name}_flagged"] for name in ("sensitivity", "specificity")}
    lesions = [str(number) for number in range(70)]
    named = with_intervals(lambda weights: score_answers(answers, weights), lesions, resamples=20) | screening | flags
    groups = {
        "sex": {
            "female": {
                "classification": {
                    "images": 40,
                    "lesions": 40,
                    "metrics": {"balanced_accuracy": {"value": 0.123, "low": None, "high": None}},
                }
            }
        }
    }
    metrics: dict[str, Any] = {"images": 70, "intervals_over": "lesion", "metrics": named, "groups": groups}
    overlaps = random.random((2, 70))
    masks = {"images": 70, "metrics": with_intervals(lambda weights: score_masks(*overlaps, weights), lesions, resamples=20)}
    training = replace(classifier.card.training, counts={"train": {"mel": 1113, "nv": 6705}, "test": {"mel": 12}})
    card = replace(
        classifier.card,
        metrics=metrics,
        training=training,
        operating_points=(OperatingPoint("mel", 0.0712, 0.95, measured), OperatingPoint("malignant", 0.25, 0.9)),
        calibration={
            "images": 900,
            "chosen": "temperature",
            "errors": {
                "none": {"temperature": 1.0, "nll": 0.9, "ece": 0.222, "accuracy": 0.7, "balanced_accuracy": 0.6},
                "temperature": {"temperature": 1.5, "nll": 0.8, "ece": 0.021, "accuracy": 0.7, "balanced_accuracy": 0.6},
            },
        },
    )
    return replace(segmenter, card=replace(segmenter.card, metrics=masks)), replace(classifier, card=card)


@pytest.fixture(scope="module")
def text(bundles: tuple[SegmenterBundle, ClassifierBundle]) -> str:
    return model_card(*bundles)


def test_it_says_what_it_is_not(text: str) -> None:
    assert text.startswith("# Model card\n\n**Not a medical device.**")
    assert LIMITS in text
    assert "HAM10000" not in text.partition("## Data")[0]


def test_the_limits_of_a_known_data_set_are_named(bundles: tuple[SegmenterBundle, ClassifierBundle]) -> None:
    segmenter, classifier = bundles
    training = replace(classifier.card.training, dataset="ham10000")
    text = model_card(segmenter, replace(classifier, card=replace(classifier.card, training=training)))
    assert f"{LIMITS_OF_DATA['ham10000']}\n{LIMITS}" in text


def test_every_figure_of_the_cards_stands_in_it(bundles: tuple[SegmenterBundle, ClassifierBundle], text: str) -> None:
    segmenter, classifier = (bundle.card.metrics for bundle in bundles)
    assert results_table({"test": {"segmentation": segmenter, "classification": classifier}}) in text
    shown = [name for name in classifier["metrics"] if not name.startswith("support")]
    left_out = {"macro_auprc", "macro_f1"}
    missing = [name for name in shown if name not in left_out and figure_text(classifier["metrics"][name]) not in text]
    assert missing == []


def test_each_class_has_its_number_of_images(text: str) -> None:
    rows = [line for line in text.splitlines() if line.split(" | ")[0].removeprefix("| ") in CODES]
    assert [row.split(" | ")[1] for row in rows] == ["10"] * 7
    assert "| train | 1,113 | 6,705 |" in text


def test_operating_point_groups_and_calibration_are_shown(text: str) -> None:
    assert "| melanoma (mel) | 0.0712 | 0.95 | 0.951 (0.900 to 0.990) | 0.612 (0.500 to 0.700) |" in text
    assert "| malignancy (malignant) | 0.2500 | 0.9 |" in text
    assert "| sex: female | 40 | 0.123 |" in text
    assert "| temperature (shipped) | 0.800 | 0.021 |" in text


def test_a_leak_that_was_allowed_is_said_loudly(bundles: tuple[SegmenterBundle, ClassifierBundle], text: str) -> None:
    segmenter, classifier = bundles
    leaking = replace(classifier.card, training=replace(classifier.card.training, leaks_allowed=True))
    assert "No leak was allowed" in text
    assert "**A leak was allowed by name" in model_card(segmenter, replace(classifier, card=leaking))


def test_without_a_threshold_and_a_calibration_it_says_so(bundles: tuple[SegmenterBundle, ClassifierBundle]) -> None:
    segmenter, classifier = bundles
    bare = model_card(segmenter, replace(classifier, card=replace(classifier.card, operating_points=(), calibration={})))
    assert "No operating point was chosen" in bare
    assert "None was fitted." in bare


def test_command_writes_it_from_the_folders(
    bundles: tuple[SegmenterBundle, ClassifierBundle], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, bundle in zip(("segmenter", "classifier"), bundles, strict=True):
        save_bundle(tmp_path / name, bundle.model, bundle.card)
    named = ["--segmenter", str(tmp_path / "segmenter"), "--classifier", str(tmp_path / "classifier")]
    assert main(named) == 0
    assert "| sex: female | 40 | 0.123 |" in capsys.readouterr().out
    assert main(["--segmenter", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
