"""Scores of runs written by hand: metrics, groups, worst cases, headline."""

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from segpipe.diagnosis import CODES
from segpipe.errors import DatasetError
from segpipe.evaluation.score import measure_overlaps, score_overlaps, score_run
from segpipe.evaluation.text import headline
from segpipe.evaluation.truth import GroundTruth, read_truth
from segpipe.io.images import write_png
from segpipe.runs.source import result_names
from segpipe.types import BoolMask

pytestmark = pytest.mark.usefixtures("few_resamples")

CPU = torch.device("cpu")
TRUTH = {"a": "mel", "b": "nv", "c": "nv", "d": "bcc", "e": "nv", "f": "mel"}
PREDICTED = {"a": "mel", "b": "nv", "c": "mel", "d": "bcc", "e": "nv", "f": "mel"}  # c is wrong


def half(columns: int) -> BoolMask:
    """Make a mask of 10 x 20 pixels, true in the first columns."""
    mask = np.zeros((10, 20), dtype=np.bool_)
    mask[:, :columns] = True
    return mask


def write_run(output: Path, paths: Sequence[str], diagnoses: Sequence[str], masks: Sequence[BoolMask] | None = None) -> Path:
    """Write the results of a run: each diagnosis with a probability of 0.7, each other class with 0.05."""
    (output / "masks").mkdir(parents=True)
    rows = [
        {"path": path, "diagnosis": diagnosis, "confidence": 0.7}
        | {f"p_{code}": 0.7 if code == diagnosis else 0.05 for code in CODES}
        | {"p_malignant": 0.5, "mask_source": "unet", "sha256": sha256(path.encode()).hexdigest()}
        for path, diagnosis in zip(paths, diagnoses, strict=True)
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


def test_prediction_sets_are_scored_where_a_run_has_them(tmp_path: Path) -> None:
    sets = {"a": "mel;nv", "b": "nv", "c": "mel", "d": "bcc;mel", "e": "nv;mel;bcc", "f": "mel"}  # c misses its class
    output = write_run(tmp_path / "run", list(PREDICTED), list(PREDICTED.values()))
    truth = read_truth(labels=write_labels(tmp_path, "image_label", TRUTH), masks=None)
    before = score_run(output, truth)["classification"]["metrics"]
    assert not any(name.startswith(("coverage", "set_size", "single_label")) for name in before)
    results = pd.read_csv(output / "results.csv")
    results["prediction_set"] = results["path"].map(sets)
    results.to_csv(output / "results.csv", index=False)
    metrics = score_run(output, truth)["classification"]["metrics"]
    added = {name: metric["value"] for name, metric in metrics.items() if name not in before}
    assert added == pytest.approx(
        {"coverage": 5 / 6, "macro_coverage": (1 + 2 / 3 + 1) / 3, "set_size": 10 / 6, "single_label": 3 / 6}
        | {f"coverage_{code}": {"mel": 1, "nv": 2 / 3, "bcc": 1}.get(code) for code in CODES}
    )
    assert 0 < metrics["coverage"]["low"] < 5 / 6 < metrics["coverage"]["high"] <= 1
    results.assign(prediction_set="").to_csv(output / "results.csv", index=False)
    assert score_run(output, truth)["classification"]["metrics"].keys() == before.keys()


@pytest.fixture(scope="module")
def scored(few_resamples: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Metrics of one run for each form of labels."""
    folder = tmp_path_factory.mktemp("scored")
    metrics = {}
    for form in ("ham10000", "isic", "image_label"):
        output = write_run(folder / form, [*(f"{name}.jpg" for name in PREDICTED), "x.jpg"], [*PREDICTED.values(), "nv"])
        metrics[form] = score_run(output, read_truth(labels=write_labels(folder, form, TRUTH), masks=None))
        assert json.loads((output / "metrics.json").read_text()) == metrics[form]
        assert {path.name for path in (output / "plots").iterdir()} == {
            *("confusion_matrix.png", "roc.png", "precision_recall.png", "reliability.png")
        }
    return metrics


def values(metrics: dict[str, Any], part: str = "classification") -> dict[str, Any]:
    return {name: metric["value"] for name, metric in metrics[part]["metrics"].items()}


def test_three_forms_of_labels_give_the_same_metrics(scored: dict[str, dict[str, Any]]) -> None:
    assert scored["ham10000"] == scored["isic"] == scored["image_label"]


def test_metrics_of_a_run_written_by_hand(scored: dict[str, dict[str, Any]]) -> None:
    scores = values(scored["isic"])
    assert scores["accuracy"] == pytest.approx(5 / 6)
    assert scores["majority_baseline"] == pytest.approx(3 / 6)
    assert scores["balanced_accuracy"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert scores["sensitivity_nv"] == pytest.approx(2 / 3)
    assert scores["specificity_mel"] == pytest.approx(3 / 4)
    assert scores["auroc_bcc"] == 1
    assert scores["ece"] == pytest.approx(5 / 6 - 0.7)
    assert scores["sensitivity_df"] is None
    assert scored["isic"]["classification"]["classes_left_out"] == ["akiec", "bkl", "df", "vasc"]


def test_images_without_a_label_are_counted_and_not_scored(scored: dict[str, dict[str, Any]]) -> None:
    assert scored["isic"]["images"] == 7
    assert scored["isic"]["classification"]["images"] == 6
    assert scored["isic"]["classification"]["images_without_label"] == 1


def test_each_metric_lies_in_its_interval(scored: dict[str, dict[str, Any]]) -> None:
    metrics = scored["isic"]["classification"]["metrics"]
    assert metrics["accuracy"]["low"] < metrics["accuracy"]["value"] < metrics["accuracy"]["high"]
    for metric in metrics.values():
        assert metric["low"] is None or metric["low"] <= metric["value"] <= metric["high"]


def test_intervals_are_over_lesions_where_they_are_known(scored: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    assert scored["isic"]["classification"]["intervals_over"] == "image"
    output = write_run(tmp_path / "out", [f"{name}.jpg" for name in PREDICTED], list(PREDICTED.values()))
    by_lesion = score_run(output, GroundTruth(TRUTH, lesions=dict(zip(TRUTH, ("L1", "L1", "L1", "L2", "L3", "L3"), strict=True))))
    assert by_lesion["classification"]["intervals_over"] == "lesion"
    assert values(by_lesion) == values(scored["isic"])
    assert by_lesion["classification"]["metrics"]["accuracy"] != scored["isic"]["classification"]["metrics"]["accuracy"]
    unrelated = score_run(output, GroundTruth(TRUTH, lesions={"other": "L9"}))
    assert unrelated["classification"]["intervals_over"] == "image"


def test_lesion_ids_of_the_labels_take_precedence_over_those_of_the_split(tmp_path: Path) -> None:
    labels, split = tmp_path / "labels.csv", tmp_path / "split.csv"
    split.write_text("image_id,lesion_id,part\na,S1,train\nb,S2,test\n")
    labels.write_text("image_id,lesion_id,dx\na,L1,mel\nb,,nv\na,L1,mel\n")
    assert read_truth(labels=labels, masks=None, split=split) == GroundTruth({"a": "mel", "b": "nv"}, None, {"a": "L1"})
    labels.write_text("image,label\na,mel\n")
    assert read_truth(labels=labels, masks=None, split=split).lesions == {"a": "S1", "b": "S2"}
    assert read_truth(labels=labels, masks=None).lesions == {}
    assert read_truth(labels=None, masks=None) == GroundTruth()


def test_labels_of_none_of_the_images_of_a_run_are_refused(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg"], ["mel"])
    with pytest.raises(DatasetError, match="labels must name at least one of the 1 images"):
        score_run(output, GroundTruth({"b": "mel"}))
    with pytest.raises(DatasetError, match=r"labels must name classes among .* 'unknown diagnosis'"):
        score_run(output, GroundTruth({"a": "unknown diagnosis"}))


def test_masks_are_scored_against_true_masks(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg", "sub/b.png", "c.jpg"], ["mel"] * 3, [half(10), half(10), half(20)])
    (tmp_path / "true").mkdir()
    write_png(tmp_path / "true" / "a_segmentation.png", half(10))
    write_png(tmp_path / "true" / "b.png", half(20))
    metrics = score_run(output, read_truth(labels=None, masks=tmp_path / "true"))
    assert (metrics["segmentation"]["images"], metrics["segmentation"]["images_without_mask"]) == (2, 1)
    scores = values(metrics, "segmentation")
    assert scores["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["jaccard"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["thresholded_jaccard"] == pytest.approx((1 + 0) / 2)
    assert metrics["mask_sources"] == {"unet": 3}
    assert "classification" not in metrics


def test_images_of_one_name_are_scored_by_their_own_masks(tmp_path: Path) -> None:
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


def test_mask_is_found_when_the_other_image_of_its_name_failed(tmp_path: Path) -> None:
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
    """A run over 48 images of 24 lesions, two thirds of them of men, with image files, flags and an operating point."""
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


def test_metrics_have_groups(grouped: tuple[Path, GroundTruth]) -> None:
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
    group_metrics = {name: metric["value"] for name, metric in unet["classification"]["metrics"].items()}
    assert group_metrics == pytest.approx(
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


def test_metrics_name_component_models_and_test_set(grouped: tuple[Path, GroundTruth]) -> None:
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


def test_worst_cases_are_drawn_where_image_files_are_available(grouped: tuple[Path, GroundTruth], tmp_path: Path) -> None:
    output, truth = grouped
    score_run(output, truth, [(tmp_path / f"{number}.png", Path(f"{number}.png")) for number in range(48)])
    assert {"worst.png", "worst_masks.png"} <= {path.name for path in (output / "plots").iterdir()}


def test_masks_of_none_of_the_images_of_a_run_are_refused(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg"], ["mel"])
    with pytest.raises(DatasetError, match=r"masks must hold .* at least one image of the run \(1\), got none"):
        score_run(output, GroundTruth(masks={}))


def test_headline_shows_accuracy_with_its_baseline(scored: dict[str, dict[str, Any]]) -> None:
    lines = headline(scored["isic"]).splitlines()
    names = [line[:22].strip() for line in lines]
    metrics = ["accuracy", "majority baseline", "balanced accuracy", "sensitivity mel", "macro auroc", "ece"]
    assert names == [*metrics, "classifier scored on"]
    assert lines[0].startswith("accuracy               0.833  (95 % ")
    assert headline({}) == ""


def test_headline_names_the_component_of_mask_metrics() -> None:
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


def test_class_named_malignant_is_scored_as_a_class(tmp_path: Path) -> None:
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
    scores = values(score_run(output, truth))
    assert (scores["accuracy"], scores["sensitivity_malignant"], scores["auroc_malignant"]) == (
        0.5,
        0.5,
        0.75,
    )
    assert (scores["support_benign"], scores["support_malignant"]) == (2, 2)


def test_images_of_one_file_name_are_scored_by_their_own_labels(tmp_path: Path) -> None:
    paths = [f"{code}/{number}.jpg" for code in ("mel", "nv") for number in range(3)]
    output = write_run(tmp_path / "out", paths, [path.partition("/")[0] for path in paths])
    (tmp_path / "labels.csv").write_text("image,label\n" + "".join(f"{path},{path.partition('/')[0]}\n" for path in paths))
    scores = values(score_run(output, read_truth(labels=tmp_path / "labels.csv", masks=None)))
    assert (scores["accuracy"], scores["support_mel"], scores["support_nv"]) == (1, 3, 3)


def test_labels_of_other_classes_are_counted_in_the_metrics(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg", "b.jpg"], ["mel", "nv"])
    metrics = score_run(output, GroundTruth({"a": "mel", "b": "scc"}))
    assert metrics["left_out"] == {"label of another class, 'scc'": ["b.jpg"]}
    assert metrics["classification"]["images"] == 1
