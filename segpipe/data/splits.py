"""Training, validation and test parts that share no lesion."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.identity import KnownImages, parse_name
from segpipe.data.tables import read_table
from segpipe.errors import DatasetError
from segpipe.io.files import counted, write_file

PARTS = ("train", "val", "test")
FRACTIONS = (0.7, 0.1, 0.2)
# Lesions of HAM10000 with two ids, found by segpipe.data.leaks; each goes to the part of the other.
SAME_LESIONS = {
    "HAM_0001109": "HAM_0007525",
    "HAM_0007604": "HAM_0000955",
    "HAM_0000140": "HAM_0004919",
    "HAM_0004214": "HAM_0004213",
}


def make_split(table: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Split a data set by lesion, 70/10/20, stratified by diagnosis.

    Args:
        table: Table with `image_id`, `lesion_id` and `dx`.
        seed: Random seed; the same seed and lesions give the same split for any order of rows.

    Returns:
        `image_id`, `lesion_id`, `part`, sorted by `image_id`.
    """
    lesions = table.groupby("lesion_id")["dx"].min().sort_index()
    rng = np.random.default_rng(seed)
    part_of: dict[str, str] = {}
    for code in sorted(lesions.unique()):
        members = rng.permutation(lesions.index[lesions == code].to_numpy())
        ends = np.rint(np.cumsum(FRACTIONS) * len(members)).astype(int)
        for part, chosen in zip(PARTS, np.split(members, ends[:-1]), strict=True):
            part_of |= dict.fromkeys(chosen, part)
    part_of |= {lesion: part_of[other] for lesion, other in SAME_LESIONS.items() if {lesion, other} <= part_of.keys()}
    split = table[["image_id", "lesion_id"]].assign(part=table["lesion_id"].map(part_of))
    return split.sort_values("image_id", ignore_index=True)


def fold_split(split: pd.DataFrame, table: pd.DataFrame, *, fold: int, folds: int, seed: int) -> pd.DataFrame:
    """Build one round of a cross-validation over the train and val parts.

    One fold becomes the val part, the others the train part. Lesions are dealt to the folds whole, those of each diagnosis in
    turn, so that folds are disjoint and similar. The test part does not change, so it can test an ensemble of the models of
    all folds.

    Args:
        split: Split with `image_id`, `lesion_id` and `part`.
        table: Table of the data set with `lesion_id` and `dx`.
        fold: Index of the held-out fold, 0 to `folds` - 1.
        folds: Number of folds, 2 or more.
        seed: Random seed; the same seed and lesions give the same folds.

    Returns:
        The rows of `split` with their part in this round.
    """
    dealt = split[split["part"] != "test"]["lesion_id"]
    lesions = table[table["lesion_id"].isin(dealt)].groupby("lesion_id")["dx"].min().sort_index()
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(lesions.index[lesions == code].to_numpy()) for code in sorted(lesions.unique())])
    fold_of = {lesion: position % folds for position, lesion in enumerate(order)}
    fold_of |= {lesion: fold_of[other] for lesion, other in SAME_LESIONS.items() if {lesion, other} <= fold_of.keys()}
    held_out = split["lesion_id"].map(fold_of) == fold
    part = split["part"].mask(split["part"] != "test", "train").mask(held_out & (split["part"] != "test"), "val")
    return split.assign(part=part)


def own_split(table: pd.DataFrame, parts: Mapping[str, str], *, seed: int) -> pd.DataFrame:
    """Return the split of a data set, or one by `make_split`.

    A missing val or test part is taken from the train part.

    Args:
        table: Table of the data set with `image_id`, `lesion_id` and `dx`.
        parts: Part of the data set's own split by image id; empty without one.
        seed: Seed of `make_split`.
    """
    if not parts:
        return make_split(table, seed=seed)
    given = table["image_id"].map(parts)
    fresh = make_split(table[given == "train"], seed=seed).set_index("image_id")["part"]
    taken = table["image_id"].map(fresh)
    part = given.mask(taken.isin(set(PARTS) - set(given)), taken)
    return table[["image_id", "lesion_id"]].assign(part=part).sort_values("image_id", ignore_index=True)


def limit_lesions(table: pd.DataFrame, limit: int | None, *, seed: int) -> pd.DataFrame:
    """Keep about `limit` images: whole lesions, stratified by diagnosis.

    At least one lesion of each diagnosis is kept.

    Args:
        table: Table with `lesion_id` and `dx`.
        limit: Number of images; None keeps all.
        seed: Random seed.

    Raises:
        DatasetError: `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"data.limit must be 1 or more images, got {limit}")
    if limit is None or limit >= len(table):
        return table
    rng = np.random.default_rng(seed)
    kept: list[str] = []
    for _, rows in table.groupby("dx"):
        sizes = rows.groupby("lesion_id").size().sort_index()
        order = rng.permutation(len(sizes))
        before = np.concatenate([[0], np.cumsum(sizes.to_numpy()[order])[:-1]])
        quota = max(1, round(limit * len(rows) / len(table)))
        kept += list(sizes.index[order[before < quota]])
    return table[table["lesion_id"].isin(kept)].reset_index(drop=True)


def split_hash(split: pd.DataFrame) -> str:
    """Compute the SHA-256 of a split, independent of the order of rows."""
    rows = split[["image_id", "lesion_id", "part"]].astype(str).sort_values("image_id")
    return hashlib.sha256("\n".join(rows.agg(",".join, axis=1)).encode()).hexdigest()


def write_split(path: Path, split: pd.DataFrame) -> None:
    """Write the columns `image_id,lesion_id,part`."""
    write_file(path, split.to_csv(index=False, columns=["image_id", "lesion_id", "part"]).encode())


def read_split(path: Path, *, allow_leak: bool = False) -> pd.DataFrame:
    """Read a split and check that no lesion is in two parts.

    Args:
        path: Table with `image_id`, `lesion_id` and `part`.
        allow_leak: True to skip that check.

    Raises:
        DatasetError: A column or field is missing, a part is unknown, an image is repeated, or a lesion is in two parts.
    """
    split = read_table(path)
    missing = [name for name in ("image_id", "lesion_id", "part") if name not in split.columns]
    if missing:
        raise DatasetError(f"{path}: a split must have the columns image_id,lesion_id,part; {','.join(missing)} is missing")
    split = split[["image_id", "lesion_id", "part"]]
    gaps = split.isna().any(axis=1)
    if gaps.any():
        raise DatasetError(
            f"{path}: image_id, lesion_id and part must be filled in every row, got {counted(gaps.sum(), 'row')} with a gap"
        )
    unknown = sorted(set(split["part"]) - set(PARTS))
    if unknown:
        raise DatasetError(f"{path}: part must be one of {', '.join(PARTS)}, got {', '.join(unknown)}")
    _refuse_duplicates(split, str(path))
    if not allow_leak:
        _refuse_leaks(split, str(path))
    return split.sort_values("image_id", ignore_index=True)


def name_split(split: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Replace image names in a split by image ids.

    Args:
        split: Split as returned by `read_split`.
        table: Table of the data set with `image_id` and `image_path`.

    Returns:
        The same rows; names of other images are kept without suffix.

    Raises:
        DatasetError: A row is ambiguous, or two rows refer to one image.
    """
    known = KnownImages({image_id: Path(path) for image_id, path in zip(table["image_id"], table["image_path"], strict=True)})
    found = known.find(split["image_id"], what="the split")
    named = split.assign(
        image_id=[found[name][0] if name in found else parse_name(name).without_ending for name in split["image_id"]]
    )
    _refuse_duplicates(named, "the split")
    return named


def _refuse_duplicates(split: pd.DataFrame, name: str) -> None:
    if split["image_id"].duplicated().any():
        raise DatasetError(f"{name}: image {split.loc[split['image_id'].duplicated(), 'image_id'].iloc[0]} occurs twice")


def left_out(table: pd.DataFrame, split: pd.DataFrame) -> tuple[str, ...]:
    """List the ids of images that are not in a split."""
    return tuple(table.loc[~table["image_id"].isin(split["image_id"]), "image_id"])


def _refuse_leaks(split: pd.DataFrame, name: str) -> None:
    parts = split.groupby("lesion_id")["part"].nunique()
    if (parts > 1).any():
        raise DatasetError(
            f"{name}: {counted((parts > 1).sum(), 'lesion')} in two parts, {parts.idxmax()} for one; split by lesion"
        )


def assign_parts(table: pd.DataFrame, split: pd.DataFrame, *, allow_leak: bool = False) -> pd.DataFrame:
    """Select the images of a split, with their `part`.

    Args:
        table: Table of the data set.
        split: Split with ids of the data set.
        allow_leak: True to accept lesions in two parts.

    Raises:
        DatasetError: A part would be empty, or a lesion, by the lesion ids of the data set, is in two parts.
    """
    joined = table.merge(split[["image_id", "part"]], on="image_id", how="inner")
    if not allow_leak:
        _refuse_leaks(joined, "the split does not fit the data set")
    for part in PARTS:
        if not (joined["part"] == part).any():
            raise DatasetError(f"the split has no {part} image among the {len(table)} of the data set; use more images")
    return joined
