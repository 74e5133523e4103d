"""Labels in the three forms that people have, and masks by the names of their images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segpipe.data.tables import find_masks, read_labels
from segpipe.diagnosis import CODES, ISIC_2019_CODES
from segpipe.errors import DatasetError
from segpipe.io.images import write_png

# Leading zeros, an ending in capitals, and a dot that is no ending.
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
def test_every_form_gives_the_same_labels(tmp_path: Path, form, separator: str, encoding: str) -> None:
    form().to_csv(tmp_path / "labels", sep=separator, encoding=encoding, index=False)
    labels = read_labels(tmp_path / "labels")
    assert dict(zip(labels["image_id"], labels["dx"], strict=True)) == dict(zip(NAMES, CODES, strict=True))


def test_labels_of_other_classes_are_spelt_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\nx,Sun Spot\ny, BCC \nz,\n")
    labels = read_labels(tmp_path / "labels.csv")
    assert labels["dx"].to_list()[:2] == ["Sun Spot", "bcc"]
    assert labels["dx"].isna().to_list() == [False, False, True]


def test_other_columns_are_kept_and_ids_stay_texts(tmp_path: Path) -> None:
    ham_form().assign(age=[80.0, *[None] * 6]).to_csv(tmp_path / "labels.csv", index=False)
    labels = read_labels(tmp_path / "labels.csv")
    assert list(labels["lesion_id"]) == [f"0{row}" for row in range(7)]
    assert list(labels["age"].notna()) == [True] + [False] * 6


def test_a_one_hot_row_without_a_class_is_no_diagnosis(tmp_path: Path) -> None:
    one_hot_form().replace(1.0, 0.0).to_csv(tmp_path / "labels.csv", index=False)
    assert read_labels(tmp_path / "labels.csv")["dx"].isna().all()


def test_the_table_of_isic_2019_is_read_and_its_unknown_is_unlabelled(tmp_path: Path) -> None:
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


def test_a_table_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,class\nx,nv\n")
    with pytest.raises(DatasetError, match=r"labels\.csv: labels must have the columns .*VASC or image,.*SCC, got file,class"):
        read_labels(tmp_path / "labels.csv")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_masks_are_known_by_the_names_of_their_images(tmp_path: Path) -> None:
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


def test_a_file_named_as_a_mask_wins_over_what_lies_beside_it_and_a_photograph_is_none(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "a_segmentation.png", tmp_path / "images" / "b.png")
    assert find_masks(tmp_path, images=[tmp_path / "images" / "b.png"]) == {"a": tmp_path / "a_segmentation.png"}


def test_two_masks_of_one_image_must_be_the_same(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:6] = True
    write_png(tmp_path / "a_mask.png", mask)
    write_png(tmp_path / "GT" / "a.png", mask)
    Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "GT" / "a.bmp")
    assert set(find_masks(tmp_path)) == {"a"}
    write_png(tmp_path / "GT" / "a.png", ~mask)
    with pytest.raises(DatasetError, match=r"GT/a\.bmp and GT/a\.png of different content"):
        find_masks(tmp_path)


def test_a_folder_without_masks_and_one_of_results_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "run" / "results.jsonl", tmp_path / "run" / "masks" / "a.png")
    with pytest.raises(DatasetError, match=r"must hold masks, got none .* results of segpipe"):
        find_masks(tmp_path)


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "a_segmentation.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "masks").symlink_to(tmp_path / "elsewhere")
    (root / "circle").symlink_to(root)
    assert find_masks(root) == {"a": root / "masks" / "a_segmentation.png"}
