"""Table and contact sheet of likely label errors, by the command."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segpipe.cli.main import main
from segpipe.errors import DatasetError
from segpipe.evaluation.label_audit import rank_labels, read_predictions
from segpipe.io.folders import find_images
from segpipe.io.images import read_image
from segpipe.io.run_files import LABEL_SHEET, LABEL_TABLE, RESULTS, SUMMARY

CODES = ("mel", "nv", "bkl")
WRONG = "img_07"


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    """Predictions that agree with all labels except one."""
    labels = [CODES[number % 3] for number in range(12)]
    rng = np.random.default_rng(0)
    rows = []
    for number, label in enumerate(labels):
        is_wrong = f"img_{number:02}" == WRONG
        probs = {f"p_{code}": (0.02 if is_wrong else 0.1) + 0.01 * rng.random() for code in CODES}
        true = "mel" if is_wrong else label
        probs[f"p_{true}"] += 1 - sum(probs.values())
        rows.append({"image_id": f"img_{number:02}", "lesion_id": f"les_{number // 2}", "dx": label, "fold": 0, **probs})
    path = tmp_path / "out_of_fold.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (64, 48), (20 * number, 90, 160)).save(folder / f"img_{number:02}.jpg")
    return folder


def as_results(folds: Path) -> Path:
    """Write the predictions as a run does, without labels."""
    table = pd.read_csv(folds)
    table = table.assign(path=table["image_id"] + ".jpg", p_malignant=table["p_mel"]).drop(
        columns=["image_id", "dx", "lesion_id"]
    )
    path = folds.parent / "run" / RESULTS
    path.parent.mkdir()
    table.to_csv(path, index=False)
    (path.parent / SUMMARY).write_text('{"malignant": ["mel"]}')
    return path


def test_wrong_label_is_first_in_table_and_sheet(folds: Path, photos: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "audit"
    assert main(["audit", "labels", f"predictions={folds}", f"folder={photos}", f"output={output}", "shown=6"]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(output / LABEL_TABLE)
    assert list(table["rank"]) == list(range(1, 13))
    first = table.iloc[0]
    assert (first["image_id"], first["lesion_id"], first["given"], first["suggested"]) == (WRONG, "les_3", "nv", "mel")
    assert list(table["likely_error"]) == [True] + [False] * 11
    assert first["p_suggested"] == pytest.approx(1 - first["p_given"] - 0.02, abs=0.011)
    assert "1 of 12 images (8.3 %)" in printed and "given nv, suggested mel: 1" in printed
    assert str(output / LABEL_TABLE) in printed and str(output / LABEL_SHEET) in printed
    sheet = read_image(output / LABEL_SHEET)
    assert sheet.shape[1] == 1280
    colors = [np.array((20 * number, 90, 160)) for number in (7, int(table["image_id"][11][-2:]))]
    near = [(np.abs(sheet.astype(int) - color).max(axis=-1) <= 6).sum() for color in colors]
    assert near[0] > 10_000 and near[1] == 0  # the first is shown, the last of twelve is not
    assert find_images(tmp_path).outputs == (output,)


def test_results_of_a_run_are_joined_with_labels(folds: Path, tmp_path: Path, capsys) -> None:
    results, labels = as_results(folds), tmp_path / "labels.csv"
    assert main(["audit", "labels", f"predictions={results}", f"output={tmp_path / 'audit'}"]) == 2
    assert "labels=CSV" in capsys.readouterr().err
    known = pd.read_csv(folds)[["image_id", "dx"]]
    known.loc[0, "dx"] = "scc"
    known.iloc[:-1].to_csv(labels, index=False)
    assert main(["audit", "labels", f"predictions={results}", f"labels={labels}", f"output={tmp_path / 'audit'}"]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "audit" / LABEL_TABLE)
    assert (len(table), table["image_id"][0]) == (10, f"{WRONG}.jpg")
    assert "without a label among the classes: 2" in printed
    assert not (tmp_path / "audit" / LABEL_SHEET).exists()


def test_labels_replace_those_of_the_folds(folds: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    table = pd.read_csv(folds)
    table.loc[table["image_id"] == WRONG, "dx"] = "mel"
    table[["image_id", "dx"]].to_csv(labels, index=False)
    assert rank_labels(read_predictions(folds, None))["likely_error"].sum() == 1
    assert rank_labels(read_predictions(folds, labels))["likely_error"].sum() == 0


def test_labels_may_be_an_annotation_file(folds: Path, tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"img_{number:02}.jpg", "height": 48, "width": 64} for number in range(12)]
    classes = [{"id": number, "name": code} for number, code in enumerate(CODES)]
    labeled = [{"image_id": number, "category_id": number % 3} for number in range(12)]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": labeled, "categories": classes}))
    table = read_predictions(folds, path).table
    assert list(table["dx"]) == list(pd.read_csv(folds)["dx"])


def test_class_malignant_counts_where_the_run_says_so(tmp_path: Path) -> None:
    path = tmp_path / RESULTS
    pd.DataFrame({"path": ["a.jpg", "b.jpg"], "p_benign": [0.9, 0.2], "p_malignant": [0.1, 0.8]}).to_csv(path, index=False)
    (tmp_path / SUMMARY).write_text('{"malignant": ["malignant"]}')
    labels = tmp_path / "labels.csv"
    labels.write_text("image,label\na,benign\nb,malignant\n")
    assert read_predictions(path, labels).codes == ("benign", "malignant")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.drop(columns=[name for name in table if name.startswith("p_")]), "p_<code>"),
        (lambda table: table.assign(p_mel=2.0), "add up to 1"),
        (lambda table: table.assign(p_mel="high"), "add up to 1"),
        (lambda table: table.drop(columns="dx"), "labels=CSV"),
        (lambda table: table.assign(dx="scc"), "got none of 12"),
    ],
)
def test_unusable_predictions_are_refused(folds: Path, change, reason: str) -> None:
    change(pd.read_csv(folds)).to_csv(folds, index=False)
    with pytest.raises(DatasetError, match=reason):
        read_predictions(folds, None)


def test_folder_without_the_images_is_refused(folds: Path, photos: Path, tmp_path: Path, capsys) -> None:
    for path in photos.iterdir():
        path.rename(path.with_stem(f"other_{path.stem}"))
    assert main(["audit", "labels", f"predictions={folds}", f"folder={photos}", f"output={tmp_path / 'audit'}"]) == 2
    assert WRONG in capsys.readouterr().err
    assert not (tmp_path / "audit").exists()
