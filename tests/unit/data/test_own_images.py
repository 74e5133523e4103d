"""Own images with classes from folders or tables; unusable data are refused."""

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segpipe.data.assembly import malignant_among
from segpipe.data.loaders import load_csv, load_folders
from segpipe.data.splits import own_split
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.errors import DatasetError
from segpipe.io.images import write_png

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def make(root: Path, *names: str) -> Path:
    for name in names:
        write_png(root / name, IMAGE)
    return root


def classes_by_image(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["image_id"], table["dx"], strict=True))


def test_each_folder_is_a_class_with_all_images_below_it(tmp_path: Path) -> None:
    make(tmp_path, "wart/a.png", "wart/deep/er/b.png", "Sun spot/c.png")
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert dataset.classes == ("Sun spot", "wart")
    assert dataset.malignant == ()
    assert classes_by_image(dataset.table) == {"a": "wart", "b": "wart", "c": "Sun spot"}
    assert list(dataset.table["lesion_id"]) == list(dataset.table["image_id"])
    assert "images per diagnosis: Sun spot 1, wart 2" in dataset.report()


def test_masks_and_images_outside_of_class_folders_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "one/a.png", "two/b.png", "stray.png")
    write_png(tmp_path / "masks" / "a_segmentation.png", np.ones((12, 16), bool))
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert dataset.classes == ("one", "two")
    masks = dict(zip(dataset.table["image_id"], dataset.table["mask_path"], strict=True))
    assert masks == {"a": str(tmp_path / "masks" / "a_segmentation.png"), "b": None}
    assert [problem.image_ids for problem in dataset.problems if problem.defect == "image without metadata"] == [("stray",)]


def test_images_without_suffix_are_used_and_unsupported_formats_reported(tmp_path: Path) -> None:
    make(tmp_path, "one/a.png", "two/b.png", "two/c.jpe", "two/d")
    (tmp_path / "one" / "e.avif").write_bytes(b"x")
    (tmp_path / "one" / "f").write_bytes(b"\0\0\0\x18ftypavif")
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert classes_by_image(dataset.table) == {"a": "one", "b": "two", "c": "two", "d": "two"}
    assert [problem.image_ids for problem in dataset.problems if "not read" in problem.defect] == [("one/e.avif", "one/f")]


def test_root_with_unsupported_formats_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.avif").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"a\.avif.*AVIF"):
        load_folders(str(tmp_path), without_lesion_ids=True)


def test_seven_diagnoses_keep_codes_and_order(tmp_path: Path) -> None:
    make(tmp_path, *(f"{code.upper()}/{code}.png" for code in reversed(CODES)))
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert dataset.classes == CODES
    assert dataset.malignant == MALIGNANT_CODES
    assert classes_by_image(dataset.table) == {code: code for code in CODES}


def test_diagnoses_of_isic_2019_are_sorted_with_the_seven(tmp_path: Path) -> None:
    make(tmp_path, "SCC/a.png", "AKIEC/b.png", "AK/c.png", "Mel/d.png")
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert dataset.classes == dataset.malignant == ("mel", "ak", "akiec", "scc")


def test_isic_2019_table_is_accepted(tmp_path: Path) -> None:
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
def test_malignant_classes_are_derived_or_given(
    classes: tuple[str, ...], named: list[str] | None, malignant: tuple[str, ...]
) -> None:
    assert malignant_among(classes, named) == malignant


def test_malignant_class_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"data.malignant must name classes among one, two, got three"):
        malignant_among(("one", "two"), ["three"])


def test_table_defines_classes_lesions_and_metadata(tmp_path: Path) -> None:
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
    assert {(problem.defect, problem.image_ids) for problem in dataset.problems} >= {
        ("missing image file", ("x", "e")),
        ("unknown diagnosis", ("e",)),
        ("image without metadata", ("d",)),
    }


def test_split_by_image_must_be_allowed(tmp_path: Path) -> None:
    make(tmp_path, "one/a.png", "two/b.png")
    (tmp_path / "t.csv").write_text("image,label\na,one\nb,two\n")
    with pytest.raises(DatasetError, match=r"has no lesion ids, .* data.without_lesion_ids=true"):
        load_folders(str(tmp_path))
    with pytest.raises(DatasetError, match=r"has no lesion ids, .* data.without_lesion_ids=true"):
        load_csv(str(tmp_path), table=str(tmp_path / "t.csv"))
    assert len(load_csv(str(tmp_path), table=str(tmp_path / "t.csv"), without_lesion_ids=True).table) == 2


def test_only_images_without_a_lesion_id_are_split_by_image(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.csv").write_text("image,label,lesion_id\na,one,L1\nb,two,\nc,two,L1\n")
    left = load_csv(str(tmp_path), table=str(tmp_path / "t.csv"))
    assert "1 x missing lesion id (b): left out" in left.report()
    filled = load_csv(str(tmp_path), table=str(tmp_path / "t.csv"), without_lesion_ids=True).table
    assert list(filled["lesion_id"]) == ["L1", "b", "L1"]


@pytest.mark.parametrize("name", ["a=b", "a,b", "a;b", '"a"', "-x", " x", "x "])
def test_class_names_with_special_characters_are_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"{name}/a.png", "two/b.png")
    with pytest.raises(DatasetError, match=r"a class must have a name of letters, digits, .*; rename it"):
        load_folders(str(tmp_path), without_lesion_ids=True)


@pytest.mark.parametrize("name", ["0", "Ä", "a b", "BCC (nodular)", "x-1", "a.b", "c&d", "IV+"])
def test_common_class_names_are_accepted(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"{name}/a.png", "two/b.png")
    assert name in load_folders(str(tmp_path), without_lesion_ids=True).classes


def test_images_of_one_name_are_distinguished_by_folder(tmp_path: Path) -> None:
    make(tmp_path, "one/1.png", "two/1.png", "two/2.png")
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert classes_by_image(dataset.table) == {"one/1": "one", "two/1": "two", "2": "two"}


def test_single_class_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "one/a.png", "one/b.png")
    with pytest.raises(DatasetError, match="at least two classes, got 1"):
        load_folders(str(tmp_path), without_lesion_ids=True)


def test_folders_without_images_or_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"data.root must hold images, got none in"):
        load_folders(str(tmp_path), without_lesion_ids=True)
    make(tmp_path, "a.png")
    with pytest.raises(DatasetError, match="at least two classes, got 0"):
        load_folders(str(tmp_path), without_lesion_ids=True)


def photographs(root: Path, *names: str) -> Path:
    """Write images like `make`, but all different."""
    for number, name in enumerate(names):
        write_png(root / name, np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return root


PARTED = [f"{part}/{code}/{number}.png" for part in ("train", "Valid", "TEST") for code in ("mel", "nv") for number in range(4)]


def test_split_folders_are_refused_without_split_folders(tmp_path: Path) -> None:
    photographs(tmp_path, *PARTED)
    with pytest.raises(DatasetError, match=r"\(test, train, val\), .*data.split_folders=true .* data.split_folders=false"):
        load_folders(str(tmp_path), without_lesion_ids=True)


def test_split_folders_define_the_split_on_request(tmp_path: Path) -> None:
    photographs(tmp_path, *PARTED)
    dataset = load_folders(str(tmp_path), without_lesion_ids=True, split_folders=True)
    assert dataset.classes == ("mel", "nv")
    split = own_split(dataset.table, dataset.parts, seed=0)
    assert dict(zip(split["image_id"], split["part"], strict=True)) == {
        name.removesuffix(".png"): {"train": "train", "Valid": "val", "TEST": "test"}[name.partition("/")[0]] for name in PARTED
    }
    anew = load_folders(str(tmp_path), without_lesion_ids=True, split_folders=False)
    assert (anew.classes, anew.parts) == (("mel", "nv"), {})


def test_missing_part_is_taken_from_the_training_part(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"{part}/{code}/{number}.png" for part in ("train", "test") for code in "ab" for number in range(10)))
    dataset = load_folders(str(tmp_path), without_lesion_ids=True, split_folders=True)
    parts = own_split(dataset.table, dataset.parts, seed=0)
    counts = parts.assign(folder=parts["image_id"].str.partition("/")[0]).groupby(["folder", "part"]).size().to_dict()
    assert counts == {("train", "train"): 18, ("train", "val"): 2, ("test", "test"): 20}


@pytest.mark.parametrize("name", ["mel/1.png", "other/nv/1.png"])
def test_split_folders_next_to_other_folders_are_refused(tmp_path: Path, name: str) -> None:
    photographs(tmp_path, *PARTED, name)
    with pytest.raises(DatasetError, match=rf"got both, among them '{name.partition('/')[0]}'"):
        load_folders(str(tmp_path), without_lesion_ids=True, split_folders=True)


def test_split_folders_need_a_train_folder(tmp_path: Path) -> None:
    photographs(tmp_path, "mel/0.png", "nv/0.png")
    with pytest.raises(DatasetError, match=r"data.split_folders=true needs a folder train .* got none"):
        load_folders(str(tmp_path), without_lesion_ids=True, split_folders=True)


@pytest.mark.parametrize(("benign", "malignant"), [("benign", "malignant"), ("Benign", "MALIGNANT")])
def test_malignant_of_benign_and_malignant_is_malignant(tmp_path: Path, benign: str, malignant: str) -> None:
    photographs(tmp_path, f"{benign}/0.png", f"{malignant}/0.png")
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert (dataset.classes, dataset.malignant) == (("benign", "malignant"), ("malignant",))


def test_class_malignant_must_be_the_only_malignant_one(tmp_path: Path) -> None:
    classes = ("benign", "malignant", "unsure")
    assert malignant_among(classes, ["malignant"]) == ("malignant",)
    for named in (None, [], ["unsure"], ["malignant", "unsure"]):
        with pytest.raises(
            DatasetError, match=r"a class malignant must be the only malignant one, .*data.malignant=\[malignant\]"
        ):
            malignant_among(classes, named)


@pytest.mark.parametrize("name", ["n\u00e6vus", "me\u0301lanome", "तिल", "मस्सा", "โรค"])
def test_class_names_are_composed_and_may_have_combining_marks(tmp_path: Path, name: str) -> None:
    photographs(tmp_path, f"{unicodedata.normalize('NFD', name)}/0.png", "two/b.png")
    assert unicodedata.normalize("NFC", name) in load_folders(str(tmp_path), without_lesion_ids=True).classes
    (tmp_path / "t.csv").write_text(f"image,label\n{unicodedata.normalize('NFC', name)}/0.png,{name}\nb,two\n")
    dataset = load_csv(str(tmp_path), table=str(tmp_path / "t.csv"), without_lesion_ids=True)
    assert classes_by_image(dataset.table) == {"0": unicodedata.normalize("NFC", name), "b": "two"}


def test_classes_that_differ_in_case_only_are_reported(tmp_path: Path) -> None:
    photographs(tmp_path, "Mole/0.png", "MOLE/1.png", "wart/2.png")
    problems = load_folders(str(tmp_path), without_lesion_ids=True).problems
    assert [problem.image_ids for problem in problems if "only in case" in problem.defect] == [("MOLE", "Mole")]


def test_classes_named_none_and_na_are_accepted(tmp_path: Path) -> None:
    photographs(tmp_path, "a.png", "b.png", "c.png", "d.png")
    (tmp_path / "t.csv").write_text("image,label\na,None\nb,NA\nc,null\nd,nan\n")
    dataset = load_csv(str(tmp_path), table=str(tmp_path / "t.csv"), without_lesion_ids=True)
    assert classes_by_image(dataset.table) == {"a": "None", "b": "NA", "c": "null", "d": "nan"}


def test_contradictory_labels_are_refused(tmp_path: Path) -> None:
    photographs(tmp_path, "x/a.png", "x/b.png")
    (tmp_path / "t.csv").write_text("image,label\na,one\nb,two\nx\\a.png,two\n")
    with pytest.raises(DatasetError, match="labels must agree in dx, got one and two for a"):
        load_csv(str(tmp_path), table=str(tmp_path / "t.csv"), without_lesion_ids=True)


@pytest.mark.parametrize("masks", ["GT/{}.png", "ground_truth/{}.bmp", "Imgs/{}_mask.png", "B/{}.tif", "B/{}_lesion.bmp"])
def test_masks_in_any_folder_are_not_photographs(tmp_path: Path, masks: str) -> None:
    names = [f"{code}_{number}" for code in ("mel", "nv") for number in range(3)]
    photographs(tmp_path, *(f"Imgs/{name}.png" for name in names))
    mask = np.zeros((12, 16), np.uint8)
    mask[2:5, 3:9] = 1
    for name in names:
        path = tmp_path / masks.format(name)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mask).save(path)
    (tmp_path / "t.csv").write_text("image,label\n" + "".join(f"Imgs/{name},{name.partition('_')[0]}\n" for name in names))
    table = load_csv(str(tmp_path), table=str(tmp_path / "t.csv"), without_lesion_ids=True).table
    assert list(table["image_id"]) == names
    assert list(table["mask_path"]) == [str(tmp_path / masks.format(name)) for name in names]


def test_masks_of_one_name_are_distinguished_by_class_folder(tmp_path: Path) -> None:
    photographs(tmp_path, "mel/images/0.png", "nv/images/0.png")
    for code, row in (("mel", 2), ("nv", 6)):
        mask = np.zeros((12, 16), bool)
        mask[row : row + 3, 3:9] = True
        write_png(tmp_path / code / "masks" / "0.png", mask)
    table = load_folders(str(tmp_path), without_lesion_ids=True).table
    assert list(table["mask_path"]) == [str(tmp_path / code / "masks" / "0.png") for code in ("mel", "nv")]


def test_names_that_differ_in_unicode_form_only_are_refused(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"a/{unicodedata.normalize(form, 'ï.png')}" for form in ("NFC", "NFD")), "b/1.png")
    with pytest.raises(DatasetError, match=r"images of different names, got a/ï\.png twice"):
        load_folders(str(tmp_path), without_lesion_ids=True)


def test_copies_with_distinct_paths_in_the_table_are_two_images(tmp_path: Path) -> None:
    make(tmp_path, "mel/0.png", "nv/0.png")
    (tmp_path / "t.csv").write_text("image,label\nmel/0,mel\nnv/0,nv\n")
    dataset = load_csv(str(tmp_path), table=str(tmp_path / "t.csv"), without_lesion_ids=True)
    assert classes_by_image(dataset.table) == {"mel/0": "mel", "nv/0": "nv"}
