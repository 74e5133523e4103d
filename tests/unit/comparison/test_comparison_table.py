"""Table of a comparison: columns, text, notes."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segpipe.comparison.table import METRICS, NO_ESTIMATE, RATE, ComparedClassifier, Comparison, comparison_text, write_comparison
from segpipe.metrics.classification import LabeledPredictions

PREDICTIONS = LabeledPredictions(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), ("mel", "nv"))
ALL = (*METRICS, RATE)
TEST_SET = {"dataset": "photos", "part": "test", "images": 1234, "images_sha256": "1" * 64, "sha256": "2" * 64}


def compared(title: str, value: float, seen: int | None = 0) -> ComparedClassifier:
    metrics = {name: {"value": value + n / 100, "low": value - 0.1, "high": value + 0.1} for n, name in enumerate(ALL)}
    changes = {name: {"value": -0.25, "low": -0.5, "high": 0.0} for name in ALL}
    return ComparedClassifier(title, Path("runs") / title / "bundle", PREDICTIONS, metrics, changes, 4_220_000, 385_400_000, seen)


@pytest.fixture
def pair() -> Comparison:
    classifiers = [compared("best", 0.75), compared("a|b", 0.5)]
    return Comparison(classifiers, 1234, 1000, "lesion", 0, 0.625, 170, 0, TEST_SET)


def text_of(comparison: Comparison) -> str:
    return comparison_text(comparison, images_from="photos, part test", conditions="views d4, device cpu")


def test_text_of_two_classifiers(pair: Comparison) -> None:
    lines = text_of(pair).splitlines()
    assert lines[2].startswith("1,234 images of 1,000 lesions; views d4, device cpu.")
    assert "95 % bootstrap intervals over lesions" in lines[2] and "**Not a medical device.**" in lines[2]
    assert lines == [
        "# 2 classifiers on photos, part test",
        "",
        lines[2],
        "",
        "| | macro AUROC | balanced accuracy | macro F1 | melanoma sensitivity (n = 170) | "
        "accuracy (majority-class baseline: 0.625) | ECE | parameters (millions) | GMACs | images/s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| best | 0.750 (0.650 to 0.850) | 0.760 (0.650 to 0.850) | 0.770 (0.650 to 0.850) | 0.780 (0.650 to 0.850) | "
        "0.790 (0.650 to 0.850) | 0.800 (0.650 to 0.850) | 4.22 | 0.385 | 0.8 (0.7 to 0.8) |",
        r"| a\|b | 0.500 (0.400 to 0.600) | 0.510 (0.400 to 0.600) | 0.520 (0.400 to 0.600) | 0.530 (0.400 to 0.600) | "
        "0.540 (0.400 to 0.600) | 0.550 (0.400 to 0.600) | 4.22 | 0.385 | 0.6 (0.4 to 0.6) |",
        "",
        "Differences from best, paired over the same resampled lesions:",
        "",
        "| | macro AUROC | balanced accuracy | macro F1 | melanoma sensitivity | accuracy | ECE | images/s, ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        rf"| a\|b |{' -0.250 (-0.500 to +0.000) |' * 6} -0.25 (-0.50 to 0.00) |",
        "",
        f"All classifiers are scored on 1,234 images of photos, part test (test set {'2' * 12}).",
    ]


def test_models_that_may_have_seen_the_images_get_a_note(pair: Comparison) -> None:
    best, other = pair.classifiers
    third = replace(other, title="third", seen=1200)
    text = text_of(replace(pair, classifiers=[replace(best, seen=None), other, third], segmenter_seen=7))
    assert "| best [1] |" in text and r"| a\|b |" in text and text.count("| third [2] |") == 2
    first, _, second, _, segmenter = text.splitlines()[-5:]
    assert first.startswith("[1] best has no record of its training images")
    assert second.startswith("[2] third has seen 1,200 of these images")
    assert segmenter.startswith("The segmenter has seen 7 of these images")


def test_images_replace_unknown_lesions_and_failures_are_counted(pair: Comparison) -> None:
    text = text_of(replace(pair, interval_unit="image", failed=3))
    assert "\n1,234 images (3 more failed); views d4, device cpu. " in text
    assert "95 % bootstrap intervals over images" in text


def test_undefined_metrics_are_none_in_the_text_and_empty_in_the_csv(pair: Comparison, tmp_path: Path) -> None:
    best, other = pair.classifiers
    without = {"sensitivity_mel": NO_ESTIMATE, "macro_f1": {"value": 0.5, "low": None, "high": None}}
    classifiers = [replace(one, metrics={**one.metrics, **without}) for one in (best, other)]
    comparison = replace(pair, classifiers=classifiers, melanomas=None)
    text = text_of(comparison)
    assert "| melanoma sensitivity | accuracy" in text and "| 0.500 | none | 0.790" in text
    assert "without an interval" in text.splitlines()[-1]
    assert "too few" not in text_of(pair)
    write_comparison(tmp_path / "comparison.csv", comparison)
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["sensitivity_mel"] + row["sensitivity_mel_low"] + row["macro_f1_low"] for row in rows] == ["", ""]
    assert [float(row["macro_f1"]) for row in rows] == [0.5, 0.5]


def test_columns_of_the_csv(pair: Comparison, tmp_path: Path) -> None:
    write_comparison(tmp_path / "comparison.csv", pair)
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as table:
        first, second = csv.DictReader(table)
    of_metrics = [f"{name}{change}{end}" for name in METRICS for change in ("", "_change") for end in ("", "_low", "_high")]
    of_rate = [f"{RATE}{ratio}{end}" for ratio in ("", "_ratio") for end in ("", "_low", "_high")]
    assert list(first) == [
        *("title", "bundle", "images", "lesions", "images_seen_in_training", "majority_baseline"),
        *(*of_metrics, "parameters_millions", "gmacs", *of_rate),
        *("dataset", "part", "test_set_sha256"),
    ]
    assert (second["dataset"], second["part"], second["test_set_sha256"]) == ("photos", "test", "2" * 64)
    assert (second["title"], second["bundle"]) == ("a|b", "runs/a|b/bundle")
    assert [float(second[name]) for name in ("parameters_millions", "gmacs", "images", "lesions")] == [4.22, 0.3854, 1234, 1000]
    assert float(first["macro_auroc"]) == 0.75 and float(first["macro_auroc_change_low"]) == -0.5
