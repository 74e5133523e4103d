"""Additional data sets contribute weighted training images of known classes."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from segpipe.config.groups import ExtraDataConfig
from segpipe.data.check import load_extra
from segpipe.errors import DatasetError

TAKEN = pd.DataFrame({"image_id": ["ISIC_0000001"]})
CLASSES = ("mel", "nv")


@pytest.fixture(scope="module")
def images(synthetic_root: Path) -> pd.DataFrame:
    """Return the metadata of the synthetic data set as a label table."""
    table = pd.read_csv(next(synthetic_root.glob("*.csv")))
    return table.rename(columns={"image_id": "image", "dx": "label"})[["image", "label", "lesion_id"]]


def entry(root: Path, folder: Path, images: pd.DataFrame, **settings: Any) -> ExtraDataConfig:
    images.to_csv(folder / "labels.csv", index=False)
    return ExtraDataConfig(root=str(root), table=str(folder / "labels.csv"), **settings)


def test_images_of_known_classes_are_added_with_their_weight(synthetic_root: Path, tmp_path: Path, images: pd.DataFrame) -> None:
    extra = load_extra([entry(synthetic_root, tmp_path, images, weight=0.5)], classes=CLASSES, taken=TAKEN)
    assert set(extra.table["image_id"]) == set(images.loc[images["label"].isin(CLASSES), "image"])
    assert set(extra.table["weight"]) == {0.5}
    assert f"{len(extra.table)} with weight 0.5" in extra.lines[0]


def test_classes_can_be_restricted(synthetic_root: Path, tmp_path: Path, images: pd.DataFrame) -> None:
    extra = load_extra([entry(synthetic_root, tmp_path, images, classes=["mel"])], classes=CLASSES, taken=TAKEN)
    assert set(extra.table["dx"]) == {"mel"}


def test_images_outside_the_train_part_are_left_out(synthetic_root: Path, tmp_path: Path, images: pd.DataFrame) -> None:
    lesions = sorted(images["lesion_id"].unique())
    parts = {lesion: "val" if number % 2 else "train" for number, lesion in enumerate(lesions)}
    split = images.rename(columns={"image": "image_id"}).assign(part=images["lesion_id"].map(parts))
    split[["image_id", "lesion_id", "part"]].to_csv(tmp_path / "split.csv", index=False)
    settings = entry(synthetic_root, tmp_path, images, split=str(tmp_path / "split.csv"))
    extra = load_extra([settings], classes=("mel", "nv", "bcc", "bkl", "akiec", "df", "vasc"), taken=TAKEN)
    assert set(extra.table["image_id"]) == set(split.loc[split["part"] == "train", "image_id"])


def test_image_id_of_another_data_set_is_refused(synthetic_root: Path, tmp_path: Path, images: pd.DataFrame) -> None:
    taken = images.rename(columns={"image": "image_id"})
    with pytest.raises(DatasetError, match=r"data.extra must share no image id"):
        load_extra([entry(synthetic_root, tmp_path, images)], classes=CLASSES, taken=taken)


def test_data_set_without_the_classes_is_refused(synthetic_root: Path, tmp_path: Path, images: pd.DataFrame) -> None:
    with pytest.raises(DatasetError, match=r"data.extra\[0\] must hold training images of mole, nevus"):
        load_extra([entry(synthetic_root, tmp_path, images)], classes=("mole", "nevus"), taken=TAKEN)


def test_no_additional_data_sets_add_nothing() -> None:
    extra = load_extra([], classes=CLASSES, taken=TAKEN)
    assert extra.table.empty
    assert not extra.lines
