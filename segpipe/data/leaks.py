"""Search of splits for leaks: shared lesions and near-duplicate photographs.

`segpipe leaks data.root=DIR split=CSV` runs it alone. Lesion ids are not sufficient: four pairs of HAM10000 show one lesion
under two ids.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.duplicates import (
    HASH_BITS,
    MIN_SIMILARITY,
    ORIENTATIONS,
    SIDE,
    compare_detail,
    find_candidates,
    hash_files,
    hash_images,
    turn,
)
from segpipe.data.splits import PARTS, name_split
from segpipe.errors import DatasetError
from segpipe.io.files import counted
from segpipe.io.images import read_thumbnail
from segpipe.io.passes import follow, keep


@dataclass(frozen=True)
class SharedLesion:
    """Lesion with images in more than one part.

    Attributes:
        lesion_id: Lesion id of the data set.
        parts: Parts that contain it.
    """

    lesion_id: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"lesion {self.lesion_id} is in {' and '.join(self.parts)}"


@dataclass(frozen=True)
class NearDuplicate:
    """Images of different lesion ids and parts that show the same skin.

    Attributes:
        image_ids: Ids of both images.
        parts: Parts of both images.
        distance: Number of different hash bits.
        similarity: Correlation of fine detail, at most 1.
        orientation: Rotation and mirroring that align the second image with the first, in words.
    """

    image_ids: tuple[str, str]
    parts: tuple[str, str]
    distance: int
    similarity: float
    orientation: str

    def __str__(self) -> str:
        first, second = (f"{image_id} ({part})" for image_id, part in zip(self.image_ids, self.parts, strict=True))
        return (
            f"{first} shows the same as {second} {self.orientation}: "
            f"similarity {self.similarity:.3f}, {self.distance} of {HASH_BITS} hash bits differ"
        )


@dataclass(frozen=True)
class Leaks:
    """Common lesions and photographs of the parts of a split.

    Attributes:
        images: Number of images in each part.
        shared_lesions: Shared lesions, sorted by lesion id.
        near_duplicates: Near duplicates, most similar first.
    """

    images: Mapping[str, int]
    shared_lesions: tuple[SharedLesion, ...]
    near_duplicates: tuple[NearDuplicate, ...]

    @property
    def all(self) -> tuple[SharedLesion | NearDuplicate, ...]:
        """All leaks, shared lesions first."""
        return self.shared_lesions + self.near_duplicates

    def __str__(self) -> str:
        lesions, pairs = counted(len(self.shared_lesions), "lesion"), counted(len(self.near_duplicates), "near-duplicate pair")
        return f"{lesions} in two parts, {pairs} across parts"

    def report(self) -> str:
        """Summarize the search, with one line per leak."""
        images = ", ".join(f"{part} {number}" for part, number in self.images.items())
        return "\n".join([f"images in each part: {images}", str(self), *map(str, self.all)])


def join_parts(table: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Select the images of a split, with their `part`.

    Raises:
        DatasetError: The split lacks `image_id` or `part`, or names no image of the data set.
    """
    if not {"image_id", "part"} <= set(split.columns):
        raise DatasetError(f"split must have the columns image_id and part, got {','.join(map(str, split.columns))}")
    joined = table.merge(name_split(split, table)[["image_id", "part"]], on="image_id")
    if joined.empty:
        raise DatasetError(f"split must name images of data.root, got none of its {len(table)}; name the split of this data set")
    return joined


def find_leaks(table: pd.DataFrame) -> Leaks:
    """Find lesions and photographs that are in two parts.

    Args:
        table: `image_id`, `lesion_id`, `part` and `image_path`, one row per image.

    Raises:
        ImageError: An image cannot be read.
    """
    parts_of = table.groupby("lesion_id")["part"].unique()
    shared = [
        SharedLesion(str(lesion), tuple(part for part in PARTS if part in parts))
        for lesion, parts in parts_of[parts_of.map(len) > 1].items()
    ]
    images = {part: int((table["part"] == part).sum()) for part in PARTS}
    return Leaks(images, tuple(shared), _near_duplicates(table))


def refuse_leaks(parts: Mapping[str, pd.DataFrame], *, allowed: bool) -> None:
    """Stop a training whose parts share lesions or photographs.

    Args:
        parts: Used rows by part, as for `find_leaks`.
        allowed: True to skip the search.

    Raises:
        DatasetError: Two parts share a lesion or show the same skin.
    """
    if allowed:
        return
    leaks = find_leaks(pd.concat(parts.values()))
    if leaks.all:
        raise DatasetError(
            f"split must share nothing between its parts, got {leaks}: {leaks.all[0]}; segpipe leaks lists them; "
            "leave one image of each pair out of the split, or set allow_leak=true, which the model's card will say"
        )


def _near_duplicates(table: pd.DataFrame) -> tuple[NearDuplicate, ...]:
    """Find near-duplicates across parts, or look up those found before."""

    def key() -> str:
        columns = [table[name].astype(str) for name in ("image_id", "lesion_id", "part")]
        rows = list(zip(*columns, hash_files(table["image_path"]), strict=True))
        return hashlib.sha256(repr((MIN_SIMILARITY, rows)).encode()).hexdigest()

    found = keep("near_duplicates", key, lambda: [asdict(pair) for pair in _compare_images(table)])
    return tuple(
        NearDuplicate(**{**pair, "image_ids": tuple(pair["image_ids"]), "parts": tuple(pair["parts"])}) for pair in found
    )


def _compare_images(table: pd.DataFrame) -> tuple[NearDuplicate, ...]:
    image_ids, lesion_ids, parts = (table[name].to_numpy() for name in ("image_id", "lesion_id", "part"))
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda path: read_thumbnail(Path(path), side=SIDE), table["image_path"])
        thumbnails = np.stack(list(follow(read, len(table), "comparing images")))
        pairs = [pair for pair in find_candidates(hash_images(thumbnails), parts) if lesion_ids[pair[0]] != lesion_ids[pair[1]]]
        scores = pool.map(lambda pair: compare_detail(thumbnails[pair[0]], turn(thumbnails[pair[1]], pair[2])), pairs)
        surest_first = sorted(zip(scores, pairs, strict=True), reverse=True)
    best: dict[tuple[int, int], NearDuplicate] = {}  # similar blobs match in several orientations
    for score, (first, second, orientation, distance) in surest_first:
        if score >= MIN_SIMILARITY:
            names = (image_ids[first], image_ids[second]), (parts[first], parts[second])
            best.setdefault((first, second), NearDuplicate(*names, int(distance), float(score), ORIENTATIONS[orientation]))
    return tuple(best.values())
