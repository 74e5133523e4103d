"""Label tables in three forms, and masks by image name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segpipe.data.masks import find_masks
from segpipe.data.tables import read_labels
from segpipe.diagnosis import CODES, ISIC_2019_CODES
from segpipe.errors import DatasetError
from segpipe.io.images import write_png

# Leading zeros, an uppercase suffix, and a dot that begins no suffix.
NAMES = ["0001", "ISIC_2.JPG", "a.b", *(f"img{code}.png" for code in CODES[3:])]
ISIC_2019 = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
LABELS = pd.DataFrame({"name": NAMES, "code": CODES})


def ham_form() -> pd.DataFrame:
    return LABELS.rename(columns={"name": "image_id", "code": "dx"}).assign(lesion_id=[f"0{row}" for row in range(7)])


def one_hot_form() -> pd.DataFrame:
    columns = {code.upper(): (LABELS["code"] == code).astype(float) for code in CODES}
    return pd.DataFrame({"image": LABELS["name"], **columns})


def plain_form() -> pd.DataFrame:
    return pd.DataFrame({"image": LABELS["name"], "label": LABELS["code"].str.upper() + " "})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("form", [ham_form, one_hot_form, plain_form])
def test_all_forms_give_the_same_labels(tmp_path: Path, form, separator: str, encoding: str) -> None:
    form().to_csv(tmp_path / "labels", sep=separator, encoding=encoding, index=False)
    labels = read_labels(tmp_path / "labels")
    assert dict(zip(labels["image_id"], labels["dx"], strict=True)) == dict(zip(NAMES, CODES, strict=True))


def test_labels_of_other_classes_are_unchanged(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\nx,Sun Spot\ny, BCC \nz,\n")
    labels = read_labels(tmp_path / "labels.csv")
    assert labels["dx"].to_list()[:2] == ["Sun Spot", "bcc"]
    assert labels["dx"].isna().to_list() == [False, False, True]


def test_other_columns_are_kept_and_ids_stay_text(tmp_path: Path) -> None:
    ham_form().assign(age=[80.0, *[None] * 6]).to_csv(tmp_path / "labels.csv", index=False)
    labels = read_labels(tmp_path / "labels.csv")
    assert list(labels["lesion_id"]) == [f"0{row}" for row in range(7)]
    assert list(labels["age"].notna()) == [True] + [False] * 6


def test_one_hot_row_without_a_class_is_unlabeled(tmp_path: Path) -> None:
    one_hot_form().replace(1.0, 0.0).to_csv(tmp_path / "labels.csv", index=False)
    assert read_labels(tmp_path / "labels.csv")["dx"].isna().all()


def test_unknown_class_of_isic_2019_is_unlabeled(tmp_path: Path) -> None:
    rows = [f"{code}_downsampled,{','.join('1.0' if other == code else '0.0' for other in range(9))}" for code in range(9)]
    (tmp_path / "labels.csv").write_text("\n".join([ISIC_2019, *rows]))
    labels = read_labels(tmp_path / "labels.csv")
    assert labels["image_id"].to_list() == [f"{code}_downsampled" for code in range(9)]
    assert labels["dx"].to_list()[:8] == list(ISIC_2019_CODES)
    assert labels["dx"].isna().to_list() == [False] * 8 + [True]


def test_rows_without_an_image_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\n,mel\nx,nv\n")
    labels = read_labels(tmp_path / "labels.csv")
    assert labels.to_dict("records") == [{"image_id": "x", "dx": "nv"}]


def test_table_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,class\nx,nv\n")
    with pytest.raises(DatasetError, match=r"labels\.csv: labels must have the columns .*VASC or image,.*SCC, got file,class"):
        read_labels(tmp_path / "labels.csv")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_masks_are_found_by_image_name(tmp_path: Path) -> None:
    names = {
        "a": "a_segmentation.png",
        "deep/b": "deep/b_mask.BMP",
        "deep/er/c": "deep/er/Masks/c.tif",
        "d_e": "GT/d_e_Segmentation.jpg",
        "mel/0": "mel/ground_truth/0-gt.png",
        "f": "mask_f.png",
    }
    touch(*(tmp_path / name for name in names.values()), tmp_path / "a.jpg", tmp_path / "notes.txt")
    assert find_masks(tmp_path, images=[tmp_path / "a.jpg"]) == {name: tmp_path / path for name, path in names.items()}


def test_mask_name_takes_precedence_over_location(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "a_segmentation.png", tmp_path / "images" / "b.png")
    assert find_masks(tmp_path, images=[tmp_path / "images" / "b.png"]) == {"a": tmp_path / "a_segmentation.png"}


def test_masks_of_one_image_must_be_equal(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:6] = True
    write_png(tmp_path / "a_mask.png", mask)
    write_png(tmp_path / "GT" / "a.png", mask)
    Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "GT" / "a.bmp")
    assert set(find_masks(tmp_path)) == {"a"}
    write_png(tmp_path / "GT" / "a.png", ~mask)
    with pytest.raises(DatasetError, match=r"GT/a\.bmp and GT/a\.png of different content"):
        find_masks(tmp_path)


def test_folders_without_masks_or_with_results_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "run" / "results.jsonl", tmp_path / "run" / "masks" / "a.png")
    with pytest.raises(DatasetError, match=r"must hold masks, got none .* results of segpipe"):
        find_masks(tmp_path)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "target" / "a_segmentation.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "masks").symlink_to(tmp_path / "target")
    (root / "loop").symlink_to(root)
    assert find_masks(root) == {"a": root / "masks" / "a_segmentation.png"}
