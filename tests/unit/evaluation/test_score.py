"""Evaluation is prediction plus labels: a table written by hand gives figures that can be counted on the fingers."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from segpipe.bundle.card import Training
from segpipe.bundle.folder import ClassifierBundle, SegmenterBundle, save_bundle
from segpipe.config.schemas import TrainClsConfig
from segpipe.data.check import CheckedDataset
from segpipe.data.splits import PARTS
from segpipe.data.synthetic.dataset import make_image
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.errors import BundleError, ConfigError, DatasetError
from segpipe.evaluation.headline import headline
from segpipe.evaluation.held_out import calibrate, load_unseen_segmenter, present_targets, score_classifier, truth_of
from segpipe.evaluation.score import (
    classifier_figures,
    measure_overlaps,
    score_overlaps,
    score_run,
    scored_card,
    segmenter_figures,
)
from segpipe.evaluation.segmenter_alone import score_segmenter
from segpipe.evaluation.truth import GroundTruth, read_truth
from segpipe.inference.classifier import Classifier
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.pipeline import Locator, Pipeline
from segpipe.inference.tta import VIEWS
from segpipe.io.images import read_image, read_mask, write_png
from segpipe.lesion.localizer import MaskSource
from segpipe.metrics.calibration import fit_calibration
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.runs.source import result_names
from segpipe.training.setup import TrainingData
from segpipe.types import BoolMask

pytestmark = pytest.mark.usefixtures("few_resamples")

CPU = torch.device("cpu")
TRUTH = {"a": "mel", "b": "nv", "c": "nv", "d": "bcc", "e": "nv", "f": "mel"}
ANSWERS = {"a": "mel", "b": "nv", "c": "mel", "d": "bcc", "e": "nv", "f": "mel"}  # c is wrong


def half(columns: int) -> BoolMask:
    """A mask of 10 x 20 pixels, true in the first columns."""
    mask = np.zeros((10, 20), dtype=np.bool_)
    mask[:, :columns] = True
    return mask


def write_run(output: Path, paths: Sequence[str], answers: Sequence[str], masks: Sequence[BoolMask] | None = None) -> Path:
    """What a run writes: each answer with 70 %, the rest shared out."""
    (output / "masks").mkdir(parents=True)
    rows = [
        {"path": path, "diagnosis": answer, "confidence": 0.7}
        | {f"p_{code}": 0.7 if code == answer else 0.05 for code in CODES}
        | {"p_malignant": 0.5, "mask_source": "unet", "sha256": sha256(path.encode()).hexdigest()}
        for path, answer in zip(paths, answers, strict=True)
    ]
    pd.DataFrame(rows).to_csv(output / "results.csv", index=False)
    names = result_names([Path(path) for path in paths])
    for path, mask in zip(paths, masks or [half(10)] * len(paths), strict=True):
        write_png(output / "masks" / names[Path(path)], mask)
    return output


def write_labels(folder: Path, form: str, truth: dict[str, str]) -> Path:
    path = folder / f"{form}.csv"
    match form:
        case "ham10000":
            table = pd.DataFrame({"lesion_id": "L1", "image_id": list(truth), "dx": list(truth.values())})
            table = table.drop(columns="lesion_id")
        case "isic":
            one_hot = {code.upper(): [float(dx == code) for dx in truth.values()] for code in CODES}
            table = pd.DataFrame({"image": list(truth), **one_hot})
        case _:
            table = pd.DataFrame({"image": [f"{name}.jpg" for name in truth], "label": [dx.upper() for dx in truth.values()]})
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def scored(few_resamples: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The metrics of one run under each form of labels."""
    folder = tmp_path_factory.mktemp("scored")
    metrics = {}
    for form in ("ham10000", "isic", "image_label"):
        output = write_run(folder / form, [*(f"{name}.jpg" for name in ANSWERS), "x.jpg"], [*ANSWERS.values(), "nv"])
        metrics[form] = score_run(output, read_truth(labels=write_labels(folder, form, TRUTH), masks=None))
        assert json.loads((output / "metrics.json").read_text()) == metrics[form]
        assert {path.name for path in (output / "plots").iterdir()} == {
            *("confusion_matrix.png", "roc.png", "precision_recall.png", "reliability.png")
        }
    return metrics


def values(metrics: dict[str, Any], part: str = "classification") -> dict[str, Any]:
    return {name: figure["value"] for name, figure in metrics[part]["metrics"].items()}


def test_labels_in_three_forms_score_alike(scored: dict[str, dict[str, Any]]) -> None:
    assert scored["ham10000"] == scored["isic"] == scored["image_label"]


def test_figures_of_a_run_written_by_hand(scored: dict[str, dict[str, Any]]) -> None:
    found = values(scored["isic"])
    assert found["accuracy"] == pytest.approx(5 / 6)
    assert found["majority_baseline"] == pytest.approx(3 / 6)
    assert found["balanced_accuracy"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert found["sensitivity_nv"] == pytest.approx(2 / 3)
    assert found["specificity_mel"] == pytest.approx(3 / 4)
    assert found["auroc_bcc"] == 1
    assert found["ece"] == pytest.approx(5 / 6 - 0.7)
    assert found["sensitivity_df"] is None
    assert scored["isic"]["classification"]["classes_left_out"] == ["akiec", "bkl", "df", "vasc"]


def test_images_without_a_label_are_counted_and_not_scored(scored: dict[str, dict[str, Any]]) -> None:
    assert scored["isic"]["images"] == 7
    assert scored["isic"]["classification"]["images"] == 6
    assert scored["isic"]["classification"]["images_without_label"] == 1


def test_each_figure_lies_in_its_interval(scored: dict[str, dict[str, Any]]) -> None:
    figures = scored["isic"]["classification"]["metrics"]
    assert figures["accuracy"]["low"] < figures["accuracy"]["value"] < figures["accuracy"]["high"]
    for figure in figures.values():
        assert figure["low"] is None or figure["low"] <= figure["value"] <= figure["high"]


def test_intervals_are_over_lesions_where_they_are_known(scored: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    assert scored["isic"]["classification"]["intervals_over"] == "image"
    output = write_run(tmp_path / "out", [f"{name}.jpg" for name in ANSWERS], list(ANSWERS.values()))
    by_lesion = score_run(output, GroundTruth(TRUTH, lesions=dict(zip(TRUTH, ("L1", "L1", "L1", "L2", "L3", "L3"), strict=True))))
    assert by_lesion["classification"]["intervals_over"] == "lesion"
    assert values(by_lesion) == values(scored["isic"])
    assert by_lesion["classification"]["metrics"]["accuracy"] != scored["isic"]["classification"]["metrics"]["accuracy"]
    strangers = score_run(output, GroundTruth(TRUTH, lesions={"stranger": "L9"}))
    assert strangers["classification"]["intervals_over"] == "image"


def test_lesion_ids_come_from_the_labels_or_else_from_the_split(tmp_path: Path) -> None:
    labels, split = tmp_path / "labels.csv", tmp_path / "split.csv"
    split.write_text("image_id,lesion_id,part\na,S1,train\nb,S2,test\n")
    labels.write_text("image_id,lesion_id,dx\na,L1,mel\nb,,nv\na,L1,mel\n")
    assert read_truth(labels=labels, masks=None, split=split) == GroundTruth({"a": "mel", "b": "nv"}, None, {"a": "L1"})
    labels.write_text("image,label\na,mel\n")
    assert read_truth(labels=labels, masks=None, split=split).lesions == {"a": "S1", "b": "S2"}
    assert read_truth(labels=labels, masks=None).lesions == {}
    assert read_truth(labels=None, masks=None) == GroundTruth()


def test_labels_that_name_none_of_the_images_are_refused(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg"], ["mel"])
    with pytest.raises(DatasetError, match="labels must name at least one of the 1 images"):
        score_run(output, GroundTruth({"b": "mel"}))
    with pytest.raises(DatasetError, match=r"labels must name classes among .* 'no diagnosis of ours'"):
        score_run(output, GroundTruth({"a": "no diagnosis of ours"}))


def test_masks_are_scored_against_the_true_ones(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg", "sub/b.png", "c.jpg"], ["mel"] * 3, [half(10), half(10), half(20)])
    (tmp_path / "true").mkdir()
    write_png(tmp_path / "true" / "a_segmentation.png", half(10))
    write_png(tmp_path / "true" / "b.png", half(20))
    metrics = score_run(output, read_truth(labels=None, masks=tmp_path / "true"))
    assert (metrics["segmentation"]["images"], metrics["segmentation"]["images_without_mask"]) == (2, 1)
    found = values(metrics, "segmentation")
    assert found["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["jaccard"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["thresholded_jaccard"] == pytest.approx((1 + 0) / 2)
    assert metrics["mask_sources"] == {"unet": 3}
    assert "classification" not in metrics


def test_each_image_is_scored_by_its_own_mask_where_names_recur(tmp_path: Path) -> None:
    paths = ["a.jpg", "a.png", "sub/a.jpg", "b.jpg"]
    output = write_run(tmp_path / "out", paths, ["mel"] * 4, [half(20), half(10), half(5), half(20)])
    (tmp_path / "true").mkdir()
    for name in ("a.jpg.png", "a.png.png", "sub/a.png"):
        write_png(tmp_path / "true" / name, half(20))
    metrics = score_run(output, read_truth(labels=None, masks=tmp_path / "true"))
    assert values(metrics, "segmentation")["jaccard"] == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    write_png(tmp_path / "one" / "a.png", half(20))
    with pytest.raises(DatasetError, match=r"masks must say which image is meant, got 'a', which may be a\.jpg or"):
        score_run(output, read_truth(labels=None, masks=tmp_path / "one"))


def test_mask_is_found_where_the_other_image_of_its_name_has_failed(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg", "a.png"], ["mel"] * 2, [half(20), half(10)])
    table = pd.read_csv(output / "results.csv")
    table[table["path"] == "a.jpg"].to_csv(output / "results.csv", index=False)
    metrics = score_run(output, GroundTruth(masks={"a": output / "masks" / "a.jpg.png"}))
    assert values(metrics, "segmentation")["dice"] == 1


def test_true_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg"], ["mel"])
    write_png(tmp_path / "true.png", np.ones((5, 5), dtype=np.bool_))
    with pytest.raises(DatasetError, match=r"true mask of a.jpg must have the size of its image, \(10, 20\), got \(5, 5\)"):
        score_run(output, GroundTruth(masks={"a": tmp_path / "true.png"}))


@pytest.fixture
def grouped(tmp_path: Path) -> tuple[Path, GroundTruth]:
    """A run over 48 images of 24 lesions, two thirds of them men's, with photographs, flags and an operating point."""
    names = [f"{number}.png" for number in range(48)]
    sources = ["unet"] * 40 + ["contour"] * 8
    output = write_run(tmp_path / "out", names, ["mel", "nv", "nv", "mel"] * 12, [half(10)] * 47 + [half(20)])
    table = pd.read_csv(output / "results.csv").assign(mask_source=sources, flagged_for=["mel", "", "mel", ""] * 12)
    table.to_csv(output / "results.csv", index=False)
    (output / "summary.json").write_text('{"operating_points": [{"target": "mel", "threshold": 0.4}]}')
    write_png(tmp_path / "true.png", half(10))
    for name in names:
        write_png(tmp_path / name, np.full((10, 20, 3), 120, dtype=np.uint8))
    ids = [Path(path).stem for path in table["path"]]
    truth = GroundTruth(
        dict(zip(ids, ["mel", "nv", "nv", "nv"] * 12, strict=True)),
        dict.fromkeys(ids, tmp_path / "true.png"),
        {image_id: f"L{number // 2}" for number, image_id in enumerate(ids)},
        {"sex": dict.fromkeys(ids[:32], "male")},
    )
    return output, truth


def test_groups_stand_beside_the_whole(grouped: tuple[Path, GroundTruth]) -> None:
    output, truth = grouped
    metrics = score_run(output, truth)
    assert json.loads((output / "metrics.json").read_text()) == metrics
    groups = metrics["groups"]
    assert {name: set(values) for name, values in groups.items()} == {
        "mask_source": {"unet", "contour"},
        "sex": {"male", "unknown"},
    }
    assert groups["mask_source"]["contour"]["segmentation"] == {"images": 8, "lesions": 4, "metrics": {}}
    unet = groups["mask_source"]["unet"]
    assert (unet["classification"]["images"], unet["classification"]["lesions"]) == (40, 20)
    assert unet["segmentation"]["metrics"]["dice"] == {"value": 1, "low": 1, "high": 1}
    found = {name: figure["value"] for name, figure in unet["classification"]["metrics"].items()}
    assert found == pytest.approx(
        {
            **{"accuracy": 3 / 4, "majority_baseline": 3 / 4, "balanced_accuracy": (1 + 2 / 3) / 2},
            **{"macro_auroc": 5 / 6, "sensitivity_mel": 1, "support_mel": 10, "ece": 0.05},
        }
    )
    assert groups["sex"]["unknown"]["classification"]["metrics"]["accuracy"]["low"] is None  # 8 lesions
    assert "groups" not in metrics["classification"]


def test_flags_are_scored_at_the_operating_point_of_the_run(grouped: tuple[Path, GroundTruth]) -> None:
    output, truth = grouped
    scored = score_run(output, truth)["classification"]
    assert scored["operating_points"] == [{"target": "mel", "threshold": 0.4}]
    assert scored["metrics"]["sensitivity_flagged"]["value"] == 1
    flagged = scored["metrics"]["specificity_flagged"]
    assert flagged["value"] == pytest.approx(2 / 3)
    assert flagged["low"] < flagged["value"] < flagged["high"]
    (output / "summary.json").write_text("{}")
    scored = score_run(output, truth)["classification"]
    assert scored["operating_points"] == []
    assert "sensitivity_flagged" not in scored["metrics"]


def test_metrics_name_what_they_measure(grouped: tuple[Path, GroundTruth]) -> None:
    output, truth = grouped
    truth = replace(truth, masks=dict(list(truth.masks.items())[:5]), dataset="photos", part="val")
    models = {"segmenter": None, "classifier": ["c1", "c2"]}
    (output / "summary.json").write_text(json.dumps({"models": models, "run": {"localize": "contour", "tta": [{}, {}]}}))
    metrics = score_run(output, truth)
    assert metrics["pipeline"] == {**models, "localize": "contour", "views": 2}
    named, masks = metrics["classification"], metrics["segmentation"]
    assert (named["component"], masks["component"]) == ("ensemble", "localizer")
    assert (metrics["mask_sources"], masks["mask_sources"]) == ({"unet": 40, "contour": 8}, {"unet": 5})
    assert (named["test_set"]["images"], masks["test_set"]["images"]) == (48, 5)
    assert named["test_set"]["images_sha256"] != masks["test_set"]["images_sha256"]
    lines = headline(metrics).splitlines()
    assert any(line.startswith("ensemble scored on ") and " 48 images of photos, part val (" in line for line in lines)
    assert any(line.startswith("localizer scored on ") and " 5 images of photos, part val (" in line for line in lines)
    assert not any(line.startswith(("dice", "jaccard", "thresholded")) for line in lines)


def test_worst_cases_are_drawn_where_the_photographs_are_at_hand(grouped: tuple[Path, GroundTruth], tmp_path: Path) -> None:
    output, truth = grouped
    score_run(output, truth, [(tmp_path / f"{number}.png", Path(f"{number}.png")) for number in range(48)])
    assert {"worst.png", "worst_masks.png"} <= {path.name for path in (output / "plots").iterdir()}


def test_masks_of_none_of_the_images_are_refused(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg"], ["mel"])
    with pytest.raises(DatasetError, match="masks must hold a mask for at least one image of the run \\(1\\), got none"):
        score_run(output, GroundTruth(masks={}))


def test_headline_shows_accuracy_beside_its_baseline(scored: dict[str, dict[str, Any]]) -> None:
    lines = headline(scored["isic"]).splitlines()
    names = [line[:22].strip() for line in lines]
    metrics = ["accuracy", "majority baseline", "balanced accuracy", "sensitivity mel", "macro auroc", "ece"]
    assert names == [*metrics, "classifier scored on"]
    assert lines[0].startswith("accuracy               0.833  (95 % ")
    assert headline({}) == ""


def test_headline_names_the_component_of_each_metric_of_masks() -> None:
    alone, whole = (
        score_overlaps(measure_overlaps([pair], ["a"]), ["a"], GroundTruth())
        for pair in ((half(5), half(20)), (half(10), half(20)))
    )
    metrics = {"segmentation": whole | {"mask_sources": {"contour": 3, "unet": 1}}, "segmenter_alone": alone}
    assert [line.split() for line in headline(metrics).splitlines()] == [
        ["segmenter", "dice", "0.400"],
        ["segmenter", "jaccard", "0.250"],
        ["segmenter", "thresholded", "jaccard", "0.000"],
        ["localizer", "dice", "0.667"],
        ["localizer", "jaccard", "0.500"],
        ["localizer", "thresholded", "jaccard", "0.000"],
        ["localizer", "masks", "from", "contour", "3,", "unet", "1"],
    ]


# The test split of a training


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Ten drawn images with their masks, as a checked data set lists them."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(10):
        image, mask = make_image(CODES[number % 7], rng, (60, 80))
        Image.fromarray(image).save(folder / f"{number}.png")
        write_png(folder / f"{number}_segmentation.png", mask)
        paths = {"image_path": str(folder / f"{number}.png"), "mask_path": str(folder / f"{number}_segmentation.png")}
        rows.append({"image_id": str(number), "lesion_id": f"L{number // 2}", "dx": CODES[number % 7], **paths})
    return pd.DataFrame(rows)


def test_truth_of_a_table_leaves_out_what_is_not_known(table: pd.DataFrame) -> None:
    partly = table.assign(mask_path=[*table["mask_path"][:1], *[None] * 9])
    truth = truth_of(partly)
    assert truth.diagnoses == dict(zip(table["image_id"], table["dx"], strict=True))
    assert truth.masks == {"0": Path(table["mask_path"][0])}
    assert truth.lesions["3"] == "L1"
    assert truth.attributes == {}
    aged = truth_of(table.assign(age=[50.0, np.nan] * 5, sex="female"))
    assert aged.attributes == {"sex": dict.fromkeys(table["image_id"], "female"), "age_band": dict.fromkeys("02468", "45-59")}
    assert truth_of(table.assign(mask_path=None)).masks is None


def expected_metrics(masks: Sequence[BoolMask], table: pd.DataFrame) -> dict[str, Any]:
    pairs = [(mask, read_mask(Path(path))) for mask, path in zip(masks, table["mask_path"], strict=True)]
    image_ids = list(table["image_id"])
    return score_overlaps(measure_overlaps(pairs, image_ids), image_ids, truth_of(table))


def test_segmenter_is_scored_alone_and_beside_it_the_localizer(
    segmenter: SegmenterBundle, table: pd.DataFrame, tmp_path: Path
) -> None:
    metrics = score_segmenter(segmenter, table.assign(part="test"), tmp_path / "test", dataset="drawn")
    images = [read_image(Path(path)) for path in table["image_path"]]
    locator = Locator(segmenter, device=CPU)
    alone = [cv2.resize(probs, (80, 60)) > 0.5 for probs in locator.mask_probs(images)]
    for part, masks in (("segmenter_alone", alone), ("segmentation", [place.mask for place in locator(images)])):
        assert metrics[part].items() >= expected_metrics(masks, table).items()
    assert metrics["segmentation"]["intervals_over"] == metrics["segmenter_alone"]["intervals_over"] == "lesion"
    assert (metrics["segmentation"]["component"], metrics["segmenter_alone"]["component"]) == ("localizer", "segmenter")
    assert sum(metrics["mask_sources"].values()) == metrics["images"] == 10
    assert metrics["segmentation"]["mask_sources"] == metrics["mask_sources"]
    test_set = metrics["segmenter_alone"]["test_set"]
    assert test_set == metrics["segmentation"]["test_set"]
    assert (test_set["dataset"], test_set["part"], test_set["images"]) == ("drawn", "test", 10)
    assert json.loads((tmp_path / "test" / "metrics.json").read_text()) == metrics
    assert read_image(tmp_path / "test" / "predictions.png").shape[1] == 1280


@pytest.mark.parametrize(("logit", "dice"), [(-9.0, 0.0), (9.0, None)])
def test_a_segmenter_that_learnt_nothing_is_not_scored_by_its_fallback(
    segmenter: SegmenterBundle, table: pd.DataFrame, tmp_path: Path, logit: float, dice: float | None
) -> None:
    model = _Constant(logit)
    metrics = score_segmenter(replace(segmenter, model=model), table, tmp_path)
    true_areas = [read_mask(Path(path)).mean() for path in table["mask_path"]]
    expected = np.mean([2 * area / (1 + area) for area in true_areas]) if dice is None else dice
    assert values(metrics, "segmenter_alone")["dice"] == pytest.approx(expected)
    assert "unet" not in metrics["mask_sources"]
    assert metrics["mask_sources"]["contour"] > 0
    assert values(metrics, "segmentation")["dice"] > 0.5
    card = segmenter_figures(metrics)
    assert card["segmenter_alone"] == metrics["segmenter_alone"]
    assert (card["component"], card["mask_sources"]) == ("localizer", metrics["mask_sources"])


class _Constant(torch.nn.Module):
    """Gives each pixel the same logit."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.full_like(batch[:, :1], self.logit)


def test_two_ways_to_score_the_same_images_give_one_test_set(
    segmenter: SegmenterBundle, classifier: ClassifierBundle, table: pd.DataFrame, tmp_path: Path
) -> None:
    locator, asked = Locator(None, device=CPU, start=MaskSource.CONTOUR), {"views": VIEWS["none"], "batch_size": 4}
    by_training = score_classifier(locator, classifier, table.assign(part="test"), tmp_path / "a", dataset="d", **asked)
    of_masks = score_segmenter(segmenter, table.assign(part="test"), tmp_path / "b", dataset="d")
    assert by_training["segmentation"]["test_set"] == of_masks["segmentation"]["test_set"]
    moved = tmp_path / "moved" / "deep"
    shutil.copytree(Path(table["image_path"][0]).parent, moved)
    by_user = read_truth(
        labels=write_labels(tmp_path, "ham10000", dict(zip(table["image_id"], table["dx"], strict=True))), masks=moved
    )
    again = score_run(tmp_path / "a", replace(by_user, dataset="d", part="test"))
    for part in ("classification", "segmentation"):
        assert again[part]["test_set"] == by_training[part]["test_set"]


def test_score_of_a_classifier_is_that_of_a_run_over_the_images(
    classifier: ClassifierBundle, table: pd.DataFrame, tmp_path: Path
) -> None:
    locator = Locator(None, device=CPU, start=MaskSource.CONTOUR)
    asked = {"views": VIEWS["none"], "batch_size": 4, "dataset": "drawn"}
    metrics = score_classifier(locator, classifier, table.assign(part="test"), tmp_path / "deep" / "test", **asked)
    results = pd.read_csv(tmp_path / "deep" / "test" / "results.csv")
    right = [dx == answer for dx, answer in zip(table["dx"], results["diagnosis"], strict=True)]
    assert values(metrics)["accuracy"] == pytest.approx(np.mean(right))
    assert metrics["segmentation"]["images"] == 10
    assert metrics["classification"]["intervals_over"] == "lesion"
    assert metrics["classification"]["operating_points"] == []
    assert metrics["pipeline"] == {"segmenter": None, "classifier": classifier.sha256, "localize": "contour", "views": 1}
    card = classifier_figures(metrics)
    assert card["localizer"] == metrics["segmentation"]
    assert card["localizer"]["component"] == "localizer"
    assert set(card["localizer"]["mask_sources"]) <= {"contour", "whole_image"}
    assert card["test_set"]["images_sha256"] == card["localizer"]["test_set"]["images_sha256"]
    assert card["test_set"]["sha256"] != card["localizer"]["test_set"]["sha256"]
    assert {"worst.png", "worst_masks.png"} <= {path.name for path in (tmp_path / "deep" / "test" / "plots").iterdir()}


def test_operating_point_of_a_classifier_is_checked_on_the_test_images(
    classifier: ClassifierBundle, table: pd.DataFrame, tmp_path: Path
) -> None:
    locator = Locator(None, device=CPU, start=MaskSource.CONTOUR)
    card = replace(classifier.card, operating_points=(OperatingPoint("nv", 0.1), OperatingPoint("malignant", 0.3)))
    scored = score_classifier(locator, replace(classifier, card=card), table, tmp_path, views=VIEWS["none"], batch_size=4)
    results = pd.read_csv(tmp_path / "results.csv")
    is_nv = np.array([dx == "nv" for dx in table["dx"]])
    figures, named = values(scored), results["flagged_for"].fillna("").str.split(";")
    for target, positive in (("nv", is_nv), ("malignant", np.isin(table["dx"], MALIGNANT_CODES))):
        called = np.array([target in names for names in named])
        assert figures[f"sensitivity_flagged_{target}"] == pytest.approx(called[positive].mean())
        assert figures[f"specificity_flagged_{target}"] == pytest.approx(1 - called[~positive].mean())
    points = scored_card(card, scored).operating_points
    assert [point.test["sensitivity"]["value"] for point in points] == [
        figures[f"sensitivity_flagged_{target}"] for target in ("nv", "malignant")
    ]


def test_calibration_is_fitted_on_the_logits_of_all_views(classifier: ClassifierBundle, table: pd.DataFrame) -> None:
    locator = Locator(None, device=CPU, start=MaskSource.CONTOUR)
    parts = {"train": table, "val": table}
    answer = {"views": VIEWS["flips"], "batch_size": 4}
    asked = {"method": "logit_adjustment", "targets": {"mel": 0.5}, **answer}
    card = calibrate(locator, classifier, parts, **asked)
    network = Classifier(classifier, device=CPU, **answer)
    images = [read_image(Path(path)) for path in table["image_path"]]
    logits = network.view_logits([network.cut(*pair) for pair in zip(images, locator(images), strict=True)])
    labels = np.array([CODES.index(code) for code in table["dx"]])
    counts = [int((table["dx"] == code).sum()) for code in CODES]
    expected = fit_calibration("logit_adjustment", logits, labels, counts=counts)
    assert card.temperature == pytest.approx(expected.temperature, rel=1e-4)
    assert card.logit_bias == pytest.approx(expected.logit_bias, rel=1e-3, abs=1e-4)
    assert card.calibration["chosen"] == "logit_adjustment"
    assert set(card.calibration["errors"]) == {"none", "temperature", "logit_adjustment"}
    # What the card says already does not count.
    warmer = replace(classifier, card=replace(classifier.card, temperature=9.0))
    assert calibrate(locator, warmer, parts, **asked) == card


def test_pipeline_flags_the_share_that_the_operating_point_promises(classifier: ClassifierBundle, table: pd.DataFrame) -> None:
    locator = Locator(None, device=CPU, start=MaskSource.CONTOUR)
    answer = {"views": VIEWS["flips"], "batch_size": 4}
    asked = {"method": "logit_adjustment", "targets": {"nv": 0.5, "malignant": 0.7}}
    card = calibrate(locator, classifier, {"train": table, "val": table}, **asked, **answer)
    assert [point.target_sensitivity for point in card.operating_points] == [0.5, 0.7]
    ensemble = ClassifierEnsemble([replace(classifier, card=card)], device=CPU, explained=None, **answer)
    images = [read_image(Path(path)) for path in table["image_path"]]
    flagged_for = [finding.flagged_for for finding in Pipeline(locator, ensemble)(images)]
    for target, positive, share in (("nv", table["dx"] == "nv", 0.5), ("malignant", table["dx"].isin(MALIGNANT_CODES), 0.7)):
        found = sum(target in names for names, holds in zip(flagged_for, positive, strict=True) if holds)
        assert found == math.ceil(share * positive.sum() - 1e-9)


@pytest.mark.parametrize(
    ("dataset", "split", "allowed", "refused"),
    [
        ("own", "own", False, False),
        ("own", "other", False, True),
        ("own", "other", True, False),
        ("other", "other", False, False),
    ],
)
def test_segmenter_that_has_seen_the_test_lesions_is_refused_unless_allowed(
    segmenter: SegmenterBundle, table: pd.DataFrame, tmp_path: Path, dataset: str, split: str, allowed: bool, refused: bool
) -> None:
    parts = table.assign(part=["train"] * 6 + ["val"] * 2 + ["test"] * 2)
    rows = {part: parts[parts["part"] == part] for part in PARTS}
    data = TrainingData(CheckedDataset("tiny", table, ()), parts[["image_id", "lesion_id", "part"]], rows)
    seen: Training = replace(
        segmenter.card.training,
        dataset_hash=data.dataset_hash if dataset == "own" else "other",
        split_hash=data.split_hash if split == "own" else "other",
    )
    save_bundle(tmp_path / "unet", segmenter.model, replace(segmenter.card, training=seen))
    config = OmegaConf.structured(TrainClsConfig)
    config.bundle.segmenter, config.allow_leak = str(tmp_path / "unet"), allowed
    if refused:
        with pytest.raises(BundleError, match=r"trained on another split of this data set, .* or set allow_leak=true"):
            load_unseen_segmenter(config, data)
    else:
        assert load_unseen_segmenter(config, data).bundle is not None


@pytest.mark.parametrize(
    ("classes", "malignant", "codes", "present"),
    [
        (CODES, MALIGNANT_CODES, ["mel", "nv"], ["mel", "malignant"]),
        (CODES, MALIGNANT_CODES, ["bcc", "nv"], ["malignant"]),
        (CODES, MALIGNANT_CODES, ["nv"], []),
        (("mole", "wart"), (), ["mole"], []),
        (("benign", "malignant"), ("malignant",), ["benign", "malignant"], ["malignant"]),
    ],
)
def test_operating_points_are_for_targets_among_the_validation_images(
    classes: tuple[str, ...], malignant: tuple[str, ...], codes: list[str], present: list[str]
) -> None:
    dataset = CheckedDataset("drawn", pd.DataFrame(), (), classes, malignant)
    data = TrainingData(dataset, pd.DataFrame(), {"val": pd.DataFrame({"dx": codes})})
    targets = {"mel": 0.9, "malignant": 0.8}
    assert present_targets(targets, data, required=False) == {target: targets[target] for target in present}
    if len(present) < 2:
        with pytest.raises(ConfigError, match=r"threshold\.diagnosis must occur among the validation images, got '"):
            present_targets(targets, data, required=True)


def test_class_malignant_is_scored_as_the_class_that_it_is(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    probs = {"mal_0.jpg": 0.9, "mal_1.jpg": 0.4, "ben_0.jpg": 0.6, "ben_1.jpg": 0.1}
    rows = [
        {
            "path": path,
            "diagnosis": "malignant" if p > 0.5 else "benign",
            "p_benign": 1 - p,
            "p_malignant": p,
            "mask_source": "unet",
            "sha256": sha256(path.encode()).hexdigest(),
        }
        for path, p in probs.items()
    ]
    pd.DataFrame(rows).to_csv(output / "results.csv", index=False)
    (output / "summary.json").write_text(json.dumps({"malignant": ["malignant"]}))
    truth = GroundTruth({path: "malignant" if path.startswith("mal") else "benign" for path in probs})
    found = values(score_run(output, truth))
    assert (found["accuracy"], found["sensitivity_malignant"], found["auroc_malignant"]) == (0.5, 0.5, 0.75)
    assert (found["support_benign"], found["support_malignant"]) == (2, 2)


def test_images_of_one_file_name_are_scored_by_their_own_labels(tmp_path: Path) -> None:
    paths = [f"{code}/{number}.jpg" for code in ("mel", "nv") for number in range(3)]
    output = write_run(tmp_path / "out", paths, [path.partition("/")[0] for path in paths])
    (tmp_path / "labels.csv").write_text("image,label\n" + "".join(f"{path},{path.partition('/')[0]}\n" for path in paths))
    found = values(score_run(output, read_truth(labels=tmp_path / "labels.csv", masks=None)))
    assert (found["accuracy"], found["support_mel"], found["support_nv"]) == (1, 3, 3)


def test_labels_of_other_classes_are_counted_in_the_metrics(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg", "b.jpg"], ["mel", "nv"])
    metrics = score_run(output, GroundTruth({"a": "mel", "b": "scc"}))
    assert metrics["left_out"] == {"label of another class, 'scc'": ["b.jpg"]}
    assert metrics["classification"]["images"] == 1
