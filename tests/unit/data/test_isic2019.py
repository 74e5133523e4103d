"""ISIC 2019 with tables or class folders, and with all or some classes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segpipe.data.check import CheckedDataset
from segpipe.data.loaders import load_isic2019
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import ISIC_2019_CODES
from segpipe.errors import DatasetError

FOUR = ("mel", "nv", "bcc", "bkl")
# Per class, a lesion with two images and an image without a known lesion.
TABLE = pd.DataFrame(
    [
        (f"ISIC_{3 * number + image:07d}" + "_downsampled" * (number % 2), code, f"BCN_{number}" if image < 2 else None)
        for number, code in enumerate(ISIC_2019_CODES)
        for image in range(3)
    ],
    columns=["image", "dx", "lesion_id"],
)
GAPS = TABLE.loc[TABLE["lesion_id"].isna(), "image"].to_list()
INPUT = "ISIC_2019_Training_Input"


def draw(path: Path, code: str) -> None:
    """Draw an image; classes not in HAM10000 are drawn like the most similar one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn_as = {"ak": "akiec", "scc": "akiec"}.get(code, code)
    Image.fromarray(make_image(drawn_as, np.random.default_rng(1), (32, 40))[0]).save(path)


def write_tables(root: Path, table: pd.DataFrame = TABLE) -> None:
    one_hot = {code.upper(): (table["dx"] == code).astype(float) for code in (*ISIC_2019_CODES, "unk")}
    pd.DataFrame({"image": table["image"], **one_hot}).to_csv(root / "ISIC_2019_Training_GroundTruth.csv", index=False)
    metadata = table[["image"]].assign(age_approx=55.0, anatom_site_general="anterior torso", lesion_id=table["lesion_id"])
    metadata.assign(sex="female").to_csv(root / "ISIC_2019_Training_Metadata.csv", index=False)


def archive(root: Path) -> None:
    for name, code in zip(TABLE["image"], TABLE["dx"], strict=True):
        draw(root / INPUT / f"{name}.jpg", code)
    write_tables(root)


def class_folders(root: Path, *, codes: tuple[str, ...] = FOUR, above: Callable[[int], str] = lambda number: "") -> None:
    for number, (name, code) in enumerate(zip(TABLE["image"], TABLE["dx"], strict=True)):
        if code in codes:
            draw(root / above(number) / code.upper() / f"{name}.jpg", code)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    archive(tmp_path)
    return tmp_path


def column(dataset: CheckedDataset, name: str) -> dict[str, str]:
    return dict(zip(dataset.table["image_id"], dataset.table[name], strict=True))


def expected(column: str = "dx", *, codes: tuple[str, ...] = ISIC_2019_CODES) -> dict[str, str]:
    rows = TABLE[TABLE["dx"].isin(codes)]
    return dict(zip(rows["image"], rows[column], strict=True))


def test_all_eight_classes_are_in_the_order_of_the_table(root: Path) -> None:
    dataset = load_isic2019(str(root), without_lesion_ids=True)
    assert dataset.classes == ISIC_2019_CODES == ("mel", "nv", "bcc", "ak", "bkl", "df", "vasc", "scc")
    assert dataset.malignant == ("mel", "bcc", "ak", "scc")
    assert column(dataset, "dx") == expected()


def test_metadata_columns_are_joined(root: Path) -> None:
    table = load_isic2019(str(root)).table
    assert set(table["age"]) == {55.0}
    assert set(table["sex"]) == {"female"}
    assert set(table["localization"]) == {"anterior torso"}
    assert list(table["mask_path"]) == [None] * len(table)


def test_images_without_a_lesion_id_are_left_out_unless_allowed(root: Path) -> None:
    left_out = load_isic2019(str(root))
    assert f"8 x missing lesion id ({', '.join(GAPS[:3])}, ...): left out" in left_out.report().splitlines()
    assert not set(GAPS) & set(left_out.table["image_id"])
    filled = column(load_isic2019(str(root), without_lesion_ids=True), "lesion_id")
    known = {name: lesion for name, lesion in expected("lesion_id").items() if name not in GAPS}
    assert filled == known | {name: name for name in GAPS}


@pytest.mark.parametrize("named", [["bcc", "bkl", "mel", "nv"], ["NV", "MEL", "BKL", "BCC"]])
def test_other_classes_are_left_out_unread_and_reported(root: Path, named: list[str]) -> None:
    others = TABLE.loc[~TABLE["dx"].isin(FOUR), "image"].to_list()
    (root / INPUT / f"{others[0]}.jpg").write_bytes(b"no image")
    dataset = load_isic2019(str(root), classes=named, without_lesion_ids=True)
    assert (dataset.classes, dataset.malignant) == (FOUR, ("mel", "bcc"))
    assert column(dataset, "dx") == expected(codes=FOUR)
    lines = dataset.report().splitlines()
    assert f"12 x image of a class outside data.classes ({', '.join(others[:3])}, ...): left out" in lines
    assert "images per diagnosis: mel 3, nv 3, bcc 3, bkl 3" in lines
    assert not any("does not decode" in line or "without metadata" in line for line in lines)


@pytest.mark.parametrize("above", [lambda number: "", lambda number: ("train", "test")[number % 2]], ids=["plain", "parts"])
def test_class_folders_need_no_table(tmp_path: Path, above: Callable[[int], str]) -> None:
    class_folders(tmp_path, above=above)
    draw(tmp_path / "unsorted.jpg", "nv")
    dataset = load_isic2019(str(tmp_path), without_lesion_ids=True)
    assert dataset.classes == FOUR
    assert column(dataset, "dx") == expected(codes=FOUR)
    assert all(lesion == name for name, lesion in column(dataset, "lesion_id").items())
    assert "1 x image without metadata (unsorted): left out" in dataset.report()


def test_class_folders_without_lesion_ids_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path)
    with pytest.raises(DatasetError, match=r"has no lesion ids, .* data.without_lesion_ids=true"):
        load_isic2019(str(tmp_path))


def test_class_folders_may_be_restricted_to_some_classes(tmp_path: Path) -> None:
    class_folders(tmp_path)
    dataset = load_isic2019(str(tmp_path), classes=["nv", "mel"], without_lesion_ids=True, malignant=["mel"])
    assert (dataset.classes, dataset.malignant) == (("mel", "nv"), ("mel",))
    assert column(dataset, "dx") == expected(codes=("mel", "nv"))


def test_tables_take_precedence_over_folders(tmp_path: Path) -> None:
    class_folders(tmp_path, codes=ISIC_2019_CODES)
    moved = tmp_path / "NV" / "ISIC_0000000.jpg"
    (tmp_path / "MEL" / moved.name).rename(moved)
    write_tables(tmp_path)
    assert column(load_isic2019(str(tmp_path), without_lesion_ids=True), "dx") == expected()


def test_unknown_is_not_a_class(root: Path) -> None:
    write_tables(root, TABLE.assign(dx=["unk", *TABLE["dx"][1:]]))
    dataset = load_isic2019(str(root))
    assert dataset.classes == ISIC_2019_CODES
    assert "1 x unknown diagnosis (ISIC_0000000): left out" in dataset.report()


def test_official_test_set_next_to_it_is_ignored(root: Path) -> None:
    """Its table has weights, many unknowns and no lesion ids."""
    one_hot = {code.upper(): [float(code == found) for found in ("nv", "unk")] for code in (*ISIC_2019_CODES, "unk")}
    names = ["ISIC_0100000", "ISIC_0100001"]
    table = pd.DataFrame({"image": names, **one_hot, "score_weight": 1.0, "validation_weight": 0.0})
    table.to_csv(root / "ISIC_2019_Test_GroundTruth.csv", index=False)
    for name in names:
        draw(root / "ISIC_2019_Test_Input" / f"{name}.jpg", "nv")
    lines = load_isic2019(str(root)).report().splitlines()
    assert "1 x unknown diagnosis (ISIC_0100001): left out" in lines
    assert any(line.startswith("10 x missing lesion id") for line in lines)
    filled = column(load_isic2019(str(root), without_lesion_ids=True), "lesion_id")
    assert filled["ISIC_0100000"] == "ISIC_0100000"


@pytest.mark.parametrize("named", [["mel"], [], ["mel", "wart"], ["mel", "akiec"]])
def test_invalid_choices_of_classes_are_refused(root: Path, named: list[str]) -> None:
    got = ", ".join(sorted(named)) or "none"
    with pytest.raises(
        DatasetError, match=rf"data.classes must name two or more of mel, nv, .*, as data.root holds .* got {got}$"
    ):
        load_isic2019(str(root), classes=named)


def test_class_without_a_folder_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path)
    with pytest.raises(DatasetError, match=r"two or more of mel, nv, bcc, bkl, as data.root holds them, got mel, scc$"):
        load_isic2019(str(tmp_path), classes=["mel", "scc"], without_lesion_ids=True)


def test_images_of_one_name_are_distinguished_by_folder(tmp_path: Path) -> None:
    class_folders(tmp_path)
    draw(tmp_path / "BCC" / "ISIC_0000000.jpg", "bcc")
    table = load_isic2019(str(tmp_path), without_lesion_ids=True).table.set_index("image_id")
    assert table.loc["BCC/ISIC_0000000", "dx"] == "bcc"
    assert "ISIC_0000000" not in table.index


def test_photographs_without_labels_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / INPUT / "a.jpg", "nv")
    with pytest.raises(
        DatasetError, match=r"must hold ISIC_2019_Training_GroundTruth.csv or a folder for each class, got neither"
    ):
        load_isic2019(str(tmp_path))
