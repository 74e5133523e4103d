"""All download layouts of HAM10000 give the same table or name what is missing."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segpipe.data.loaders import load_ham10000
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.errors import DatasetError
from segpipe.io.images import write_png

# Two images of each lesion, one lesion of each diagnosis.
TABLE = pd.DataFrame(
    [(f"HAM_{lesion}", f"ISIC_{2 * lesion + image:07d}", code) for lesion, code in enumerate(CODES) for image in range(2)],
    columns=["lesion_id", "image_id", "dx"],
)
IDS = list(TABLE["image_id"])
PICTURES = {name: make_image(code, np.random.default_rng(3), (32, 40)) for name, code in zip(IDS, TABLE["dx"], strict=True)}


def write_images(folder: Path, ids: Iterable[str], ending: str = ".jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ids:
        Image.fromarray(PICTURES[name][0]).save(folder / f"{name}{ending}")


def write_masks(folder: Path, ids: Iterable[str], ending: str = "_segmentation.png") -> None:
    for name in ids:
        write_png(folder / f"{name}{ending}", PICTURES[name][1])


def write_metadata(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = TABLE.assign(dx_type="histo", age=50.0, sex="male", localization="back")
    if path.suffix == ".tab":  # Dataverse quotes text fields
        table.to_csv(path, index=False, sep="\t", quoting=2)
    else:
        table.to_csv(path, index=False)


def write_one_hot(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {code.upper(): (TABLE["dx"] == code).astype(float) for code in CODES}
    pd.DataFrame({"image": TABLE["image_id"], **columns}).to_csv(path, index=False)


def dataverse(root: Path, metadata: str = "HAM10000_metadata.csv") -> None:
    write_images(root / "HAM10000_images_part_1", IDS[:8])
    write_images(root / "HAM10000_images_part_2", IDS[8:])
    write_masks(root / "HAM10000_segmentations_lesion_tschandl", IDS)
    write_metadata(root / metadata)


def dataverse_tab(root: Path) -> None:
    dataverse(root, "HAM10000_metadata.tab")


def dataverse_without_suffix(root: Path) -> None:
    dataverse(root, "HAM10000_metadata")


def dataverse_in_subfolders(root: Path) -> None:
    dataverse(root / "dataverse_files")


def dataverse_of_links(root: Path) -> None:
    dataverse(root.parent / "storage")
    root.mkdir()
    for entry in (root.parent / "storage").iterdir():
        (root / entry.name).symlink_to(entry)


def kmader(root: Path) -> None:
    write_images(root / "HAM10000_images_part_1", IDS[:8])
    write_images(root / "HAM10000_images_part_2", IDS[8:])
    write_metadata(root / "HAM10000_metadata.csv")
    (root / "hmnist_8_8_L.csv").write_text("pixel0000,pixel0001,label\n1,2,3\n")


def kmader_with_copies(root: Path) -> None:
    kmader(root)
    write_images(root / "ham10000_images_part_1", IDS[:8])
    write_images(root / "ham10000_images_part_2", IDS[8:])


def suraj(root: Path) -> None:
    write_images(root / "images", IDS)
    write_masks(root / "masks", IDS)
    write_one_hot(root / "GroundTruth.csv")


def isic_task_1(root: Path) -> None:
    write_images(root / "ISIC2018_Task1-2_Training_Input", IDS)
    (root / "ISIC2018_Task1-2_Training_Input" / f"{IDS[0]}_superpixels.png").write_bytes(b"")
    write_masks(root / "ISIC2018_Task1_Training_GroundTruth", IDS)


def isic_task_3(root: Path) -> None:
    write_images(root / "ISIC2018_Task3_Training_Input", IDS)
    write_one_hot(root / "ISIC2018_Task3_Training_GroundTruth" / "ISIC2018_Task3_Training_GroundTruth.csv")
    groups = (
        TABLE[["image_id", "lesion_id"]].rename(columns={"image_id": "image"}).assign(diagnosis_confirm_type="histopathology")
    )
    groups.to_csv(root / "ISIC2018_Task3_Training_LesionGroupings.csv", index=False)


def isic_tasks_1_and_3(root: Path) -> None:
    isic_task_3(root)
    write_masks(root / "ISIC2018_Task1_Training_GroundTruth", IDS)


def own_png_images(root: Path) -> None:
    write_images(root / "photographs", IDS, ".png")
    write_masks(root / "masks", IDS, ".png")
    write_metadata(root / "metadata.csv")


WITH_MASKS = (
    dataverse,
    dataverse_tab,
    dataverse_without_suffix,
    dataverse_in_subfolders,
    dataverse_of_links,
    isic_tasks_1_and_3,
    own_png_images,
)
WITHOUT_MASKS = (kmader, kmader_with_copies, isic_task_3)


def check_table(table: pd.DataFrame) -> None:
    found = table.sort_values("image_id", ignore_index=True)
    pd.testing.assert_frame_equal(found[["lesion_id", "image_id", "dx"]], TABLE, check_dtype=False)
    assert [Path(path).stem for path in found["image_path"]] == IDS


@pytest.mark.parametrize("layout", WITH_MASKS)
def test_layouts_with_masks_are_complete(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    layout(tmp_path / "root")
    dataset = load_ham10000(str(tmp_path / "root"))
    check_table(dataset.table)
    masks = [Path(path) for path in dataset.table["mask_path"]]
    assert [path.stem.removesuffix("_segmentation") for path in masks] == list(dataset.table["image_id"])
    assert not set(masks) & set(map(Path, dataset.table["image_path"]))
    assert {problem.defect for problem in dataset.problems} <= {"missing age"}


@pytest.mark.parametrize("layout", WITHOUT_MASKS)
def test_layouts_without_masks_are_usable_and_reported(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    layout(tmp_path)
    dataset = load_ham10000(str(tmp_path))
    check_table(dataset.table)
    assert dataset.table["mask_path"].tolist() == [None] * len(TABLE)
    assert "14 x missing mask" in dataset.report()


def test_missing_lesion_ids_are_refused_unless_allowed(tmp_path: Path) -> None:
    suraj(tmp_path)
    with pytest.raises(DatasetError, match=r"has no lesion ids.*data\.without_lesion_ids=true"):
        load_ham10000(str(tmp_path))
    table = load_ham10000(str(tmp_path), without_lesion_ids=True).table
    assert table["lesion_id"].tolist() == table["image_id"].tolist() == IDS
    assert table["mask_path"].notna().all()


def test_lesion_ids_may_be_in_a_separate_table(tmp_path: Path) -> None:
    suraj(tmp_path)
    TABLE.rename(columns={"image_id": "image"})[["image", "lesion_id"]].to_csv(tmp_path / "lesions.csv", index=False)
    check_table(load_ham10000(str(tmp_path)).table)


def test_isic_task_1_without_diagnoses_is_refused(tmp_path: Path) -> None:
    isic_task_1(tmp_path)
    with pytest.raises(DatasetError, match=r"table of diagnoses, got none .* with 14 images and 14 masks; .*Task 1 has no"):
        load_ham10000(str(tmp_path), without_lesion_ids=True)


def test_images_without_a_diagnosis_are_reported(tmp_path: Path) -> None:
    isic_tasks_1_and_3(tmp_path)
    unlabeled = tmp_path / "ISIC2018_Task1-2_Training_Input"
    write_images(unlabeled, IDS[:1])
    (unlabeled / f"{IDS[0]}.jpg").rename(unlabeled / "ISIC_9999999.jpg")
    dataset = load_ham10000(str(tmp_path))
    check_table(dataset.table)
    assert "1 x image without metadata (ISIC_9999999): left out" in dataset.report()


def test_empty_and_missing_folders_are_refused(tmp_path: Path) -> None:
    write_metadata(tmp_path / "empty" / "HAM10000_metadata.csv")
    with pytest.raises(
        DatasetError, match=r"data\.root must hold images, got none .*; see data/README\.md, or use data=synthetic"
    ):
        load_ham10000(str(tmp_path / "empty"))
    with pytest.raises(DatasetError, match=r"data\.root must be a folder, got .*absent"):
        load_ham10000(str(tmp_path / "absent"))


@pytest.mark.realdata
def test_first_hundred_real_images_are_usable(ham10000: Path, tmp_path: Path) -> None:
    table = pd.read_csv(ham10000 / "HAM10000_metadata.csv").head(100)
    table.to_csv(tmp_path / "HAM10000_metadata.csv", index=False)
    expected = set(table["image_id"])
    for path in ham10000.glob("HAM10000_*/ISIC_*"):
        if path.stem.removesuffix("_segmentation") in expected:
            (tmp_path / path.parent.name).mkdir(exist_ok=True)
            (tmp_path / path.parent.name / path.name).symlink_to(path)
    dataset = load_ham10000(str(tmp_path))
    assert sorted(dataset.table["image_id"]) == sorted(expected)
    assert dataset.table["mask_path"].notna().all()
    assert dataset.table["lesion_id"].nunique() == table["lesion_id"].nunique()
