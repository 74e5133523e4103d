"""Images of one's own: classes from folders or from a table, and what cannot be used is refused in words."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segpipe.data.assembly import malignant_among
from segpipe.data.own_images import load_csv, load_folders
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.errors import DatasetError
from segpipe.image_io import write_png

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def make(root: Path, *names: str) -> Path:
    for name in names:
        write_png(root / name, IMAGE)
    return root


def classes_by_image(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["image_id"], table["dx"], strict=True))


def test_each_folder_is_a_class_with_all_that_lies_below_it(tmp_path: Path) -> None:
    make(tmp_path, "wart/a.png", "wart/deep/er/b.png", "Sun spot/c.png")
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert dataset.classes == ("Sun spot", "wart")
    assert dataset.malignant == ()
    assert classes_by_image(dataset.table) == {"a": "wart", "b": "wart", "c": "Sun spot"}
    assert list(dataset.table["lesion_id"]) == list(dataset.table["image_id"])
    assert "images per diagnosis: Sun spot 1, wart 2" in dataset.report()


def test_masks_and_images_outside_of_classes_are_not_in_it(tmp_path: Path) -> None:
    make(tmp_path, "one/a.png", "two/b.png", "stray.png")
    write_png(tmp_path / "masks" / "a_segmentation.png", np.ones((12, 16), bool))
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert dataset.classes == ("one", "two")
    masks = dict(zip(dataset.table["image_id"], dataset.table["mask_path"], strict=True))
    assert masks == {"a": str(tmp_path / "masks" / "a_segmentation.png"), "b": None}
    assert [problem.image_ids for problem in dataset.problems if problem.what == "image without metadata"] == [("stray",)]


def test_the_seven_diagnoses_keep_their_codes_and_their_order(tmp_path: Path) -> None:
    make(tmp_path, *(f"{code.upper()}/{code}.png" for code in reversed(CODES)))
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert dataset.classes == CODES
    assert dataset.malignant == MALIGNANT_CODES
    assert classes_by_image(dataset.table) == {code: code for code in CODES}


def test_diagnoses_of_isic_2019_are_known_too_and_stand_between_the_seven(tmp_path: Path) -> None:
    make(tmp_path, "SCC/a.png", "AKIEC/b.png", "AK/c.png", "Mel/d.png")
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert dataset.classes == dataset.malignant == ("mel", "ak", "akiec", "scc")


def test_table_of_isic_2019_is_taken_as_it_is(tmp_path: Path) -> None:
    make(tmp_path / "images", "a.png", "b.png", "c.png")
    header = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
    (tmp_path / "t.csv").write_text(f"{header}\na,0,1,0,0,0,0,0,0,0\nb,0,0,0,0,0,0,0,1,0\nc,0,0,0,0,0,0,0,0,1\n")
    dataset = load_csv(str(tmp_path / "images"), table=str(tmp_path / "t.csv"), without_lesion_ids=True)
    assert (dataset.classes, dataset.malignant) == (("nv", "scc"), ("scc",))
    assert classes_by_image(dataset.table) == {"a": "nv", "b": "scc"}
    assert "1 x unknown diagnosis (c): left out" in dataset.report()


@pytest.mark.parametrize(
    ("classes", "named", "malignant"),
    [
        (("mel", "nv"), None, ("mel",)),
        (("df", "nv"), None, ()),
        (("mel", "nv", "wart"), None, ()),
        (("ak", "nv", "scc"), None, ("ak", "scc")),
        (("mel", "nv", "wart"), ["MEL"], ("mel",)),
        (("one", "two"), ["two", "one"], ("one", "two")),
        (("mel", "nv"), [], ()),
    ],
)
def test_malignant_classes_follow_from_the_codes_or_are_named(
    classes: tuple[str, ...], named: list[str] | None, malignant: tuple[str, ...]
) -> None:
    assert malignant_among(classes, named) == malignant


def test_malignant_class_that_is_none_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"data.malignant must name classes among one, two, got three"):
        malignant_among(("one", "two"), ["three"])


def test_table_gives_classes_lesions_and_what_else_is_known(tmp_path: Path) -> None:
    make(tmp_path / "images", "a.png", "sub/b.png", "c.png", "d.png")
    table = tmp_path / "t.csv"
    table.write_text(
        "image,label,lesion_id,age,sex\na.png,wart,L1,50,female\nb,wart,L1,,\nc.png,Spot,L2,40,male\nx,Spot,L3,,\ne,,L4,,\n"
    )
    dataset = load_csv(str(tmp_path / "images"), table=str(table))
    assert dataset.classes == ("Spot", "wart")
    assert classes_by_image(dataset.table) == {"a": "wart", "b": "wart", "c": "Spot"}
    assert list(dataset.table["lesion_id"]) == ["L1", "L1", "L2"]
    assert dataset.table["age"].to_list()[::2] == [50, 40]
    assert {(problem.what, problem.image_ids) for problem in dataset.problems} >= {
        ("missing image file", ("x", "e")),
        ("unknown diagnosis", ("e",)),
        ("image without metadata", ("d",)),
    }


def test_split_by_image_must_be_asked_for(tmp_path: Path) -> None:
    make(tmp_path, "one/a.png", "two/b.png")
    (tmp_path / "t.csv").write_text("image,label\na,one\nb,two\n")
    with pytest.raises(DatasetError, match=r"has no lesion ids, .* data.without_lesion_ids=true"):
        load_folders(str(tmp_path))
    with pytest.raises(DatasetError, match=r"has no lesion ids, .* data.without_lesion_ids=true"):
        load_csv(str(tmp_path), table=str(tmp_path / "t.csv"))
    assert len(load_csv(str(tmp_path), table=str(tmp_path / "t.csv"), without_lesion_ids=True).table) == 2


def test_only_what_the_table_does_not_say_is_split_by_image(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.csv").write_text("image,label,lesion_id\na,one,L1\nb,two,\nc,two,L1\n")
    left = load_csv(str(tmp_path), table=str(tmp_path / "t.csv"))
    assert "1 x missing lesion id (b): left out" in left.report()
    filled = load_csv(str(tmp_path), table=str(tmp_path / "t.csv"), without_lesion_ids=True).table
    assert list(filled["lesion_id"]) == ["L1", "b", "L1"]


@pytest.mark.parametrize("name", ["a=b", "a,b", "a;b", '"a"', "-x", " x", "x "])
def test_class_name_that_a_table_or_a_shell_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"{name}/a.png", "two/b.png")
    with pytest.raises(DatasetError, match=r"a class must have a name of letters, digits, .*; rename it"):
        load_folders(str(tmp_path), without_lesion_ids=True)


@pytest.mark.parametrize("name", ["0", "Ä", "a b", "BCC (nodular)", "x-1", "a.b", "c&d", "IV+"])
def test_class_names_as_people_write_them_are_taken(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"{name}/a.png", "two/b.png")
    assert name in load_folders(str(tmp_path), without_lesion_ids=True).classes


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    make(tmp_path, "one/1.png", "two/1.png", "two/2.png")
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert classes_by_image(dataset.table) == {"one/1": "one", "two/1": "two", "2": "two"}


def test_a_single_class_is_no_question(tmp_path: Path) -> None:
    make(tmp_path, "one/a.png", "one/b.png")
    with pytest.raises(DatasetError, match="at least two classes, got 1"):
        load_folders(str(tmp_path), without_lesion_ids=True)


def test_a_folder_without_images_and_one_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"data.root must hold images, got none in"):
        load_folders(str(tmp_path), without_lesion_ids=True)
    make(tmp_path, "a.png")
    with pytest.raises(DatasetError, match="at least two classes, got 0"):
        load_folders(str(tmp_path), without_lesion_ids=True)
