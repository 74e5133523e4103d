"""Train, validation and test parts that share no lesion."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.check import CheckedDataset
from segpipe.data.identity import KnownImages, parse_name
from segpipe.data.tables import read_table
from segpipe.errors import DatasetError
from segpipe.io.images import write_file
from segpipe.io.numerals import counted

PARTS = ("train", "val", "test")
FRACTIONS = (0.7, 0.1, 0.2)
# Lesions of HAM10000 that stand there under two ids: each goes where the other one goes (found by segpipe.data.leaks).
SAME_LESIONS = {
    "HAM_0001109": "HAM_0007525",
    "HAM_0007604": "HAM_0000955",
    "HAM_0000140": "HAM_0004919",
    "HAM_0004214": "HAM_0004213",
}


def make_split(table: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Split a data set by lesion, 70/10/20, each diagnosis in these shares.

    Args:
        table: with the columns `image_id`, `lesion_id` and `dx`.
        seed: the same seed and the same lesions give the same split, whatever the order of the rows.

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
    """One round of a cross-validation over what is not in the test part: one fold is the val part, the others are the train part.

    Lesions are dealt to the folds whole, those of each diagnosis in turn, so the folds share none and are alike. The test part
    stays what it is: an ensemble of the models of all folds can be judged by it.

    Args:
        split: with the columns `image_id`, `lesion_id` and `part`.
        table: of the data set, with `lesion_id` and `dx`.
        fold: the one that is held out, 0 to `folds` - 1.
        folds: how many there are, 2 or more.
        seed: of the dealing; the same seed and lesions give the same folds.

    Returns:
        The same rows as `split`, with their part in this round.
    """
    dealt = split[split["part"] != "test"]["lesion_id"]
    lesions = table[table["lesion_id"].isin(dealt)].groupby("lesion_id")["dx"].min().sort_index()
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(lesions.index[lesions == code].to_numpy()) for code in sorted(lesions.unique())])
    fold_of = {lesion: place % folds for place, lesion in enumerate(order)}
    fold_of |= {lesion: fold_of[other] for lesion, other in SAME_LESIONS.items() if {lesion, other} <= fold_of.keys()}
    held_out = split["lesion_id"].map(fold_of) == fold
    part = split["part"].mask(split["part"] != "test", "train").mask(held_out & (split["part"] != "test"), "val")
    return split.assign(part=part)


def own_split(dataset: CheckedDataset, *, seed: int) -> pd.DataFrame:
    """The split of a data set: the one that it comes with, else one by `make_split`.

    A val or test part that it lacks is taken from its train part.

    Args:
        dataset: checked.
        seed: of `make_split`.
    """
    table = dataset.table
    if not dataset.parts:
        return make_split(table, seed=seed)
    given = table["image_id"].map(dataset.parts)
    fresh = make_split(table[given == "train"], seed=seed).set_index("image_id")["part"]
    taken = table["image_id"].map(fresh)
    part = given.mask(taken.isin(set(PARTS) - set(given)), taken)
    return table[["image_id", "lesion_id"]].assign(part=part).sort_values("image_id", ignore_index=True)


def limit_lesions(table: pd.DataFrame, limit: int | None, *, seed: int) -> pd.DataFrame:
    """Keep about `limit` images: whole lesions, each diagnosis in its share, at least one lesion of each.

    Args:
        table: with the columns `lesion_id` and `dx`.
        limit: number of images; None keeps all.
        seed: of the choice.

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
        wanted = max(1, round(limit * len(rows) / len(table)))
        kept += list(sizes.index[order[before < wanted]])
    return table[table["lesion_id"].isin(kept)].reset_index(drop=True)


def split_hash(split: pd.DataFrame) -> str:
    """SHA-256 of a split, the same for the same images in the same parts, whatever their order."""
    rows = split[["image_id", "lesion_id", "part"]].astype(str).sort_values("image_id")
    return hashlib.sha256("\n".join(rows.agg(",".join, axis=1)).encode()).hexdigest()


def write_split(path: Path, split: pd.DataFrame) -> None:
    """Write `image_id,lesion_id,part`."""
    write_file(path, split.to_csv(index=False, columns=["image_id", "lesion_id", "part"]).encode())


def read_split(path: Path, *, allow_leak: bool = False) -> pd.DataFrame:
    """Read a split and prove that no lesion stands in two parts.

    Args:
        path: of a table with `image_id`, `lesion_id` and `part`.
        allow_leak: do not ask for that proof.

    Raises:
        DatasetError: a column or a field is missing, a part is unknown, an image is doubled, or a lesion stands in two parts.
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
    _refuse_doubles(split, str(path))
    if not allow_leak:
        _refuse_leaks(split, str(path))
    return split.sort_values("image_id", ignore_index=True)


def name_split(split: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a split with the ids that a data set gives its images; a row of another image keeps its name.

    Args:
        split: as `read_split` gives it.
        table: of the data set, with `image_id` and `image_path`.

    Raises:
        DatasetError: a row may mean two images, or two rows mean one.
    """
    known = KnownImages({image_id: Path(path) for image_id, path in zip(table["image_id"], table["image_path"], strict=True)})
    found = known.find(split["image_id"], what="the split")
    named = split.assign(
        image_id=[found[name][0] if name in found else parse_name(name).without_ending for name in split["image_id"]]
    )
    _refuse_doubles(named, "the split")
    return named


def _refuse_doubles(split: pd.DataFrame, name: str) -> None:
    if split["image_id"].duplicated().any():
        raise DatasetError(f"{name}: image {split.loc[split['image_id'].duplicated(), 'image_id'].iloc[0]} stands in it twice")


def left_out(table: pd.DataFrame, split: pd.DataFrame) -> tuple[str, ...]:
    """The ids of the images of a data set that a split does not name."""
    return tuple(table.loc[~table["image_id"].isin(split["image_id"]), "image_id"])


def _refuse_leaks(split: pd.DataFrame, name: str) -> None:
    parts = split.groupby("lesion_id")["part"].nunique()
    if (parts > 1).any():
        raise DatasetError(
            f"{name}: {counted((parts > 1).sum(), 'lesion')} in two parts, {parts.idxmax()} for one; split by lesion"
        )


def assign_parts(table: pd.DataFrame, split: pd.DataFrame, *, allow_leak: bool = False) -> pd.DataFrame:
    """The rows of a data set that a split names, with their `part`; `allow_leak` lets a lesion stand in two.

    Raises:
        DatasetError: a part would be empty, or a lesion, by the lesion ids of the data set, stands in two parts.
    """
    joined = table.merge(split[["image_id", "part"]], on="image_id", how="inner")
    if not allow_leak:
        _refuse_leaks(joined, "the split does not fit the data set")
    for part in PARTS:
        if not (joined["part"] == part).any():
            raise DatasetError(f"the split has no {part} image among the {len(table)} of the data set; use more images")
    return joined
