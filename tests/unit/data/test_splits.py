"""Splits by lesion: no leaks, correct fractions, reproducible, and checked when read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segpipe.data.splits import (
    FRACTIONS,
    PARTS,
    SAME_LESIONS,
    assign_parts,
    fold_split,
    left_out,
    limit_lesions,
    make_split,
    name_split,
    read_split,
    split_hash,
    write_split,
)
from segpipe.diagnosis import CODES
from segpipe.errors import DatasetError


def make_table(seed: int = 0, lesions: int = 200) -> pd.DataFrame:
    """Build lesions of one to four images with imbalanced diagnoses."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([CODES, rng.choice(CODES, lesions - 7, p=[0.11, 0.67, 0.05, 0.03, 0.11, 0.01, 0.02])])
    lesion = np.repeat(np.arange(lesions), rng.integers(1, 5, lesions))
    table = pd.DataFrame({"lesion_id": [f"HAM_{number:04d}" for number in lesion], "dx": codes[lesion]})
    table["image_id"] = [f"ISIC_{number:05d}" for number in rng.permutation(len(table))]
    return table


@pytest.mark.parametrize("seed", range(5))
def test_each_image_and_each_lesion_is_in_one_part(seed: int) -> None:
    table = make_table(seed)
    split = make_split(table, seed=seed)
    assert sorted(split["image_id"]) == sorted(table["image_id"])
    assert set(split["part"]) == set(PARTS)
    assert split.groupby("lesion_id")["part"].nunique().eq(1).all()
    joined = split.merge(table, on="image_id")
    assert (joined["lesion_id_x"] == joined["lesion_id_y"]).all()


@pytest.mark.parametrize("seed", range(5))
def test_each_diagnosis_is_split_by_the_fractions(seed: int) -> None:
    table = make_table(seed)
    lesions = make_split(table, seed=seed).merge(table).drop_duplicates("lesion_id")
    for _, of_one_class in lesions.groupby("dx"):
        for part, fraction in zip(PARTS, FRACTIONS, strict=True):
            assert abs((of_one_class["part"] == part).sum() - fraction * len(of_one_class)) <= 1


def test_split_depends_on_the_seed_not_on_row_order() -> None:
    table = make_table()
    split = make_split(table, seed=1)
    shuffled = make_split(table.sample(frac=1, random_state=0), seed=1)
    pd.testing.assert_frame_equal(split, shuffled)
    assert split_hash(split) == split_hash(shuffled)
    assert split_hash(make_split(table, seed=2)) != split_hash(split)


def test_lesion_with_two_diagnoses_is_split_independently_of_row_order() -> None:
    table = make_table()
    table.loc[::3, "dx"] = "mel"
    split = make_split(table, seed=0)
    pd.testing.assert_frame_equal(split, make_split(table.iloc[::-1], seed=0))
    assert split.groupby("lesion_id")["part"].nunique().eq(1).all()


@pytest.mark.parametrize("folds", [2, 5])
def test_each_lesion_outside_the_test_part_is_held_out_once(folds: int) -> None:
    table = make_table()
    split = make_split(table, seed=0)
    rounds = [fold_split(split, table, fold=fold, folds=folds, seed=0) for fold in range(folds)]
    parts = pd.DataFrame({fold: one["part"] for fold, one in enumerate(rounds)})
    in_test = split["part"] == "test"
    assert (parts[in_test] == "test").all(axis=None)
    assert ((parts[~in_test] == "val").sum(axis=1) == 1).all()
    assert ((parts[~in_test] == "train").sum(axis=1) == folds - 1).all()
    for one in rounds:
        assert one.groupby("lesion_id")["part"].nunique().eq(1).all()


def test_folds_are_balanced_and_independent_of_row_order() -> None:
    table = make_table(lesions=600)
    split = make_split(table, seed=0)
    lesions = table.groupby("lesion_id")["dx"].min()
    counts = []
    for fold in range(4):
        one = fold_split(split, table, fold=fold, folds=4, seed=3)
        mixed = fold_split(split, table.sample(frac=1, random_state=fold), fold=fold, folds=4, seed=3)
        pd.testing.assert_frame_equal(one, mixed)
        counts.append(lesions[one.loc[one["part"] == "val", "lesion_id"].unique()].value_counts().reindex(CODES, fill_value=0))
    spread = pd.DataFrame(counts)
    assert ((spread.max() - spread.min()) <= 1).all()


def test_two_ids_of_one_lesion_share_a_fold() -> None:
    table = pd.concat([make_table(), pd.DataFrame({"lesion_id": list(sum(SAME_LESIONS.items(), ())), "dx": "nv"})])
    table["image_id"] = [f"ISIC_{number:05d}" for number in range(len(table))]
    split = make_split(table, seed=0)
    for fold in range(5):
        part = fold_split(split, table, fold=fold, folds=5, seed=0).set_index("lesion_id")["part"]
        assert all(part[lesion] == part[other] for lesion, other in SAME_LESIONS.items())


def test_split_hash_depends_on_parts_not_on_row_order() -> None:
    split = make_split(make_table(), seed=0)
    moved = split.copy()
    moved.loc[5, "part"] = next(part for part in PARTS if part != split.loc[5, "part"])
    assert split_hash(split.sample(frac=1, random_state=0)) == split_hash(split) != split_hash(moved)


def test_split_is_unchanged_by_writing_and_reading(tmp_path: Path) -> None:
    # Ids that look like numbers must keep their zeros.
    table = make_table().assign(image_id=lambda rows: rows["image_id"].str.removeprefix("ISIC_"))
    split = make_split(table.assign(lesion_id=table["lesion_id"].str.removeprefix("HAM_")), seed=0)
    write_split(tmp_path / "split.csv", split)
    pd.testing.assert_frame_equal(read_split(tmp_path / "split.csv"), split, check_dtype=False)
    assert split_hash(read_split(tmp_path / "split.csv")) == split_hash(split)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("image_id,part\na,train\n", "columns image_id,lesion_id,part; lesion_id is missing"),
        ("image_id,lesion_id,part\na,1,train\nb,2,tset\nc,3,dev\n", "part must be one of train, val, test, got dev, tset"),
        ("image_id,lesion_id,part\na,1,train\na,1,train\n", "image a occurs twice"),
        ("image_id,lesion_id,part\na,1,train\nb,7,val\nc,7,test\n", "1 lesion in two parts, 7 for one; split by lesion"),
        ("image_id,lesion_id,part\na,1,train\nb,,val\nc,2,\n", "must be filled in every row, got 2 rows with a gap"),
    ],
)
def test_invalid_split_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "split.csv").write_text(rows)
    with pytest.raises(DatasetError, match=rf"split\.csv: .*{message}"):
        read_split(tmp_path / "split.csv")


def test_parts_are_assigned_to_common_images() -> None:
    table = make_table()
    split = make_split(table, seed=0)
    assigned = assign_parts(table.iloc[10:], split.iloc[10:])
    assert set(assigned["image_id"]) == set(table["image_id"][10:]) & set(split["image_id"][10:])
    assert assigned.set_index("image_id")["part"].to_dict().items() <= split.set_index("image_id")["part"].to_dict().items()


def test_part_without_images_is_refused() -> None:
    split = make_split(make_table(), seed=0)
    with pytest.raises(DatasetError, match="the split has no val image among the"):
        assign_parts(make_table(), split[split["part"] != "val"])


def test_split_by_image_is_refused_for_a_data_set_with_lesion_ids() -> None:
    table = make_table()
    by_image = make_split(table.assign(lesion_id=table["image_id"]), seed=0)
    with pytest.raises(DatasetError, match=r"does not fit the data set: \d+ lesions? in two parts"):
        assign_parts(table, by_image)


@pytest.mark.parametrize("limit", [1, 30, 100, 300])
def test_limit_keeps_whole_lesions_stratified_by_class(limit: int) -> None:
    table = make_table()
    kept = limit_lesions(table, limit, seed=0)
    assert set(kept["dx"]) == set(CODES)
    whole = table[table["lesion_id"].isin(kept["lesion_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, whole)
    for code in CODES:
        expected = limit * (table["dx"] == code).mean()
        assert expected - 1 <= (kept["dx"] == code).sum() <= max(1, expected) + 4


def test_limit_depends_on_the_seed_and_is_optional() -> None:
    table = make_table()
    first, again, other = (limit_lesions(table, 50, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert set(first["image_id"]) != set(other["image_id"])
    assert limit_lesions(table, None, seed=0) is limit_lesions(table, 10**6, seed=0) is table


@pytest.mark.parametrize("limit", [0, -5])
def test_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(DatasetError, match=rf"data\.limit must be 1 or more images, got {limit}"):
        limit_lesions(make_table(), limit, seed=0)


def test_names_in_a_split_identify_images_like_labels(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": ["mel/0", "nv/0", "1"], "image_path": ["/d/mel/0.jpg", "/d/nv/0.jpg", "/d/nv/1.png"]})
    (tmp_path / "split.csv").write_text(
        "image_id;lesion_id;part\r\nmel\\0.jpg; L1; train\r\nnv/0;L2;val\r\n1.png;L3;test\r\nabsent.jpg;L4;test\r\n"
    )
    split = name_split(read_split(tmp_path / "split.csv"), table)
    assert dict(zip(split["image_id"], split["part"], strict=True)) == {
        **{"mel/0": "train", "nv/0": "val", "1": "test", "absent": "test"}
    }
    assert left_out(table, split[split["part"] == "train"]) == ("nv/0", "1")


@pytest.mark.parametrize(
    ("names", "message"),
    [(("0", "1"), "the split must say which image is meant, got '0'"), (("nv/1", "1"), "image 1 occurs twice")],
)
def test_split_with_ambiguous_names_is_refused(names: tuple[str, str], message: str) -> None:
    table = pd.DataFrame({"image_id": ["mel/0", "nv/0", "1"], "image_path": ["/d/mel/0.jpg", "/d/nv/0.jpg", "/d/nv/1.png"]})
    split = pd.DataFrame({"image_id": names, "lesion_id": ["L1", "L2"], "part": ["train", "test"]})
    with pytest.raises(DatasetError, match=message):
        name_split(split, table)
