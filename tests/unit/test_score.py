"""Evaluation is prediction plus labels: a table written by hand gives figures that can be counted on the fingers."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from segpipe.bundle import ClassifierBundle, SegmenterBundle, save_bundle
from segpipe.card import OperatingPoint, Training
from segpipe.config import TrainClsConfig
from segpipe.data.check import CheckedDataset
from segpipe.data.splits import PARTS
from segpipe.data.synthetic import make_image
from segpipe.diagnosis import CODES
from segpipe.errors import BundleError, DatasetError
from segpipe.evaluation.calibration import fit_calibration
from segpipe.evaluation.held_out import calibrate, load_unseen_segmenter, score_classifier, score_segmenter, truth_of
from segpipe.evaluation.score import headline, score_mask_pairs, score_run
from segpipe.evaluation.truth import Truth, read_truth
from segpipe.image_io import BoolMask, read_image, read_mask, write_png
from segpipe.inference.classifier import Classifier
from segpipe.inference.namer import Namer
from segpipe.inference.pipeline import Locator, Pipeline
from segpipe.inference.source import result_names
from segpipe.inference.tta import VIEWS
from segpipe.lesion.localizer import MaskSource
from segpipe.training.setup import TrainingData

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
        | {"p_malignant": 0.5, "mask_source": "unet"}
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
    by_lesion = score_run(output, Truth(TRUTH, lesions=dict(zip(TRUTH, ("L1", "L1", "L1", "L2", "L3", "L3"), strict=True))))
    assert by_lesion["classification"]["intervals_over"] == "lesion"
    assert values(by_lesion) == values(scored["isic"])
    assert by_lesion["classification"]["metrics"]["accuracy"] != scored["isic"]["classification"]["metrics"]["accuracy"]
    strangers = score_run(output, Truth(TRUTH, lesions={"stranger": "L9"}))
    assert strangers["classification"]["intervals_over"] == "image"


def test_lesion_ids_come_from_the_labels_or_else_from_the_split(tmp_path: Path) -> None:
    labels, split = tmp_path / "labels.csv", tmp_path / "split.csv"
    split.write_text("image_id,lesion_id,part\na,S1,train\nb,S2,test\n")
    labels.write_text("image_id,lesion_id,dx\na,L1,mel\nb,,nv\na,L1,mel\n")
    assert read_truth(labels=labels, masks=None, split=split) == Truth({"a": "mel", "b": "nv"}, None, {"a": "L1"})
    labels.write_text("image,label\na,mel\n")
    assert read_truth(labels=labels, masks=None, split=split).lesions == {"a": "S1", "b": "S2"}
    assert read_truth(labels=labels, masks=None).lesions == {}
    assert read_truth(labels=None, masks=None) == Truth()


def test_labels_that_name_none_of_the_images_are_refused(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg"], ["mel"])
    with pytest.raises(DatasetError, match="labels must name at least one of the 1 images"):
        score_run(output, Truth({"b": "mel"}))
    with pytest.raises(DatasetError, match=r"labels must name classes among .* 'no diagnosis of ours'"):
        score_run(output, Truth({"a": "no diagnosis of ours"}))


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
    metrics = score_run(output, Truth(masks={"a": output / "masks" / "a.jpg.png"}))
    assert values(metrics, "segmentation")["dice"] == 1


def test_true_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg"], ["mel"])
    write_png(tmp_path / "true.png", np.ones((5, 5), dtype=np.bool_))
    with pytest.raises(DatasetError, match=r"true mask of a.jpg must have the size of its image, \(10, 20\), got \(5, 5\)"):
        score_run(output, Truth(masks={"a": tmp_path / "true.png"}))


@pytest.fixture
def grouped(tmp_path: Path) -> tuple[Path, Truth]:
    """A run over 48 images of 24 lesions, two thirds of them men's, with photographs, flags and an operating point."""
    names = [f"{number}.png" for number in range(48)]
    sources = ["unet"] * 40 + ["contour"] * 8
    output = write_run(tmp_path / "out", names, ["mel", "nv", "nv", "mel"] * 12, [half(10)] * 47 + [half(20)])
    table = pd.read_csv(output / "results.csv").assign(mask_source=sources, flagged=["true", "false", "true", "false"] * 12)
    table.to_csv(output / "results.csv", index=False)
    (output / "summary.json").write_text('{"operating_point": {"diagnosis": "mel", "threshold": 0.4}}')
    write_png(tmp_path / "true.png", half(10))
    for name in names:
        write_png(tmp_path / name, np.full((10, 20, 3), 120, dtype=np.uint8))
    ids = [Path(path).stem for path in table["path"]]
    truth = Truth(
        dict(zip(ids, ["mel", "nv", "nv", "nv"] * 12, strict=True)),
        dict.fromkeys(ids, tmp_path / "true.png"),
        {image_id: f"L{number // 2}" for number, image_id in enumerate(ids)},
        {"sex": dict.fromkeys(ids[:32], "male")},
    )
    return output, truth


def test_groups_stand_beside_the_whole(grouped: tuple[Path, Truth]) -> None:
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


def test_flags_are_scored_at_the_operating_point_of_the_run(grouped: tuple[Path, Truth]) -> None:
    output, truth = grouped
    scored = score_run(output, truth)["classification"]
    assert scored["operating_point"] == {"diagnosis": "mel", "threshold": 0.4}
    assert scored["metrics"]["sensitivity_flagged"]["value"] == 1
    flagged = scored["metrics"]["specificity_flagged"]
    assert flagged["value"] == pytest.approx(2 / 3)
    assert flagged["low"] < flagged["value"] < flagged["high"]
    (output / "summary.json").write_text("{}")
    scored = score_run(output, truth)["classification"]
    assert scored["operating_point"] is None
    assert "sensitivity_flagged" not in scored["metrics"]


def test_worst_cases_are_drawn_where_the_photographs_are_at_hand(grouped: tuple[Path, Truth], tmp_path: Path) -> None:
    output, truth = grouped
    score_run(output, truth, [(tmp_path / f"{number}.png", Path(f"{number}.png")) for number in range(48)])
    assert {"worst.png", "worst_masks.png"} <= {path.name for path in (output / "plots").iterdir()}


def test_masks_of_none_of_the_images_are_refused(tmp_path: Path) -> None:
    output = write_run(tmp_path / "out", ["a.jpg"], ["mel"])
    with pytest.raises(DatasetError, match="masks must hold a mask for at least one of the 1 images, got none"):
        score_run(output, Truth(masks={}))


def test_headline_shows_accuracy_beside_its_baseline(scored: dict[str, dict[str, Any]]) -> None:
    lines = headline(scored["isic"]).splitlines()
    names = [line[:22].strip() for line in lines]
    assert names == ["accuracy", "majority baseline", "balanced accuracy", "sensitivity mel", "macro auroc", "ece"]
    assert lines[0].startswith("accuracy               0.833  (95 % ")
    masks = score_mask_pairs([(half(10), half(20))], ["a"], Truth())
    assert headline({"segmentation": masks}).splitlines() == [
        "dice                   0.667",
        "jaccard                0.500",
        "thresholded jaccard    0.000",
    ]
    assert headline({}) == ""


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


def test_segmenter_is_scored_with_its_fallbacks(segmenter: SegmenterBundle, table: pd.DataFrame, tmp_path: Path) -> None:
    metrics = score_segmenter(segmenter, table, tmp_path / "test")
    places = Locator(segmenter, device=CPU)([read_image(Path(path)) for path in table["image_path"]])
    pairs = [(place.mask, read_mask(Path(path))) for place, path in zip(places, table["mask_path"], strict=True)]
    assert metrics["segmentation"] == score_mask_pairs(pairs, list(table["image_id"]), truth_of(table))
    assert metrics["segmentation"]["intervals_over"] == "lesion"
    assert sum(metrics["mask_sources"].values()) == metrics["images"] == 10
    assert json.loads((tmp_path / "test" / "metrics.json").read_text()) == metrics
    assert read_image(tmp_path / "test" / "predictions.png").shape[1] == 1280


def test_score_of_a_classifier_is_that_of_a_run_over_the_images(
    classifier: ClassifierBundle, table: pd.DataFrame, tmp_path: Path
) -> None:
    locator = Locator(None, device=CPU, start=MaskSource.CONTOUR)
    metrics = score_classifier(locator, classifier, table, tmp_path / "deep" / "test", views=VIEWS["none"], batch_size=4)
    results = pd.read_csv(tmp_path / "deep" / "test" / "results.csv")
    right = [dx == answer for dx, answer in zip(table["dx"], results["diagnosis"], strict=True)]
    assert values(metrics)["accuracy"] == pytest.approx(np.mean(right))
    assert metrics["segmentation"]["images"] == 10
    assert metrics["classification"]["intervals_over"] == "lesion"
    assert metrics["classification"]["operating_point"] is None
    assert {"worst.png", "worst_masks.png"} <= {path.name for path in (tmp_path / "deep" / "test" / "plots").iterdir()}


def test_operating_point_of_a_classifier_is_checked_on_the_test_images(
    classifier: ClassifierBundle, table: pd.DataFrame, tmp_path: Path
) -> None:
    locator = Locator(None, device=CPU, start=MaskSource.CONTOUR)
    card = replace(classifier.card, operating_point=OperatingPoint("nv", 0.1))
    scored = score_classifier(locator, replace(classifier, card=card), table, tmp_path, views=VIEWS["none"], batch_size=4)
    results = pd.read_csv(tmp_path / "results.csv")
    is_nv = np.array([dx == "nv" for dx in table["dx"]])
    figures = values(scored)
    assert figures["sensitivity_flagged"] == pytest.approx(results["flagged"][is_nv].mean())
    assert figures["specificity_flagged"] == pytest.approx(1 - results["flagged"][~is_nv].mean())


def test_calibration_is_fitted_on_the_logits_of_all_views(classifier: ClassifierBundle, table: pd.DataFrame) -> None:
    locator = Locator(None, device=CPU, start=MaskSource.CONTOUR)
    parts = {"train": table, "val": table}
    answer = {"views": VIEWS["flips"], "batch_size": 4}
    asked = {"method": "logit_adjustment", "diagnosis": "mel", "target_sensitivity": 0.5, **answer}
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
    asked = {"method": "logit_adjustment", "diagnosis": "nv", "target_sensitivity": 0.5}
    card = calibrate(locator, classifier, {"train": table, "val": table}, **asked, **answer)
    assert card.operating_point is not None
    assert card.operating_point.target_sensitivity == 0.5
    namer = Namer([replace(classifier, card=card)], device=CPU, explained=None, **answer)
    images = [read_image(Path(path)) for path in table["image_path"]]
    flagged = np.array([finding.flagged for finding in Pipeline(locator, namer)(images)])
    positives = int((table["dx"] == "nv").sum())
    assert flagged[table["dx"] == "nv"].sum() == -(-positives // 2)


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
        }
        for path, p in probs.items()
    ]
    pd.DataFrame(rows).to_csv(output / "results.csv", index=False)
    (output / "summary.json").write_text(json.dumps({"malignant": ["malignant"]}))
    truth = Truth({path: "malignant" if path.startswith("mal") else "benign" for path in probs})
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
    metrics = score_run(output, Truth({"a": "mel", "b": "scc"}))
    assert metrics["left_out"] == {"label of another class, 'scc'": ["b.jpg"]}
    assert metrics["classification"]["images"] == 1
