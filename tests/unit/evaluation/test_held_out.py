"""Calibration and scores of a trained classifier, end to end."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.errors import ConfigError
from segpipe.evaluation.held_out import calibrate, present_targets, score_classifier
from segpipe.evaluation.score import card_with_test_metrics, classifier_test_metrics, score_run
from segpipe.evaluation.segmenter_alone import score_segmenter
from segpipe.evaluation.truth import read_truth
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.stages import Classifier, Localizer
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS
from segpipe.io.images import read_image
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.calibration import fit_calibration
from segpipe.metrics.operating_points import OperatingPoint

pytestmark = pytest.mark.usefixtures("few_resamples")


def values(metrics: dict[str, Any], part: str = "classification") -> dict[str, Any]:
    return {name: metric["value"] for name, metric in metrics[part]["metrics"].items()}


def test_training_run_and_user_run_over_the_same_images_have_one_test_set(
    segmenter: SegmenterBundle, classifier: ClassifierBundle, table: pd.DataFrame, tmp_path: Path
) -> None:
    localizer, options = Localizer(None, start=MaskSource.CONTOUR), {"views": VIEWS["none"], "batch_size": 4}
    network = TorchClassifier(classifier, "cpu")
    by_training = score_classifier(localizer, network, table.assign(part="test"), tmp_path / "a", dataset="d", **options)
    of_segmenter = score_segmenter(TorchSegmenter(segmenter, "cpu"), table.assign(part="test"), tmp_path / "b", dataset="d")
    assert by_training["segmentation"]["test_set"] == of_segmenter["segmentation"]["test_set"]
    moved = tmp_path / "moved" / "deep"
    shutil.copytree(Path(table["image_path"][0]).parent, moved)
    table[["image_id", "dx"]].to_csv(tmp_path / "labels.csv", index=False)
    by_user = read_truth(labels=tmp_path / "labels.csv", masks=moved)
    again = score_run(tmp_path / "a", replace(by_user, dataset="d", part="test"))
    for part in ("classification", "segmentation"):
        assert again[part]["test_set"] == by_training[part]["test_set"]


def test_score_of_a_classifier_equals_that_of_a_run(classifier: ClassifierBundle, table: pd.DataFrame, tmp_path: Path) -> None:
    localizer = Localizer(None, start=MaskSource.CONTOUR)
    options = {"views": VIEWS["none"], "batch_size": 4, "dataset": "drawn"}
    network = TorchClassifier(classifier, "cpu")
    metrics = score_classifier(localizer, network, table.assign(part="test"), tmp_path / "deep" / "test", **options)
    results = pd.read_csv(tmp_path / "deep" / "test" / "results.csv")
    correct = [dx == diagnosis for dx, diagnosis in zip(table["dx"], results["diagnosis"], strict=True)]
    assert values(metrics)["accuracy"] == pytest.approx(np.mean(correct))
    assert metrics["segmentation"]["images"] == 10
    assert metrics["classification"]["intervals_over"] == "lesion"
    assert metrics["classification"]["operating_points"] == []
    assert metrics["pipeline"] == {"segmenter": None, "classifier": classifier.sha256, "localize": "contour", "views": 1}
    card = classifier_test_metrics(metrics)
    assert card["localizer"] == metrics["segmentation"]
    assert card["localizer"]["component"] == "localizer"
    assert set(card["localizer"]["mask_sources"]) <= {"contour", "whole_image"}
    assert card["test_set"]["images_sha256"] == card["localizer"]["test_set"]["images_sha256"]
    assert card["test_set"]["sha256"] != card["localizer"]["test_set"]["sha256"]
    assert {"worst.png", "worst_masks.png"} <= {path.name for path in (tmp_path / "deep" / "test" / "plots").iterdir()}


def test_operating_points_are_scored_on_the_test_images(
    classifier: ClassifierBundle, table: pd.DataFrame, tmp_path: Path
) -> None:
    localizer = Localizer(None, start=MaskSource.CONTOUR)
    card = replace(classifier.card, operating_points=(OperatingPoint("nv", 0.1), OperatingPoint("malignant", 0.3)))
    network = TorchClassifier(replace(classifier, card=card), "cpu")
    scored = score_classifier(localizer, network, table, tmp_path, views=VIEWS["none"], batch_size=4)
    results = pd.read_csv(tmp_path / "results.csv")
    is_nv = np.array([dx == "nv" for dx in table["dx"]])
    metrics, reached = values(scored), results["flagged_for"].fillna("").str.split(";")
    for target, positive in (("nv", is_nv), ("malignant", np.isin(table["dx"], MALIGNANT_CODES))):
        flagged = np.array([target in names for names in reached])
        assert metrics[f"sensitivity_flagged_{target}"] == pytest.approx(flagged[positive].mean())
        assert metrics[f"specificity_flagged_{target}"] == pytest.approx(1 - flagged[~positive].mean())
    points = card_with_test_metrics(card, scored).operating_points
    assert [point.test["sensitivity"]["value"] for point in points] == [
        metrics[f"sensitivity_flagged_{target}"] for target in ("nv", "malignant")
    ]


def test_calibration_is_fitted_on_the_logits_of_all_views(classifier: ClassifierBundle, table: pd.DataFrame) -> None:
    localizer = Localizer(None, start=MaskSource.CONTOUR)
    parts = {"train": table, "val": table}
    prediction = {"views": VIEWS["flips"], "batch_size": 4}
    options = {"method": "logit_adjustment", "targets": {"mel": 0.5}, "coverage": 0.6, **prediction}
    card = calibrate(localizer, TorchClassifier(classifier, "cpu"), parts, **options)
    network = Classifier(TorchClassifier(classifier, "cpu"), **prediction)
    images = [read_image(Path(path)) for path in table["image_path"]]
    logits = network.view_logits([network.cut(*pair) for pair in zip(images, localizer(images), strict=True)])
    labels = np.array([CODES.index(code) for code in table["dx"]])
    counts = [int((table["dx"] == code).sum()) for code in CODES]
    expected = fit_calibration("logit_adjustment", logits, labels, counts=counts)
    assert card.temperature == pytest.approx(expected.temperature, rel=1e-4)
    assert card.logit_bias == pytest.approx(expected.logit_bias, rel=1e-3, abs=1e-4)
    assert card.calibration["chosen"] == "logit_adjustment"
    assert set(card.calibration["errors"]) == {"none", "temperature", "logit_adjustment"}
    assert card.validation is not None and card.conformal is not None
    assert card == replace(card, conformal=None).with_prediction_sets(0.6)
    assert len(set(card.validation.lesion_hashes)) == table["lesion_id"].nunique()
    assert sum(card.conformal.images.values()) == table["lesion_id"].nunique()
    # The earlier calibration of the card has no effect.
    warmer = TorchClassifier(replace(classifier, card=replace(classifier.card, temperature=9.0)), "cpu")
    assert calibrate(localizer, warmer, parts, **options) == card


def test_pipeline_flags_the_fraction_of_the_target_sensitivity(classifier: ClassifierBundle, table: pd.DataFrame) -> None:
    localizer = Localizer(None, start=MaskSource.CONTOUR)
    prediction = {"views": VIEWS["flips"], "batch_size": 4}
    options = {"method": "logit_adjustment", "targets": {"nv": 0.5, "malignant": 0.7}, "coverage": 0.9}
    card = calibrate(localizer, TorchClassifier(classifier, "cpu"), {"train": table, "val": table}, **options, **prediction)
    assert [point.target_sensitivity for point in card.operating_points] == [0.5, 0.7]
    ensemble = ClassifierEnsemble([TorchClassifier(replace(classifier, card=card), "cpu")], explained=None, **prediction)
    images = [read_image(Path(path)) for path in table["image_path"]]
    flagged_for = [finding.flagged_for for finding in Pipeline(localizer, ensemble)(images)]
    for target, positive, sensitivity in (
        ("nv", table["dx"] == "nv", 0.5),
        ("malignant", table["dx"].isin(MALIGNANT_CODES), 0.7),
    ):
        flagged = sum(target in names for names, holds in zip(flagged_for, positive, strict=True) if holds)
        assert flagged == math.ceil(sensitivity * positive.sum() - 1e-9)


@pytest.mark.parametrize(
    ("malignant", "codes", "present"),
    [
        (MALIGNANT_CODES, ["mel", "nv"], ["mel", "malignant"]),
        (MALIGNANT_CODES, ["bcc", "nv"], ["malignant"]),
        (MALIGNANT_CODES, ["nv"], []),
        ((), ["mole"], []),
        (("malignant",), ["benign", "malignant"], ["malignant"]),
    ],
)
def test_operating_points_are_for_targets_among_the_validation_images(
    malignant: tuple[str, ...], codes: list[str], present: list[str]
) -> None:
    targets = {"mel": 0.9, "malignant": 0.8}
    assert present_targets(targets, codes, malignant, required=False) == {target: targets[target] for target in present}
    if len(present) < 2:
        with pytest.raises(ConfigError, match=r"threshold\.diagnosis must occur .* validation images, got '"):
            present_targets(targets, codes, malignant, required=True)
