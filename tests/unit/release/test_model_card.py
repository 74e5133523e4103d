"""Model card: all metrics of the bundles, test sets, limits."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.bundle.saving import save_bundle
from segpipe.cli.main import main
from segpipe.diagnosis import CODES
from segpipe.errors import BundleError
from segpipe.evaluation.heatmap_metrics import heatmap_metrics, heatmap_table
from segpipe.evaluation.text import metric_text, results_table
from segpipe.evaluation.truth import GroundTruth
from segpipe.metrics.bootstrap import with_intervals
from segpipe.metrics.classification import LabeledPredictions, score_predictions
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.metrics.segmentation import score_masks
from segpipe.release.model_card import LIMITS, LIMITS_OF_DATA, model_card


@pytest.fixture(scope="module")
def bundles(segmenter: SegmenterBundle, classifier: ClassifierBundle) -> tuple[SegmenterBundle, ClassifierBundle]:
    """Bundles with metrics on their cards, as of an export."""
    random = np.random.default_rng(0)
    labels = np.arange(70) % 7
    predictions = LabeledPredictions(random.dirichlet(np.ones(7), 70), labels, CODES)
    screening = {
        f"{metric}_{name}{rest}": {"value": 0.5, "low": 0.4, "high": 0.6}
        for name in ("mel", "malignant")
        for metric, rest in [
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
    named = with_intervals(lambda weights: score_predictions(predictions, weights), lesions, resamples=20) | screening | flags
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
    overlaps = random.random((2, 2, 70))
    localizer, alone = (
        {"images": 70, "metrics": with_intervals(partial(score_masks, *rows), lesions, resamples=20), "test_set": identity("2")}
        for rows in overlaps
    )
    localizer |= {"mask_sources": {"contour": 64, "unet": 6}, "component": "localizer"}
    metrics: dict[str, Any] = {"images": 70, "intervals_over": "lesion", "metrics": named, "groups": groups}
    metrics |= {"test_set": identity("1"), "localizer": localizer, "mask_sources": {"contour": 64, "unet": 6}}
    metrics |= {"pipeline": {"segmenter": segmenter.sha256, "classifier": classifier.sha256, "localize": "unet", "views": 8}}
    masks = localizer | {"segmenter_alone": alone | {"component": "segmenter"}}
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


def identity(sha256: str, *, dataset: str = "drawn", images: str = "0") -> dict[str, Any]:
    """Make the identity of a test set."""
    return {"dataset": dataset, "part": "test", "images": 70, "images_sha256": images * 64, "sha256": sha256 * 64}


@pytest.fixture(scope="module")
def text(bundles: tuple[SegmenterBundle, ClassifierBundle]) -> str:
    return model_card(*bundles)


def test_card_has_disclaimer_and_limits(text: str) -> None:
    assert text.startswith("# Model card\n\n**Not a medical device.**")
    assert LIMITS in text
    assert "HAM10000" not in text.partition("## Data")[0]


def test_limits_of_a_known_data_set_are_named(bundles: tuple[SegmenterBundle, ClassifierBundle]) -> None:
    segmenter, classifier = bundles
    training = replace(classifier.card.training, dataset="ham10000")
    text = model_card(segmenter, replace(classifier, card=replace(classifier.card, training=training)))
    assert f"{LIMITS_OF_DATA['ham10000']}\n{LIMITS}" in text


def test_every_metric_of_the_cards_is_shown(bundles: tuple[SegmenterBundle, ClassifierBundle], text: str) -> None:
    segmenter, classifier = (bundle.card.metrics for bundle in bundles)
    assert results_table({"test": {"segmentation": classifier["localizer"], "classification": classifier}}) in text
    for name in ("dice", "jaccard", "thresholded_jaccard", "share_below_065"):
        both = " | ".join(metric_text(metrics["metrics"][name]) for metrics in (segmenter["segmenter_alone"], segmenter))
        assert f"| {both} |" in text
    shown = [name for name in classifier["metrics"] if not name.startswith("support")]
    left_out = {"macro_auprc", "macro_f1"}
    missing = [name for name in shown if name not in left_out and metric_text(classifier["metrics"][name]) not in text]
    assert missing == []


def test_heatmaps_are_shown_where_they_were_tested(bundles: tuple[SegmenterBundle, ClassifierBundle], text: str) -> None:
    assert "## Heatmaps" not in text
    segmenter, classifier = bundles
    measured = {"follow": 0.123, "stay": 0.5, "symmetry": 0.0, "energy": 0.6, "even": 0.4}
    table = pd.DataFrame([{"path": str(n), "sha256": str(n), "explained": "mel", **measured} for n in range(3)])
    part = heatmap_metrics(table, GroundTruth(dataset="drawn"), resamples=10)
    card = replace(classifier.card, metrics={**classifier.card.metrics, "heatmaps": part})
    section = model_card(segmenter, replace(classifier, card=card)).partition("## Heatmaps")[2].partition("\n## ")[0]
    assert heatmap_table({"test": part}) in section
    assert "3 images of drawn" in section
    broken = replace(card, metrics={**card.metrics, "heatmaps": {"images": 3}})
    with pytest.raises(BundleError):
        model_card(segmenter, replace(classifier, card=broken))


def test_tests_on_the_same_images_are_described_as_such(text: str) -> None:
    assert f"On 70 images of drawn, part test (test set {'1' * 12}), end to end: crops by the segmenter above" in text
    assert "8 views averaged; the same weights as above; masks from contour 64, unet 6" in text
    assert f"On 70 images of drawn, part test (test set {'2' * 12}); the same images as in the test of the classifier." in text
    assert "**" not in text.partition("## Metrics")[2].partition("## Each class")[0]


def with_metrics(bundle: Any, **changed: Any) -> Any:
    return replace(bundle, card=replace(bundle.card, metrics={**bundle.card.metrics, **changed}))


def test_tests_on_other_images_have_their_own_data_sets(
    bundles: tuple[SegmenterBundle, ClassifierBundle],
) -> None:
    segmenter, classifier = bundles
    other = with_metrics(segmenter, images=16, test_set=identity("3", dataset="elsewhere", images="9"))
    text = model_card(replace(other, sha256="e" * 64), classifier)
    assert f"**crops by another segmenter** (SHA-256 `{'u' * 12}`)" in text
    assert (
        f"On 16 images of elsewhere, part test (test set {'3' * 12}); **other images than in the test of the classifier**" in text
    )


def test_masks_and_labels_of_different_images_share_no_table(bundles: tuple[SegmenterBundle, ClassifierBundle]) -> None:
    segmenter, classifier = bundles
    localizer = classifier.card.metrics["localizer"] | {"images": 12, "test_set": identity("4", images="8")}
    text = model_card(segmenter, with_metrics(classifier, localizer=localizer))
    assert results_table({"test": {"segmentation": localizer, "classification": classifier.card.metrics}}) not in text
    named, masks = (
        results_table({"test": part}) for part in ({"classification": classifier.card.metrics}, {"segmentation": localizer})
    )
    assert text.index(named) < text.index("scored on 12 images of drawn") < text.index(masks)


@pytest.mark.parametrize("which", ["segmenter", "classifier", "both"])
def test_card_without_a_hash_equals_no_other(bundles: tuple[SegmenterBundle, ClassifierBundle], which: str) -> None:
    cut = [
        with_metrics(bundle, test_set=None, localizer=None, pipeline=None) if which in (name, "both") else bundle
        for name, bundle in zip(("segmenter", "classifier"), bundles, strict=True)
    ]
    text = model_card(*cut)
    assert "of an unknown test set (no hash was recorded)" in text
    assert "not recorded whether they are those of the test of the classifier" in text
    assert "the same images" not in text
    assert ("the segmenter that cut the crops was not recorded" in text) == (which != "segmenter")


def test_segmenter_without_own_metrics_is_described_as_such(bundles: tuple[SegmenterBundle, ClassifierBundle]) -> None:
    segmenter, classifier = bundles
    text = model_card(with_metrics(segmenter, segmenter_alone=None), classifier)
    assert "The segmenter alone was not scored." in text
    assert "| | localizer, end to end |" in text


def test_bundles_without_a_test_are_described_as_such(segmenter: SegmenterBundle, classifier: ClassifierBundle) -> None:
    text = model_card(segmenter, classifier)
    for name in ("segmenter", "classifier"):
        assert f"The card of this {name} has no test metrics" in text
    assert "## Groups" not in text


def test_different_training_data_of_the_segmenter_are_named(bundles: tuple[SegmenterBundle, ClassifierBundle], text: str) -> None:
    segmenter, classifier = bundles
    assert "Data of both: tiny" in text
    training = replace(segmenter.card.training, dataset="elsewhere", leaks_allowed=True)
    other = model_card(replace(segmenter, card=replace(segmenter.card, training=training)), classifier)
    assert "Data of segmenter: elsewhere, split by lesion: no lesion is in two parts. **Leaks were" in other
    assert "Data of classifier: tiny, split by lesion: no lesion is in two parts. No leaks were" in other


def test_each_class_has_its_number_of_images(text: str) -> None:
    rows = [line for line in text.splitlines() if line.split(" | ")[0].removeprefix("| ") in CODES]
    assert [row.split(" | ")[1] for row in rows] == ["10"] * 7
    assert "| train | 1,113 | 6,705 |" in text


def test_operating_point_groups_and_calibration_are_shown(text: str) -> None:
    assert "| melanoma (mel) | 0.0712 | 0.95 | 0.951 (0.900 to 0.990) | 0.612 (0.500 to 0.700) |" in text
    assert "| malignancy (malignant) | 0.2500 | 0.9 |" in text
    assert "| sex: female | 40 | 0.123 |" in text
    assert "| temperature (shipped) | 0.800 | 0.021 |" in text


def test_allowed_leaks_are_shown_in_bold(bundles: tuple[SegmenterBundle, ClassifierBundle], text: str) -> None:
    segmenter, classifier = bundles
    leaking = replace(classifier.card, training=replace(classifier.card.training, leaks_allowed=True))
    assert "No leaks were allowed" in text
    assert "**Leaks were explicitly allowed" in model_card(segmenter, replace(classifier, card=leaking))


def test_missing_operating_points_and_calibration_are_stated(bundles: tuple[SegmenterBundle, ClassifierBundle]) -> None:
    segmenter, classifier = bundles
    bare = model_card(segmenter, replace(classifier, card=replace(classifier.card, operating_points=(), calibration={})))
    assert "No operating point was chosen" in bare
    assert "No calibration was fitted." in bare


def test_command_writes_the_model_card(
    bundles: tuple[SegmenterBundle, ClassifierBundle], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, bundle in zip(("segmenter", "classifier"), bundles, strict=True):
        save_bundle(tmp_path / name, bundle.model, bundle.card)
    named = [f"bundle.{name}={tmp_path / name}" for name in ("segmenter", "classifier")]
    assert main(["card", *named]) == 0
    text = capsys.readouterr().out
    assert "| sex: female | 40 | 0.123 |" in text
    assert main(["card", *named, f"output={tmp_path / 'new' / 'card.md'}"]) == 0
    assert capsys.readouterr().out == f"model card in {tmp_path / 'new' / 'card.md'}\n"
    assert (tmp_path / "new" / "card.md").read_text(encoding="utf-8") == text
    assert main(["card", f"bundle.segmenter={tmp_path / 'nowhere'}"]) == 2
    assert capsys.readouterr().err.startswith("error: bundle.segmenter must be an existing path")
    assert main(["card", f"bundle.classifier=[{tmp_path},{tmp_path}]"]) == 2
    assert capsys.readouterr().err.startswith("error: bundle.classifier must be a text")


@pytest.mark.parametrize("field", ["metrics", "calibration", "training"])
def test_card_with_missing_values_is_refused(bundles: tuple[SegmenterBundle, ClassifierBundle], field: str) -> None:
    segmenter, classifier = bundles
    score = {"value": 0.5, "low": None, "high": None}
    changed = {
        "metrics": {"images": 1, "metrics": {"accuracy": score}},
        "calibration": {"images": "many"},
        "training": replace(classifier.card.training, settings={"classifier": 5}),
    }
    with pytest.raises(BundleError, match=r"card\.json must hold the metrics"):
        model_card(segmenter, replace(classifier, card=replace(classifier.card, **{field: changed[field]})))


def test_control_characters_of_a_card_are_escaped(bundles: tuple[SegmenterBundle, ClassifierBundle]) -> None:
    segmenter, classifier = bundles
    card = replace(classifier.card, licence="free\x1b[2J\u202e")
    assert "free\\x1b[2J\\u202e" in model_card(segmenter, replace(classifier, card=card))
