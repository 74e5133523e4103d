"""Export: copies in half precision, on one split, with the metrics of the copies on their cards."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.bundle.folder import load_bundle, load_classifier, load_segmenter
from segpipe.bundle.graphs import read_graph
from segpipe.bundle.saving import save_bundle
from segpipe.cli.main import main
from segpipe.data.check import CheckedDataset
from segpipe.data.loaders import load_ham10000
from segpipe.data.splits import assign_parts, read_split, split_hash, write_split
from segpipe.data.synthetic.dataset import write_dataset
from segpipe.errors import BundleError
from segpipe.evaluation.heatmap_faithfulness import SAMPLE
from segpipe.evaluation.held_out import score_classifier
from segpipe.evaluation.score import PLOTS
from segpipe.evaluation.segmenter_alone import score_segmenter
from segpipe.inference.loading import load_gate, load_index
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS
from segpipe.release.export import export_bundles
from segpipe.release.model_card import model_card


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "synthetic"
    write_dataset(root, lesions=9, images_per_lesion=1, height=60, width=80)
    return root


@pytest.fixture(scope="module")
def trainings(
    data: Path, segmenter: SegmenterBundle, classifier: ClassifierBundle, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folders of two finished trainings, `seg/` and `cls/`."""
    folder = tmp_path_factory.mktemp("trainings")
    table = load_ham10000(str(data)).table
    split = table[["image_id", "lesion_id"]].assign(part=["train"] * 4 + ["val"] * 2 + ["test"] * 3)
    for name, bundle in (("seg", segmenter), ("cls", classifier)):
        (folder / name).mkdir()
        write_split(folder / name / "split.csv", split)
        training = replace(bundle.card.training, split_hash=split_hash(read_split(folder / name / "split.csv")))
        save_bundle(folder / name / "bundle", bundle.model, replace(bundle.card, training=training))
    return folder


def load(data: Path) -> Callable[[], CheckedDataset]:
    return partial(load_ham10000, str(data))


def trained(folder: Path) -> dict[str, Path]:
    return {
        "segmenter": folder / "seg" / "bundle",
        "classifier": folder / "cls" / "bundle",
        "split": folder / "cls" / "split.csv",
    }


@pytest.fixture(scope="module")
def shipped(few_resamples: None, data: Path, trainings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("shipped") / "weights"
    headline = export_bundles(load(data), **trained(trainings), output=output)
    assert {"accuracy", "segmenter dice", "localizer dice"} <= {line[:22].strip() for line in headline.splitlines()}
    return output


def test_plots_of_the_test_are_copied_without_the_worst_cases(shipped: Path) -> None:
    assert {path.name for path in (shipped / "test" / "plots").iterdir()} == set(PLOTS)


@pytest.mark.parametrize(("kind", "source"), [("segmenter", "seg"), ("classifier", "cls")])
def test_copies_are_the_weights_rounded_to_half_precision(shipped: Path, trainings: Path, kind: str, source: str) -> None:
    copy = load_file(shipped / kind / "model.safetensors")
    original = load_file(trainings / source / "bundle" / "model.safetensors")
    assert copy.keys() == original.keys()
    for name, tensor in original.items():
        expected = tensor.half() if tensor.is_floating_point() else tensor
        assert torch.equal(copy[name], expected)


def test_cards_have_the_metrics_of_the_copies_on_the_test_split(shipped: Path, data: Path, tmp_path: Path) -> None:
    unet = TorchSegmenter(load_segmenter(shipped / "segmenter"), "cpu")
    network = TorchClassifier(load_classifier(shipped / "classifier"), "cpu")
    table = assign_parts(load_ham10000(str(data)).table, read_split(shipped / "split.csv"))
    localizer, test = Localizer(unet), table[table["part"] == "test"]
    options: dict[str, Any] = {"views": VIEWS["d4"], "batch_size": 8, "dataset": "synthetic", "heatmaps": SAMPLE}
    options["gate"] = load_gate(shipped / "segmenter", localizer)
    options["index"] = load_index(shipped / "classifier", network.card)
    metrics = score_classifier(localizer, network, test, tmp_path / "run", **options)
    assert metrics["images"] == 3
    assert metrics["pipeline"] == {"segmenter": unet.sha256, "classifier": network.sha256, "localize": "unet", "views": 8}
    alone = score_segmenter(unet, test, tmp_path / "alone", dataset="synthetic")["segmenter_alone"]
    assert unet.card.metrics == metrics["segmentation"] | {"segmenter_alone": alone}
    of_run = {name: metrics[name] for name in ("groups", "mask_sources", "pipeline", "heatmaps")}
    assert network.card.metrics == metrics["classification"] | of_run | {"localizer": metrics["segmentation"]}


def test_copies_have_graphs_compared_on_test_images(shipped: Path) -> None:
    for kind, names in (("segmenter", ["model.onnx"]), ("classifier", ["model.onnx", "gradcam.onnx"])):
        card = load_bundle(shipped / kind).card
        assert [*card.graphs] == names
        for name, record in card.graphs.items():
            assert read_graph(shipped / kind, name, card)
            assert (record.images, record.source) == (3, "synthetic, test split")
            assert 0 <= record.largest_difference < 1e-4


def test_command_adds_graphs_to_a_bundle_without_a_data_set(trainings: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trainings / "cls" / "bundle", tmp_path / "bundle"))
    call = [sys.executable, "-m", "segpipe", "export", f"bundle.classifier={folder}"]
    output = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert f"{folder}/model.onnx: " in output and f"{folder}/gradcam.onnx: " in output
    card = load_bundle(folder).card
    assert {name: (record.images, record.source) for name, record in card.graphs.items()} == {
        "model.onnx": (7, "generated samples of segpipe"),
        "gradcam.onnx": (7, "generated samples of segpipe"),
    }
    assert read_graph(folder, "gradcam.onnx", card)
    assert replace(card, graphs={}) == load_bundle(trainings / "cls" / "bundle").card


@pytest.mark.parametrize("arguments", [[], ["data.root=."], ["split=table.csv"], ["results=run"]])
def test_export_in_place_takes_bundles_only(arguments: list[str], trainings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = [f"bundle.classifier={trainings / 'cls' / 'bundle'}"] if arguments else []
    assert main(["export", *named, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "output must be given" in error and (arguments[0] if arguments else "no model") in error


def test_export_of_copies_changes_only_their_metrics(shipped: Path, data: Path, tmp_path: Path) -> None:
    again = tmp_path / "weights"
    shutil.copytree(shipped, again)
    for kind in ("segmenter", "classifier"):
        card = json.loads((again / kind / "card.json").read_text())
        (again / kind / "card.json").write_text(json.dumps(card | {"metrics": {}}))
    assert main(["export", f"data.root={data}", f"output={again}", f"results={tmp_path / 'run'}"]) == 0
    for kind in ("segmenter", "classifier"):
        for name in ("card.json", "model.onnx", "model.safetensors"):
            assert (again / kind / name).read_bytes() == (shipped / kind / name).read_bytes()
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert kept["classification"].items() <= load_classifier(again / "classifier").card.metrics.items()
    text = model_card(load_segmenter(again / "segmenter"), load_classifier(again / "classifier"))
    assert "crops by the segmenter above" in text and "the same images as in the test of the classifier" in text


def test_output_has_copies_split_and_test_only(shipped: Path, trainings: Path) -> None:
    assert {path.name for path in shipped.iterdir()} == {"segmenter", "classifier", "split.csv", "test"}
    pd.testing.assert_frame_equal(read_split(shipped / "split.csv"), read_split(trainings / "cls" / "split.csv"))


def test_trainings_on_two_splits_are_refused(data: Path, trainings: Path, segmenter: SegmenterBundle, tmp_path: Path) -> None:
    (tmp_path / "seg").mkdir()
    save_bundle(tmp_path / "seg" / "bundle", segmenter.model, segmenter.card)
    with pytest.raises(BundleError, match="must be trained on one split"):
        export_bundles(load(data), **trained(trainings) | {"segmenter": tmp_path / "seg" / "bundle"}, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_export_ends_with_one_line_and_status_2(
    data: Path, trainings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["export", f"data.root={data}", f"bundle.classifier={trainings / 'cls' / 'bundle'}", f"output={tmp_path / 'out'}"]
    assert main(call) == 2
    assert "must be given together" in capsys.readouterr().err
    assert main([*call, f"bundle.segmenter={trainings / 'seg' / 'bundle'}", f"split={tmp_path}"]) == 2
    assert f"got none at {tmp_path}" in capsys.readouterr().err
    assert main([*call, f"bundle.segmenter={tmp_path / 'absent'}"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert "absent" in output.err


def test_export_into_the_output_of_a_training_is_refused(data: Path, trainings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = [f"bundle.{name}={trainings / folder / 'bundle'}" for name, folder in (("segmenter", "seg"), ("classifier", "cls"))]
    assert main(["export", f"data.root={data}", *named, f"output={trainings / 'cls'}"]) == 2
    assert "output must hold no other results" in capsys.readouterr().err


def test_command_copies_the_models_of_trainings(
    shipped: Path, data: Path, trainings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [f"bundle.{name}={trainings / folder / 'bundle'}" for name, folder in (("segmenter", "seg"), ("classifier", "cls"))]
    assert main(["export", f"data.root={data}", *named, f"output={tmp_path / 'out'}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(str(tmp_path / "out"))
    for path in ("segmenter/model.safetensors", "classifier/card.json", "split.csv"):
        assert (tmp_path / "out" / path).read_bytes() == (shipped / path).read_bytes()
