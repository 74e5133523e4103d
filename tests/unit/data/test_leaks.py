"""Leaks between parts: altered copies are found, other photographs are not."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import segpipe.config.schemas  # noqa: F401 - registers the schemas
from segpipe.cli.main import main
from segpipe.config.composing import typed
from segpipe.data.duplicates import MAX_DISTANCE, MIN_SIMILARITY, ORIENTATIONS, SIDE, compare_detail, hash_images, turn
from segpipe.data.leaks import Leaks, find_leaks, join_parts, refuse_leaks
from segpipe.data.loaders import load_ham10000
from segpipe.data.splits import PARTS, write_split
from segpipe.data.synthetic.dataset import write_dataset
from segpipe.data.synthetic.photo import make_image
from segpipe.data.tables import read_labels
from segpipe.diagnosis import CODES
from segpipe.errors import DatasetError
from segpipe.io.folders import find_images
from segpipe.io.images import read_image, read_thumbnail
from segpipe.training.preparation import prepare_data

CONF = Path(__file__).parents[3] / "conf"
ROTATIONS = tuple(range(len(ORIENTATIONS)))


def crop(image: Image.Image, fraction: float) -> Image.Image:
    dx, dy = (round(side * (1 - fraction) / 2) for side in image.size)
    return image.crop((dx, dy, image.width - dx, image.height - dy))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "smaller": lambda image: image.resize((240, 180)),
    "larger": lambda image: image.resize((900, 700)),
    "cropped": lambda image: crop(image, 0.95),
    "yellowish": lambda image: Image.fromarray((np.asarray(image) * [0.95, 0.9, 0.7]).astype(np.uint8)),
    "brighter": lambda image: image.point(lambda value: round(255 * (value / 255) ** 0.75)),
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Draw one image per diagnosis: six in train, one in test."""
    folder = tmp_path_factory.mktemp("photographs")
    rows = []
    for index, code in enumerate(CODES):
        image, _ = make_image(code, np.random.default_rng([7, index]), (300, 400))
        Image.fromarray(image).save(folder / f"{code}.jpg", quality=92)
        rows.append((code, f"lesion_{code}", "train" if index else "test", str(folder / f"{code}.jpg")))
    return pd.DataFrame(rows, columns=["image_id", "lesion_id", "part", "image_path"])


def with_copy(photographs: pd.DataFrame, image: Image.Image, folder: Path, *, part: str = "val") -> pd.DataFrame:
    """Add an image with a lesion id of its own."""
    image.save(folder / "copy.jpg", quality=40)
    copy = ("copy", "lesion_copy", part, str(folder / "copy.jpg"))
    return pd.concat([photographs, pd.DataFrame([copy], columns=photographs.columns)], ignore_index=True)


@pytest.mark.parametrize(
    ("change", "orientation"),
    [*((change, 0) for change in CHANGES), *(("cropped", orientation) for orientation in ROTATIONS[1:])],
)
def test_altered_and_rotated_copy_is_found_with_its_orientation(
    photographs: pd.DataFrame, tmp_path: Path, change: str, orientation: int
) -> None:
    original = photographs.iloc[3]
    changed = CHANGES[change](Image.open(original["image_path"]))
    copy = Image.fromarray(np.ascontiguousarray(turn(np.asarray(changed), orientation)))
    leaks = find_leaks(with_copy(photographs, copy, tmp_path))
    (found,) = leaks.near_duplicates
    assert (found.image_ids, found.parts) == ((original["image_id"], "copy"), ("train", "val"))
    # Orientation that undoes the rotation.
    back = np.asarray(turn(turn(np.arange(9, dtype=np.uint8).reshape(3, 3), orientation), ORIENTATIONS.index(found.orientation)))
    assert (back == np.arange(9).reshape(3, 3)).all()
    assert found.distance <= MAX_DISTANCE
    assert MIN_SIMILARITY <= found.similarity <= 1


@pytest.mark.parametrize("orientation", ROTATIONS, ids=ORIENTATIONS)
def test_hash_of_a_rotated_image_is_the_rotated_hash(orientation: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    words = hash_images(np.stack([image, turn(image, orientation)]))
    assert (words[:, orientation, 0] == words[:, 0, 1]).all()
    assert len({words[:, other, 0].tobytes() for other in ROTATIONS}) == len(ORIENTATIONS)


def test_blank_image_has_no_near_duplicate(photographs: pd.DataFrame, tmp_path: Path) -> None:
    assert find_leaks(with_copy(photographs, Image.new("RGB", (400, 300), "pink"), tmp_path)).all == ()
    photograph = read_thumbnail(Path(photographs.loc[0, "image_path"]), side=SIDE)
    assert compare_detail(photograph, np.full_like(photograph, 120)) < MIN_SIMILARITY


@pytest.mark.parametrize("size", [(64, 80), (150, 200)])
def test_drawn_images_of_different_lesions_are_no_near_duplicates(tmp_path: Path, size: tuple[int, int]) -> None:
    write_dataset(tmp_path / "data", lesions=21, images_per_lesion=3, height=size[0], width=size[1], seed=1)
    table = load_ham10000(str(tmp_path / "data")).table
    for parts in combinations_of_parts(table):
        assert find_leaks(table.assign(part=parts)).all == ()


def combinations_of_parts(table: pd.DataFrame) -> Iterator[pd.Series]:
    """Yield splits by lesion that separate each pair of lesions at least once."""
    lesion = table["lesion_id"].factorize()[0]
    for bit in range(5):
        yield pd.Series(np.where(lesion >> bit & 1, "train", "test"), index=table.index)


def test_copies_in_one_part_or_of_one_lesion_are_no_leaks(photographs: pd.DataFrame, tmp_path: Path) -> None:
    original = photographs.iloc[3]
    table = with_copy(photographs, Image.open(original["image_path"]), tmp_path)
    assert find_leaks(table.assign(part=table["part"].replace("val", "train"))).all == ()
    of_one_lesion = find_leaks(table.assign(lesion_id=table["lesion_id"].replace("lesion_copy", original["lesion_id"])))
    assert of_one_lesion.near_duplicates == ()
    assert [(leak.lesion_id, leak.parts) for leak in of_one_lesion.shared_lesions] == [(original["lesion_id"], ("train", "val"))]


def test_report_has_a_line_per_leak(photographs: pd.DataFrame, tmp_path: Path) -> None:
    table = with_copy(photographs, Image.open(photographs.iloc[3]["image_path"]), tmp_path)
    table.loc[1, "lesion_id"] = table.loc[0, "lesion_id"]
    lines = find_leaks(table).report().splitlines()
    assert lines[:3] == [
        "images in each part: train 6, val 1, test 1",
        "1 lesion in two parts, 1 near-duplicate pair across parts",
        f"lesion {table.loc[0, 'lesion_id']} is in train and test",
    ]
    assert lines[3].startswith(f"{photographs.iloc[3]['image_id']} (train) shows the same as copy (val) as it is: similarity ")
    assert len(lines) == 4


def test_leak_is_refused_with_an_example_and_advice(photographs: pd.DataFrame, tmp_path: Path) -> None:
    table = with_copy(photographs, Image.open(photographs.iloc[3]["image_path"]), tmp_path)
    parts = {part: table[table["part"] == part] for part in PARTS}
    with pytest.raises(DatasetError, match=r"got 0 lesions .*, 1 near-.* \(train\) shows .* copy \(val\).* allow_leak=true"):
        refuse_leaks(parts, allowed=False)
    refuse_leaks(parts, allowed=True)
    refuse_leaks(parts | {"val": parts["val"][:0]}, allowed=False)


@pytest.fixture
def leaking(synthetic_root: Path, tmp_path: Path) -> Path:
    """Build a data set with a mirrored training image in test, and its `split.csv`."""
    root = Path(shutil.copytree(synthetic_root, tmp_path / "root"))
    table = load_ham10000(str(root)).table
    split = table[["image_id", "lesion_id"]].assign(part=np.take(PARTS, table["lesion_id"].factorize()[0] % 3))
    paths = join_parts(table, split).groupby("part")["image_path"].first()
    mirrored = read_image(Path(paths["train"]))[:, ::-1]
    Image.fromarray(np.ascontiguousarray(mirrored)).save(paths["test"], quality=95)
    write_split(tmp_path / "split.csv", split)
    return root


@pytest.mark.parametrize("script", ["train_seg", "train_cls"])
def test_trainings_refuse_a_leaking_split_unless_allowed(leaking: Path, script: str) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(script, [f"data.root='{leaking}'", f"split='{leaking.parent / 'split.csv'}'"])
    with pytest.raises(DatasetError, match="1 near-duplicate pair across parts"):
        prepare_data(typed(config), leaking.parent, need_masks=True)
    config.allow_leak = True
    assert set(prepare_data(typed(config), leaking.parent, need_masks=True).parts) == set(PARTS)


def test_leaks_command_exits_with_0_for_a_sound_split(
    synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["leaks", f"data.root={synthetic_root}", "seed=3"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[1] == str(Leaks({}, (), ()))
    assert not list(tmp_path.iterdir())


def test_leaks_command_exits_with_1_and_lists_the_leaks(leaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = leaking.parent / "split.csv"
    split = pd.read_csv(path)
    lesion = split["lesion_id"][split["lesion_id"].duplicated() & (split["part"] == "train")].iloc[-1]
    split.loc[split["lesion_id"].eq(lesion).idxmax(), "part"] = "val"
    split.to_csv(path, index=False)
    assert main(["leaks", f"data.root={leaking}", f"split={path}"]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[1] == "1 lesion in two parts, 1 near-duplicate pair across parts"
    assert lines[2] == f"lesion {lesion} is in train and val"
    assert " mirrored: similarity " in lines[3]
    assert err.startswith("error: ") and err.count("\n") == 1 and lines[1] in err


def test_wrong_call_is_one_line_with_status_2(synthetic_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaks", f"data.root={synthetic_root}", "split=split.csv"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: split must be an existing path, got 'split.csv'")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ({"a": ["1"], "b": ["train"]}, "split must have the columns image_id and part, got a,b"),
        ({"image_id": ["x"], "part": ["train"]}, "split must name images of data.root, got none of its 7;"),
    ],
)
def test_split_of_another_data_set_is_refused(photographs: pd.DataFrame, split: dict[str, list[str]], reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        join_parts(photographs.drop(columns="part"), pd.DataFrame(split))


@pytest.mark.realdata
def test_ham10000_has_four_lesions_with_two_ids(ham10000: Path) -> None:
    pairs = {
        ("ISIC_0025226", "ISIC_0030074"),
        ("ISIC_0027027", "ISIC_0029036"),
        ("ISIC_0027636", "ISIC_0027994"),
        ("ISIC_0034228", "ISIC_0034248"),
    }
    known = [image_id for pair in pairs for image_id in pair]
    labels = read_labels(ham10000 / "HAM10000_metadata.csv")
    others = labels[~labels["image_id"].isin(known)].drop_duplicates("lesion_id").sample(300, random_state=0)
    table = pd.concat([labels[labels["image_id"].isin(known)], others])
    files = {path.stem: str(path) for path in find_images(ham10000).images}
    # Each of the pairs, and half of the others, is in train and test.
    in_test = table["image_id"].isin([second for _, second in pairs]) | table["image_id"].isin(others["image_id"][::2])
    leaks = find_leaks(table.assign(part=np.where(in_test, "test", "train"), image_path=table["image_id"].map(files)))
    assert {tuple(sorted(leak.image_ids)) for leak in leaks.near_duplicates} == pairs
