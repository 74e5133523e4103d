"""Whether a split leaks: lesions that stand in two parts, and photographs in two parts that show the same skin.

On its own, without a training: `segpipe leaks data.root=DIR split=CSV`.

Lesion ids do not tell everything: four pairs of HAM10000 show one lesion under two ids.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.near_duplicates import (
    HASH_BITS,
    MIN_SIMILARITY,
    ORIENTATIONS,
    SIDE,
    compare_detail,
    find_candidates,
    hash_images,
    turn,
)
from segpipe.data.splits import PARTS, name_split
from segpipe.errors import DatasetError
from segpipe.io.images import read_thumbnail
from segpipe.io.numerals import counted


@dataclass(frozen=True)
class SharedLesion:
    """A lesion with images in more than one part.

    Attributes:
        lesion_id: of the data set.
        parts: where it stands.
    """

    lesion_id: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"lesion {self.lesion_id} stands in {' and '.join(self.parts)}"


@dataclass(frozen=True)
class NearDuplicate:
    """Two images of different lesion ids, in different parts, that show the same skin.

    Attributes:
        image_ids: of both.
        parts: of both.
        distance: number of bits in which their hashes differ.
        similarity: correlation of their fine detail, at most 1.
        orientation: how the second must be turned to lie on the first, in words.
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
    """What two parts of a split have in common.

    Attributes:
        images: number of images in each part.
        shared_lesions: sorted by lesion id.
        near_duplicates: the surest first.
    """

    images: Mapping[str, int]
    shared_lesions: tuple[SharedLesion, ...]
    near_duplicates: tuple[NearDuplicate, ...]

    @property
    def all(self) -> tuple[SharedLesion | NearDuplicate, ...]:
        """Every leak, shared lesions first."""
        return self.shared_lesions + self.near_duplicates

    def __str__(self) -> str:
        lesions, pairs = counted(len(self.shared_lesions), "lesion"), counted(len(self.near_duplicates), "near-duplicate pair")
        return f"{lesions} in two parts, {pairs} across parts"

    def report(self) -> str:
        """The answer in a line, and a line for each leak."""
        images = ", ".join(f"{part} {number}" for part, number in self.images.items())
        return "\n".join([f"images in each part: {images}", str(self), *map(str, self.all)])


def join_parts(table: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """The rows of a data set that a split names, with their `part`, whatever they share.

    Raises:
        DatasetError: the split has no `image_id` and `part`, or names no image of the data set.
    """
    if not {"image_id", "part"} <= set(split.columns):
        raise DatasetError(f"split must have the columns image_id and part, got {','.join(map(str, split.columns))}")
    joined = table.merge(name_split(split, table)[["image_id", "part"]], on="image_id")
    if joined.empty:
        raise DatasetError(f"split must name images of data.root, got none of its {len(table)}; name the split of this data set")
    return joined


def find_leaks(table: pd.DataFrame) -> Leaks:
    """Look for lesions and photographs that stand in two parts.

    Args:
        table: `image_id`, `lesion_id`, `part` and `image_path`, one row for each image.

    Raises:
        ImageError: an image cannot be read.
    """
    parts_of = table.groupby("lesion_id")["part"].unique()
    shared = [
        SharedLesion(str(lesion), tuple(part for part in PARTS if part in parts))
        for lesion, parts in parts_of[parts_of.map(len) > 1].items()
    ]
    images = {part: int((table["part"] == part).sum()) for part in PARTS}
    return Leaks(images, tuple(shared), _near_duplicates(table))


def refuse_leaks(parts: Mapping[str, pd.DataFrame], *, allowed: bool) -> None:
    """Stop a training whose test or validation images stand among its training images.

    Args:
        parts: the rows in use, as for `find_leaks`, by part.
        allowed: take the split as it is, without looking.

    Raises:
        DatasetError: two parts share a lesion or show the same skin.
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
    image_ids, lesion_ids, parts = (table[name].to_numpy() for name in ("image_id", "lesion_id", "part"))
    with ThreadPoolExecutor() as pool:
        thumbnails = np.stack(list(pool.map(lambda path: read_thumbnail(Path(path), side=SIDE), table["image_path"])))
        pairs = [pair for pair in find_candidates(hash_images(thumbnails), parts) if lesion_ids[pair[0]] != lesion_ids[pair[1]]]
        scores = pool.map(lambda pair: compare_detail(thumbnails[pair[0]], turn(thumbnails[pair[1]], pair[2])), pairs)
        surest_first = sorted(zip(scores, pairs, strict=True), reverse=True)
    best: dict[tuple[int, int], NearDuplicate] = {}  # like blobs are like in several orientations
    for score, (first, second, orientation, distance) in surest_first:
        if score >= MIN_SIMILARITY:
            names = (image_ids[first], image_ids[second]), (parts[first], parts[second])
            best.setdefault((first, second), NearDuplicate(*names, distance, score, ORIENTATIONS[orientation]))
    return tuple(best.values())
