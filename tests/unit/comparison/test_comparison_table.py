"""The table of a comparison: each figure in its column, each note where it belongs."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segpipe.comparison.table import METRICS, NO_FIGURE, RATE, Comparison, Entry, comparison_text, write_comparison
from segpipe.metrics.classification import Answers

ANSWERS = Answers(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), ("mel", "nv"))
ALL = (*METRICS, RATE)
TEST_SET = {"dataset": "photos", "part": "test", "images": 1234, "images_sha256": "1" * 64, "sha256": "2" * 64}


def entry_of(title: str, value: float, seen: int | None = 0) -> Entry:
    figures = {name: {"value": value + n / 100, "low": value - 0.1, "high": value + 0.1} for n, name in enumerate(ALL)}
    changes = {name: {"value": -0.25, "low": -0.5, "high": 0.0} for name in ALL}
    return Entry(title, Path("runs") / title / "bundle", ANSWERS, figures, changes, 4_220_000, 385_400_000, seen)


@pytest.fixture
def pair() -> Comparison:
    entries = [entry_of("best", 0.75), entry_of("a|b", 0.5)]
    return Comparison(entries, 1234, 1000, "lesion", 0, 0.625, 170, 0, TEST_SET)


def text_of(comparison: Comparison) -> str:
    return comparison_text(comparison, images_from="photos, part test", conditions="views d4, device cpu")


def test_text_of_two_classifiers(pair: Comparison) -> None:
    assert text_of(pair).splitlines() == [
        "# 2 classifiers on photos, part test",
        "",
        "1,234 images of 1,000 lesions; views d4, device cpu. In brackets 95 % bootstrap intervals over lesions, and for "
        "images/s (the classifier alone, timed side by side) the range over the rounds. The best by macro AUROC comes first. "
        "**Not a medical device.**",
        "",
        "| | macro AUROC | balanced accuracy | macro F1 | melanoma sensitivity (n = 170) | "
        "accuracy (commonest class alone: 0.625) | ECE | parameters (millions) | GMACs | images/s |",
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
        f"All are scored on 1,234 images of photos, part test (test set {'2' * 12}).",
    ]


def test_what_has_seen_the_images_is_marked_and_the_note_says_what_is_known(pair: Comparison) -> None:
    best, other = pair.entries
    third = replace(other, title="third", seen=1200)
    text = text_of(replace(pair, entries=[replace(best, seen=None), other, third], segmenter_seen=7))
    assert "| best [1] |" in text and r"| a\|b |" in text and text.count("| third [2] |") == 2
    assert text.splitlines()[-5:] == [
        "[1] best does not say on its card which images it has seen in training; if these are among them, its figures flatter.",
        "",
        "[2] third has seen 1,200 of these images, or others of their lesions, in training or validation: its figures flatter.",
        "",
        "The segmenter has seen 7 of these images, or others of their lesions, in training or validation: its figures flatter.",
    ]


def test_images_stand_for_lesions_that_are_not_known_and_failures_are_told(pair: Comparison) -> None:
    text = text_of(replace(pair, interval_unit="image", failed=3))
    assert "\n1,234 images (3 more failed); views d4, device cpu. In brackets 95 % bootstrap intervals over images," in text


def test_figures_that_do_not_exist_are_none_in_the_text_and_empty_in_the_table(pair: Comparison, tmp_path: Path) -> None:
    best, other = pair.entries
    without = {"sensitivity_mel": NO_FIGURE, "macro_f1": {"value": 0.5, "low": None, "high": None}}
    entries = [replace(entry, figures={**entry.figures, **without}) for entry in (best, other)]
    comparison = replace(pair, entries=entries, melanomas=None)
    text = text_of(comparison)
    assert "| melanoma sensitivity | accuracy" in text and "| 0.500 | none | 0.790" in text
    assert text.endswith("A figure without an interval rests on too few lesions for one.")
    assert "too few" not in text_of(pair)
    write_comparison(tmp_path / "comparison.csv", comparison)
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["sensitivity_mel"] + row["sensitivity_mel_low"] + row["macro_f1_low"] for row in rows] == ["", ""]
    assert [float(row["macro_f1"]) for row in rows] == [0.5, 0.5]


def test_columns_of_the_table(pair: Comparison, tmp_path: Path) -> None:
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
