"""Annotation files in whole calls: trainings, scores, and corrections of a run."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSIFIER, SEGMENTER, Trained, call, read_json

from segpipe.cli.main import main
from segpipe.config import SAMPLES
from segpipe.config.groups import DataConfig
from segpipe.data.annotations.outlines import Outline
from segpipe.data.check import load_dataset
from segpipe.data.masks import find_masks
from segpipe.io.images import read_mask

OF_SAMPLES = (f"masks={SAMPLES / 'masks'}", f"folder={SAMPLES}", f"labels={SAMPLES / 'labels.csv'}")


def annotations(*arguments: str) -> int:
    return main(["annotations", *arguments])


@pytest.fixture(scope="module")
def coco_file(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels, lesions and outlines of the shared data set."""
    root, file = trained.folder / "data", tmp_path_factory.mktemp("coco") / "instances, all.json"
    (table,) = root.glob("*.csv")
    (masks,) = root.glob("*segmentations*")
    assert annotations(f"masks={masks}", f"folder={root}", f"labels={table}", f"output={file}") == 0
    return file


def data_of(trained: Trained, file: Path, cache: Path) -> tuple[str, ...]:
    root = trained.folder / "data" / "HAM10000_images_part_1"
    data = ("data=csv", f"data.root={root}", f"data.table={file}", f"data.cache={cache}")
    return (*data, "trainer.accelerator=cpu", "batch_size=8")


@pytest.mark.parametrize("kind", ["seg", "cls"])
def test_trainings_use_labels_lesions_and_outlines_of_a_coco_file(
    trained: Trained, coco_file: Path, tmp_path: Path, kind: str
) -> None:
    networks = SEGMENTER if kind == "seg" else (*CLASSIFIER, trained.bundles[0])
    settings = (*data_of(trained, coco_file, tmp_path / "cache"), *networks, "trainer.max_epochs=1")
    ended = call(f"train_{kind}", *settings, output=tmp_path / "out")
    assert ended.status == 0, ended.err
    assert (tmp_path / "out" / "split.csv").read_bytes() == (trained.folder / kind / "split.csv").read_bytes()
    metrics = read_json(tmp_path / "out" / "test" / "metrics.json")
    before = read_json(trained.folder / kind / "test" / "metrics.json")
    assert metrics["segmentation"]["images"] == before["segmentation"]["images"]
    again = call(f"train_{kind}", *settings[:-1], "trainer.max_epochs=2", f"ckpt_path={tmp_path}/out/checkpoints/last.ckpt")
    assert again.status == 0, again.err


def test_corrected_outlines_take_precedence(trained: Trained, coco_file: Path) -> None:
    content = json.loads(coco_file.read_text())
    first, corrected = content["images"][0], content["annotations"][0]
    mask = np.zeros((first["height"], first["width"]), bool)
    mask[:10, :10] = True
    counts = Outline.of_mask(mask).counts.decode()
    content |= {"images": [first], "annotations": [corrected | {"segmentation": corrected["segmentation"] | {"counts": counts}}]}
    file = coco_file.with_name("one.json")
    file.write_text(json.dumps(content))
    target = "segpipe.data.loaders.load_ham10000"
    rows = load_dataset(DataConfig(_target_=target, root=str(trained.folder / "data"), masks=str(file))).table
    own = load_dataset(DataConfig(_target_=target, root=str(trained.folder / "data"))).table
    differ = rows["mask_path"] != own["mask_path"]
    assert list(rows.loc[differ, "image_id"]) == [Path(first["file_name"]).stem]
    assert np.array_equal(read_mask(Path(rows.loc[differ, "mask_path"].item())), mask)


def test_classifier_of_one_label_is_refused(trained: Trained, coco_file: Path, tmp_path: Path) -> None:
    content = json.loads(coco_file.read_text())
    content["categories"] = [category | {"name": "lesion"} for category in content["categories"]]
    (tmp_path / "one.json").write_text(json.dumps(content))
    settings = (*data_of(trained, tmp_path / "one.json", tmp_path / "cache"), "trainer.max_epochs=1")
    ended = call("train_cls", *settings, *CLASSIFIER, trained.bundles[0], output=tmp_path / "out")
    assert ended.status == 2
    assert "at least two classes, got lesion alone" in ended.error
    ended = call("train_seg", *settings, *SEGMENTER, output=tmp_path / "out")
    assert ended.status == 0, ended.err


def scores(output: Path, trained: Trained, **values: Any) -> dict[str, Any]:
    ended = call("run_pipeline", *trained.bundles, "tta=none", "explain=none", folder=SAMPLES, output=output, **values)
    assert ended.status == 0, ended.err
    metrics = read_json(output / "metrics.json")
    return {name: metrics[name]["metrics"] for name in ("classification", "segmentation")}


def test_scores_are_those_of_the_same_labels_and_masks(trained: Trained, tmp_path: Path) -> None:
    given = {"labels": SAMPLES / "labels.csv", "masks": SAMPLES / "masks"}
    of_folder = scores(tmp_path / "folder", trained, **given)
    for name in ("coco", "label_studio", "cvat"):
        file = tmp_path / f"{name} [1].txt"
        assert annotations(*OF_SAMPLES, f"format={name}", f"output={file}") == 0
        assert scores(tmp_path / name, trained, labels=file, masks=file) == of_folder


def test_masks_of_a_run_are_corrected_and_scored(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores(tmp_path / "run", trained, labels=SAMPLES / "labels.csv", masks=SAMPLES / "masks")
    file = tmp_path / "coco.json"
    assert annotations(f"run={tmp_path / 'run'}", f"output={file}") == 0
    assert f"in {file}" in capsys.readouterr().out
    with (tmp_path / "run" / "results.csv").open() as table:
        rows = {row["path"]: row for row in csv.DictReader(table)}
    content = json.loads(file.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    images = {image["id"]: image["file_name"] for image in content["images"]}
    assert {*images.values()} == rows.keys()
    found = find_masks(file)
    for entry in content["annotations"]:
        row = rows[images[entry["image_id"]]]
        assert names[entry["category_id"]] == row["diagnosis"]
        assert entry["score"] == pytest.approx(float(row["confidence"]))
        mask = read_mask(tmp_path / "run" / "masks" / f"{Path(row['path']).stem}.png")
        assert np.array_equal(read_mask(found[row["path"]]), mask)
    assert len(content["annotations"]) == sum(row["mask_source"] != "whole_image" for row in rows.values())


@pytest.mark.parametrize("key", ["labels", "masks"])
def test_bad_file_is_one_line(trained: Trained, tmp_path: Path, key: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text('{"images": [], "annotations": []}')
    ended = call("run_pipeline", *trained.bundles, folder=SAMPLES, output=tmp_path / "out", **{key: file})
    assert ended.status == 2
    assert "bad.json: Object missing required field `categories`" in ended.error
    assert not (tmp_path / "out").exists()


def test_output_is_a_data_set_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert annotations(*OF_SAMPLES, f"output={tmp_path}/a") == 0
    assert annotations(f"masks={tmp_path}/a", "format=masks", f"output={tmp_path}/b") == 0
    data = ("data=csv", f"data.root={SAMPLES}", f"data.table={tmp_path}/b/labels.csv", f"data.masks={tmp_path}/b/masks")
    assert main(["check", *data, "data.without_lesion_ids=true"]) == 0
    assert "7 usable images of 7 lesions, 7 with a mask" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "b" / "labels.csv")) == 7


def test_wrong_call_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert annotations(f"output={tmp_path}/a") == 2
    assert "exactly one of run=DIR" in capsys.readouterr().err
    assert annotations(f"masks={SAMPLES / 'masks'}", "format=yolo", f"output={tmp_path}/a") == 2
    assert "format must be one of coco, label_studio, cvat, masks" in capsys.readouterr().err
