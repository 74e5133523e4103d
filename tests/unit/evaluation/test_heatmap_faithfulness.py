"""Faithfulness test of heatmaps, on networks with known maps."""

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from segpipe.bundle.card import ClassifierBundle
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.saving import save_bundle
from segpipe.cli.main import main
from segpipe.diagnosis import CODES
from segpipe.errors import PredictionError
from segpipe.evaluation import score
from segpipe.evaluation.heatmap_faithfulness import HeatmapTest, SampledImage, choose_sample
from segpipe.evaluation.heatmap_metrics import ROWS, heatmap_metrics, heatmap_table
from segpipe.evaluation.held_out import score_classifier
from segpipe.evaluation.score import classifier_test_metrics
from segpipe.evaluation.text import headline
from segpipe.evaluation.truth import GroundTruth
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.io.images import write_png
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.metrics.heatmaps import CURVES, TURNS
from segpipe.types import RgbImage, mask_box

pytestmark = pytest.mark.usefixtures("few_resamples")

CELLS = 8


class Dark(nn.Module):
    """Backbone of one channel: the darkness of each cell."""

    num_features = 1

    def forward_features(self, batch: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(2 - batch.mean(1, keepdim=True), CELLS)

    def forward_head(self, features: Tensor, *, pre_logits: bool) -> Tensor:
        return features.mean((2, 3))


class Corner(Dark):
    """Backbone with the same predictions, from a ramp between two corners that does not depend on the image."""

    def forward_features(self, batch: Tensor) -> Tensor:
        ramp = torch.linspace(2, 0, CELLS * CELLS).reshape(CELLS, CELLS)
        return super().forward_features(batch).mean((2, 3), keepdim=True) * ramp


def toy(classifier: ClassifierBundle, backbone: nn.Module) -> ClassifierBundle:
    """Make a classifier that predicts mel for dark crops; its heatmap for mel is the feature map of the backbone."""
    model: Any = deepcopy(classifier.model)
    model.backbone, model.attention, model.linear = backbone, nn.Identity(), nn.Linear(1, len(CODES))
    with torch.no_grad():
        model.linear.weight.zero_()[0] = 4
        model.linear.bias.zero_()[0] = -1
    return replace(classifier, model=model.eval(), card=replace(classifier.card, temperature=1.0))


def make_image() -> tuple[RgbImage, Localization]:
    """Draw a lesion of 40 x 40 pixels, darkest in one corner, on 80 x 100."""
    image = np.full((80, 100, 3), 220, np.uint8)
    image[20:60, 30:70] = 150
    image[20:40, 30:40] = 20
    mask = np.zeros((80, 100), np.bool_)
    mask[20:60, 30:70] = True
    return image, Localization(mask, mask_box(mask), MaskSource.UNET, ())


def ensemble(*bundles: ClassifierBundle, views: str = "d4") -> ClassifierEnsemble:
    networks = [TorchClassifier(bundle, "cpu") for bundle in bundles]
    return ClassifierEnsemble(networks, views=VIEWS[views], explained=None, batch_size=8)


def measure(*bundles: ClassifierBundle, diagnosis: str | None = "mel", localization: Localization | None = None) -> pd.Series:
    image, drawn = make_image()
    sampled = SampledImage("a.png", "0" * 64, image, localization or drawn)
    (row,) = HeatmapTest(ensemble(*bundles), diagnosis=diagnosis).measure([sampled], 1).to_dict("records")
    return pd.Series(row)


def test_heatmap_of_the_image_content_follows(classifier: ClassifierBundle) -> None:
    row = measure(toy(classifier, Dark()))
    assert row["follow"] == pytest.approx(1, abs=1e-4)
    assert row["stay"] < 0.9
    assert row["stay"] == pytest.approx(row["symmetry"], abs=1e-3)
    assert row["energy"] > row["even"] + 0.05
    assert row["deletion"] < row["random_order"] - 0.01
    assert row["insertion"] > row["random_order"] + 0.01


def test_heatmap_of_a_fixed_position_stays(classifier: ClassifierBundle) -> None:
    row = measure(toy(classifier, Corner()))
    assert row["stay"] == pytest.approx(1, abs=1e-4)
    assert row["follow"] < 0
    assert row["follow"] == pytest.approx(row["symmetry"], abs=1e-3)
    assert row["energy"] == pytest.approx(row["even"], abs=0.02)


def test_even_map_has_the_energy_of_the_area(classifier: ClassifierBundle) -> None:
    class Even(Dark):
        def forward_features(self, batch: Tensor) -> Tensor:
            return torch.ones(len(batch), 1, CELLS, CELLS)

    row = measure(toy(classifier, Even()))
    assert row["energy"] == pytest.approx(row["even"], abs=1e-5)
    assert row["even"] == pytest.approx((40 / 60) ** 2, abs=0.01)  # a margin of a quarter on each side
    assert row["follow"] == row["stay"] == row["symmetry"] == 0


def test_one_class_is_explained_in_all_turns(classifier: ClassifierBundle) -> None:
    of_mel, predicted = measure(toy(classifier, Dark())), measure(toy(classifier, Dark()), diagnosis=None)
    single = ensemble(toy(classifier, Dark()), views="none")
    crops = single.cut(*make_image())
    assert predicted["explained"] == CODES[int(single([crops])[0].probs.argmax())]
    assert of_mel["explained"] == "mel"
    other = measure(toy(classifier, Dark()), diagnosis="nv")  # a map of zeros
    assert (other["follow"], other["stay"]) == (0, 0)
    assert np.isnan(other["energy"])


def test_image_without_a_lesion_has_no_energy(classifier: ClassifierBundle) -> None:
    whole = np.ones((80, 100), np.bool_)
    row = measure(toy(classifier, Dark()), localization=Localization(whole, mask_box(whole), MaskSource.WHOLE_IMAGE, ()))
    assert np.isnan(row[["energy", "even"]].astype(float)).all()
    assert row["follow"] == pytest.approx(1, abs=0.02)


def test_ensemble_is_tested_without_deletion(ensemble: list[ClassifierBundle]) -> None:
    row = measure(*ensemble, diagnosis=None)
    assert {"follow", "stay", "symmetry", "energy", "even"} < set(row.index)
    assert not set(CURVES) & set(row.index)
    metrics = heatmap_metrics(pd.DataFrame([row]), GroundTruth(), resamples=10)["metrics"]
    assert not set(CURVES) & set(metrics)
    assert "deletion" not in heatmap_table({"ensemble": {"metrics": metrics}})


def test_ensemble_keeps_its_own_views(classifier: ClassifierBundle) -> None:
    own = ClassifierEnsemble([TorchClassifier(classifier, "cpu")], views=VIEWS["d4"], explained="nv", batch_size=8)
    crops = [own.cut(*make_image())]
    before = own(crops)[0]
    single = own.in_one_view()
    assert single(crops)[0].class_map is None
    assert single(crops)[0].tta_spread is None
    plain = ClassifierEnsemble([TorchClassifier(classifier, "cpu")], views=VIEWS["none"], explained="nv", batch_size=8)
    one_view = plain(crops)[0]
    np.testing.assert_array_equal(single.explain(crops, [CODES.index("nv")])[0].values, one_view.class_map.values)
    after = own(crops)[0]
    np.testing.assert_array_equal(before.class_map.values, after.class_map.values)
    assert before.tta_spread == after.tta_spread


def test_image_with_a_non_finite_prediction_is_left_out(classifier: ClassifierBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    test = HeatmapTest(ensemble(toy(classifier, Dark())))
    sampled = [SampledImage(name, name * 64, *make_image()) for name in "ab"]
    measured = test._measure

    def fail(one: SampledImage) -> dict[str, Any]:
        if one.path == "a":
            raise PredictionError("not finite")
        return measured(one)

    monkeypatch.setattr(test, "_measure", fail)
    assert list(test.measure(sampled, 2)["path"]) == ["b"]


def test_sample_depends_only_on_the_content() -> None:
    rows = pd.DataFrame({"path": list("abcd"), "sha256": ["3", "1", "4", "2"]})
    assert list(choose_sample(rows, 2)["path"]) == ["b", "d"]
    assert list(choose_sample(rows[::-1].assign(path=list("wxyz")), 2)["sha256"]) == ["1", "2"]
    assert len(choose_sample(rows, 9)) == 4


@pytest.mark.parametrize(("method", "sample", "tested"), [("gradcam", 3, True), ("gradcam", 0, False), ("none", 3, False)])
def test_run_without_heatmaps_or_sample_has_no_test(classifier: ClassifierBundle, method: str, sample: int, tested: bool) -> None:
    test = HeatmapTest.of(ensemble(toy(classifier, Dark())), method=method, sample=sample, diagnosis=None)
    assert (test is not None) is tested


def make_row(number: int, **changes: Any) -> dict[str, Any]:
    measured = {"follow": number / 50, "stay": 0.5, "symmetry": 0.0, "energy": 0.6, "even": 0.4} | dict.fromkeys(CURVES, 0.5)
    return {"path": f"{number}.png", "sha256": f"{number:064x}", "explained": "nv", **measured, **changes}


def test_metrics_of_a_sample_name_their_images_and_lesions() -> None:
    table = pd.DataFrame([make_row(number, explained="mel" if number < 4 else "nv") for number in range(44)])
    lesions = {f"{number}.png": f"L{number // 2}" for number in range(44)}
    part = heatmap_metrics(table, GroundTruth(lesions=lesions, dataset="drawn", part="test"), resamples=40)
    assert part == heatmap_metrics(table, GroundTruth(lesions=lesions, dataset="drawn", part="test"), resamples=40)
    assert (part["images"], part["intervals_over"], part["component"], part["turns"]) == (44, "lesion", "heatmap", list(TURNS))
    assert (part["test_set"]["dataset"], part["test_set"]["part"], part["test_set"]["images"]) == ("drawn", "test", 44)
    metrics = part["metrics"]
    assert metrics["follow"]["low"] < metrics["follow"]["value"] < metrics["follow"]["high"]
    assert metrics["energy_gain_nv"]["low"] == pytest.approx(0.2)  # of 20 lesions
    assert metrics["energy_gain_mel"] == {"value": pytest.approx(0.2), "low": None, "high": None}  # of two
    assert [line.split()[:2] for line in headline({"heatmaps": part}).splitlines()] == [
        ["heatmap", "follow"],
        ["heatmap", "stay"],
        ["heatmap", "scored"],
    ]


def drawn_table(folder: Path, count: int) -> pd.DataFrame:
    rows = []
    for number in range(count):
        image, _ = make_image()
        image[:5, :5] = number
        write_png(folder / f"{number}.png", image)
        rows.append({"image_id": str(number), "lesion_id": f"L{number}", "dx": CODES[number % 2], "mask_path": None})
        rows[-1]["image_path"] = str(folder / f"{number}.png")
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def without_plots() -> Iterator[None]:
    """No pictures, which take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "PLOTS", {})
        patch.setattr(score, "draw_worst_predictions", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def scored(
    few_resamples: None, without_plots: None, classifier: ClassifierBundle, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Any]:
    """Metrics of the test of a training, by the number of sampled images."""
    folder = tmp_path_factory.mktemp("scored")
    table = drawn_table(folder, 4)
    localizer, network = Localizer(None, start=MaskSource.CONTOUR), TorchClassifier(classifier, "cpu")
    options = {"views": VIEWS["flips"], "batch_size": 4, "dataset": "drawn"}
    metrics = {}
    for sample in (0, 3, 200):
        output = folder / f"test{sample}"
        metrics[sample] = score_classifier(localizer, network, table, output, heatmaps=sample, **options)
        assert json.loads((output / "metrics.json").read_text()) == metrics[sample]
    return metrics


def test_metrics_of_a_training_have_the_part_unless_the_sample_is_zero(scored: dict[int, Any]) -> None:
    assert "heatmaps" not in scored[0]
    assert "heatmaps" not in classifier_test_metrics(scored[0])
    assert [scored[sample]["heatmaps"]["images"] for sample in (3, 200)] == [3, 4]
    assert scored[3] | {"heatmaps": 0} == scored[200] | {"heatmaps": 0}
    assert scored[200]["heatmaps"]["test_set"]["images_sha256"] == scored[200]["classification"]["test_set"]["images_sha256"]
    assert classifier_test_metrics(scored[3])["heatmaps"] == scored[3]["heatmaps"]


def test_card_keeps_the_part_and_loads_without_it(classifier: ClassifierBundle, scored: dict[int, Any], tmp_path: Path) -> None:
    for sample in (0, 3):
        card = replace(classifier.card, metrics=classifier_test_metrics(scored[sample]))
        save_bundle(tmp_path / str(sample), classifier.model, card)
        loaded = load_classifier(tmp_path / str(sample))
        assert loaded.card.metrics.get("heatmaps") == scored[sample].get("heatmaps")


def test_table_has_a_row_for_each_metric_and_class(scored: dict[int, Any]) -> None:
    part = scored[3]["heatmaps"]
    rare = dict.fromkeys(("energy_gain_rare", "images_rare"), part["metrics"]["symmetry"])
    text = heatmap_table({"one": part, "other": {"metrics": part["metrics"] | rare}})
    assert all(f"| {title} |" in text for title in ROWS.values())
    codes = [name.removeprefix("images_") for name in part["metrics"] if name.startswith("images_")]
    assert codes
    assert all(f"| energy gain where {code} is explained |" in text for code in [*codes, "rare"])
    assert "| energy gain where rare is explained | |" in text


def test_command_writes_the_metrics_of_each_bundle(bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn_table(tmp_path / "images", 3)
    output = tmp_path / "heatmaps.json"
    call = [f"folder={tmp_path / 'images'}", f"bundle.segmenter={bundles / 'segmenter'}", "device=cpu", "heatmap_sample=2"]
    assert main(["heatmaps", *call, f"bundles=[{bundles / 'classifier'}]", "titles=[tiny]", f"output={output}"]) == 0
    result = json.loads(output.read_text())["tiny"]
    assert (result["images"], result["classifier"]) == (2, load_classifier(bundles / "classifier").sha256)
    assert result["metrics"]["follow"]["value"] <= 1
    assert "| | tiny |" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["heatmap_sample=0"], ["folder=missing"], ["bundles=[]"], ["titles=[a,b]"]])
def test_wrong_calls_of_heatmaps_end_with_one_line(
    wrong: Sequence[str], bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [f"folder={tmp_path}", f"output={tmp_path / 'out.json'}", f"bundles=[{bundles / 'classifier'}]", "titles=[tiny]"]
    assert main(["heatmaps", *call, *wrong]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out.json").exists()
