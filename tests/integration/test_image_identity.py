"""Images with equal names, masks, and earlier results in one folder."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSIFIER, Ended, Script, call, read_json, results
from PIL import Image

from segpipe.data.synthetic.photo import make_image
from segpipe.io.images import write_png

CODES = ("mel", "nv")


@pytest.fixture
def same_names(tmp_path: Path) -> Path:
    """Photographs with equal names in two folders, and their masks."""
    folder = tmp_path / "same"
    for seed, (code, number) in enumerate((code, number) for code in CODES for number in range(3)):
        image, mask = make_image(code, np.random.default_rng(seed), (60, 80))
        write_png(folder / "Imgs" / code / f"{number}.png", image)
        (folder / "GT" / code).mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(folder / "GT" / code / f"{number}.bmp")
    rows = [f"{code}\\{number}.jpg; {code};L_{code}{number}\r\n" for code in CODES for number in range(3)]
    (folder / "labels.csv").write_text("image;label;lesion_id\r\n" + "".join(rows))
    return folder


def score(pipeline: Script, folder: Path, **values: object) -> Ended:
    return pipeline(folder=folder, explain="none", tta="none", labels=folder / "labels.csv", masks=folder, **values)


def test_images_with_equal_names_keep_their_labels_and_masks_beside_results(pipeline: Script, same_names: Path) -> None:
    first = score(pipeline, same_names, output=same_names / "results")
    assert first.status == 0, first.err
    again = score(pipeline, same_names)
    assert again.status == 0, again.err
    assert "results" in again.err
    metrics = read_json(Path("out/metrics.json"))
    assert metrics == read_json(same_names / "results" / "metrics.json")
    classification = metrics["classification"]["metrics"]
    assert (classification["support_mel"]["value"], classification["support_nv"]["value"]) == (3, 3)
    rows = results(Path("out"))
    truth = [Path(path).parent.name for path in rows["path"]]
    assert classification["accuracy"]["value"] == pytest.approx(np.mean(rows["diagnosis"] == truth))
    assert metrics["segmentation"]["images"] == 6
    assert 0 < metrics["segmentation"]["metrics"]["dice"]["value"] < 1
    submission = Path("out/submission.csv").read_text().splitlines()[1:]
    assert [line.partition(",")[0] for line in submission] == [f"Imgs/{code}/{number}" for code in CODES for number in range(3)]


def test_bad_labels_and_masks_are_left_out_and_reported_first(pipeline: Script, same_names: Path) -> None:
    table = same_names / "labels.csv"
    table.write_text(table.read_text().replace("0.jpg; mel", "0.jpg; wart"))
    (same_names / "GT" / "nv" / "1.bmp").write_bytes(b"no picture")
    ended = score(pipeline, same_names)
    assert ended.status == 0, ended.err
    metrics = read_json(Path("out/metrics.json"))
    assert metrics["left_out"] == {
        "mask that does not decode": ["Imgs/nv/1.png"],
        "label of another class, 'wart'": ["Imgs/mel/0.png"],
    }
    assert "wart" in ended.err
    assert (metrics["classification"]["images"], metrics["segmentation"]["images"]) == (5, 5)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("other,mel\n", "labels must name at least one of the 6 images"),
        ("mel/0,wart\nmel/1,wart\n", "labels must name classes among mel, nv, .*2 x .*'wart'"),
        ("0,mel\n", "labels must say which image is meant, got '0'"),
        ("mel/0,mel\nmel/0.png,nv\n", "labels must agree, got mel and nv"),
    ],
)
def test_unusable_labels_stop_before_the_first_image(
    pipeline: Script, same_names: Path, tmp_path: Path, rows: str, reason: str
) -> None:
    (tmp_path / "labels.csv").write_text(f"image,label\n{rows}")
    ended = pipeline(folder=same_names / "Imgs", labels=tmp_path / "labels.csv")
    assert ended.status == 2
    assert re.search(reason, ended.error)
    assert not Path("out").exists()


def test_training_without_usable_masks_lists_the_reasons(same_names: Path, tmp_path: Path) -> None:
    for path in (same_names / "GT").rglob("*.bmp"):
        Image.fromarray(np.zeros((60, 80), np.uint8)).save(path)
    (same_names / "GT" / "nv" / "1.bmp").write_bytes(b"no picture")
    data = ("data=csv", f"data.root={same_names}", f"data.table={same_names / 'labels.csv'}", "allow_leak=true")
    ended = call("train_seg", *data, "segmenter.encoder=tu-test_efficientnet", output=tmp_path / "out")
    assert ended.status == 2
    assert "5 x empty mask" in ended.error
    assert "1 x mask that does not decode" in ended.error


def test_benign_and_malignant_keep_their_names(pipeline: Script, trained: object, tmp_path: Path) -> None:
    root = tmp_path / "two"
    for seed, (part, (name, code), number) in enumerate(
        (part, pair, number)
        for part, count in (("train", 4), ("val", 2), ("test", 3))
        for pair in (("Benign", "nv"), ("Malignant", "mel"))
        for number in range(count)
    ):
        write_png(root / part / name / f"{number}.png", make_image(code, np.random.default_rng(seed), (60, 80))[0])
    arguments = ("data=folders", f"data.root={root}", "data.without_lesion_ids=true", "data.cache=null", "crop=whole_image")
    settings = ("trainer.max_epochs=1", "trainer.accelerator=cpu", "batch_size=4", "tta=none", "allow_leak=true")
    refused = call("train_cls", *arguments, *CLASSIFIER, *settings, output=tmp_path / "cls")
    assert (refused.status, "data.split_folders=true" in refused.error) == (2, True)
    ended = call("train_cls", *arguments, *CLASSIFIER, *settings, "data.split_folders=true", output=tmp_path / "cls")
    assert ended.status == 0, ended.err
    assert list(results(tmp_path / "cls" / "test").columns[5:8]) == ["p_benign", "p_malignant", "flagged"]
    bundle = f"bundle.classifier={tmp_path / 'cls' / 'bundle'}"
    named = pipeline(bundle, folder=root / "test", report="html", figures=True, explain="none")
    assert named.status == 0, named.err
    rows = results(Path("out"))
    assert (rows["p_benign"] + rows["p_malignant"]).to_numpy() == pytest.approx(1)
    assert Path("out/report.html").is_file()
