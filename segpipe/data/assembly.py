"""What every data set is put together from: photographs, labels, lesion ids and masks, joined image by image."""

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from segpipe.data.check import CheckedDataset, check_table
from segpipe.data.identity import KnownImages, image_ids, parse_name, same_content
from segpipe.data.tables import (
    SUFFIXES,
    name_masks,
    read_columns,
    read_labels,
    read_table,
    refuse_contradictions,
    same_masks,
    to_numbers,
)
from segpipe.diagnosis import BENIGN_AND_MALIGNANT, MALIGNANT, class_code, is_known, known_malignant
from segpipe.errors import DatasetError
from segpipe.io.folders import find_files, find_images
from segpipe.io.images import display_path

_COLUMNS = ("image_id", "lesion_id", "dx", "age", "sex", "localization")
# What ISIC calls them in the tables that lie beside its labels.
_NAMES_OF_ISIC = {"image": "image_id", "age_approx": "age", "anatom_site_general": "localization"}


@dataclass(frozen=True)
class Files:
    """What lies below the root of a data set.

    Attributes:
        root: as it was named.
        images: the photographs by their ids, see `segpipe.data.identity.image_ids`.
        masks: by the ids of their images.
        remarks: what was passed over, by the reason.
    """

    root: str
    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def known(self) -> KnownImages:
        """The photographs, as tables name them."""
        return KnownImages(self.images)


def find_photographs(root: str, *, copies: bool) -> Files:
    """Find the photographs and masks of a data set.

    Args:
        root: searched with all its subfolders.
        copies: keep all copies of a photograph that bear one file name; else the first is taken, for some downloads hold the same
            one twice.

    Raises:
        DatasetError: `root` is no folder, holds no photographs, or an image has two masks.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(f"data.root must be a folder, got {root!r}; see data/README.md, or use data=synthetic")
    found = find_images(folder)
    masks = (*found.masks, *found.mask_pictures)
    if not found.images:
        others = f" beside {len(masks)} masks" if masks else ""
        first = "".join(f"; {display_path(path)} is {reason}" for path, reason in found.unreadable[:1])
        raise DatasetError(
            f"data.root must hold images, got none in {root!r}{others}; see data/README.md, or use data=synthetic{first}"
        )
    photographs = found.images if copies else _without_copies(found.images)
    images = _by_id(folder, photographs)
    named = name_masks(folder, masks)
    of_images = KnownImages(images).assign(named, what=f"the masks in {root}", same=same_masks)
    strays = sorted(set(found.mask_pictures if of_images else named.values()) - set(of_images.values()))
    passed_over: dict[str, Sequence[Path]] = {"folder of results": found.outputs, "mask of no image": strays}
    passed_over["file that is not read as an image"] = [path for path, _ in found.unreadable]
    remarks = {what: tuple(display_path(path.relative_to(folder)) for path in paths) for what, paths in passed_over.items()}
    return Files(root, images, of_images, remarks)


def _by_id(folder: Path, photographs: Sequence[Path]) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for image_id, path in zip(image_ids([path.relative_to(folder) for path in photographs]), photographs, strict=True):
        if images.setdefault(image_id, path) != path:
            raise DatasetError(
                f"data.root must hold images of different names, got {image_id} twice, in two forms of Unicode or in upper and "
                "lower case of its ending; rename one"
            )
    return images


def _without_copies(photographs: Sequence[Path]) -> list[Path]:
    """Leave out a file that has both name and content of an earlier one."""
    firsts: dict[str, list[Path]] = {}
    for path in photographs:
        known = firsts.setdefault(parse_name(path.name).stem, [])
        if not any(same_content(path, other) for other in known):
            known.append(path)
    return [path for path in photographs if path in firsts[parse_name(path.name).stem]]


def label_by_folder(files: Files, class_of: Callable[[Sequence[str]], str | None]) -> pd.DataFrame:
    """Labels from the folders that images lie in.

    Args:
        files: of the data set.
        class_of: from the folders of an image, from the root downwards, to its class; None where it has none.

    Returns:
        `image_id` and `dx` of the images that have a class.
    """
    folders = {image_id: path.relative_to(files.root).parts[:-1] for image_id, path in files.images.items()}
    composed = {image_id: [unicodedata.normalize("NFC", part) for part in parts] for image_id, parts in folders.items()}
    labels = {image_id: code for image_id, parts in composed.items() if (code := class_of(parts)) is not None}
    return pd.DataFrame({"image_id": list(labels), "dx": list(labels.values())}, dtype=object)


def read_metadata(root: str) -> pd.DataFrame | None:
    """All labels below the root of a data set, told by their columns, with what the tables beside them say of the images.

    Returns:
        See `read_labels`; None where there are no labels.
    """
    paths = [path for path in find_files(Path(root)) if path.suffix.lower() in SUFFIXES]
    headers = {path: read_columns(path) for path in paths}
    full = [path for path, header in headers.items() if {"image_id", "dx"} <= header]
    one_hot = [path for path, header in headers.items() if {"image", "MEL", "NV"} <= header]
    if not full and not one_hot:
        return None
    labels = pd.concat([read_labels(path) for path in full or one_hot], ignore_index=True)
    beside = [read_table(path) for path, header in headers.items() if {"image", "lesion_id"} <= header]
    if "lesion_id" in labels.columns or not beside:
        return labels
    known = pd.concat(beside).rename(columns=_NAMES_OF_ISIC).dropna(subset="image_id")
    known = known.assign(name=known["image_id"].map(_without_ending)).drop_duplicates("name")
    news = [name for name in _COLUMNS if name in known.columns and name not in labels.columns]
    labels = labels.assign(name=labels["image_id"].map(_without_ending))
    return labels.merge(known[["name", *news]], on="name", how="left").drop(columns="name")


def _without_ending(name: str) -> str:
    return parse_name(name).without_ending


def assemble(
    labels: pd.DataFrame,
    files: Files,
    *,
    classes: tuple[str, ...],
    unwanted: Collection[str] = (),
    malignant: Sequence[str] | None = None,
    without_lesion_ids: bool,
) -> CheckedDataset:
    """Join what is known of the images, and check it.

    Args:
        labels: `image_id` and `dx`, and as far as they are known `lesion_id`, `age`, `sex` and `localization`.
        files: of the data set.
        classes: codes in the order of a classifier's outputs.
        unwanted: other classes, whose images are left out without being read.
        malignant: the malignant classes; None where it follows from the classes, see `malignant_among`.
        without_lesion_ids: take an image for a lesion of its own where its lesion is not known; two images of one lesion may then
            stand in two parts of a split, which flatters every figure.

    Returns:
        One row for each usable image, and the report on the rest.

    Raises:
        DatasetError: there are no lesion ids, nothing is left, a malignant class is none, or the labels contradict each other.
    """
    table = name_images(labels.reindex(columns=list(_COLUMNS)), files.known, what="the labels")
    table = table.assign(age=to_numbers(table["age"]))
    refuse_contradictions(table, what=files.root)
    table = _complete_lesion_ids(table, files.root, asked_for=without_lesion_ids)
    outside = table["dx"].isin(unwanted)
    left_out = {
        "image without metadata": sorted(files.images.keys() - set(table["image_id"])),
        "image of a class outside data.classes": list(table.loc[outside, "image_id"]),
    }
    wanted = table[~outside]
    return check_table(
        wanted.assign(image_path=_paths_of(wanted, files.images), mask_path=_paths_of(wanted, files.masks)),
        name=Path(files.root).resolve().name,
        left_out=left_out,
        remarks=files.remarks,
        classes=classes,
        malignant=malignant_among(classes, malignant),
    )


def name_images(table: pd.DataFrame, known: KnownImages, *, what: str) -> pd.DataFrame:
    """The rows of a table with the ids of the images that they mean; a row that means none keeps its name.

    Args:
        table: with names of images in `image_id`; a name that means several copies stands for the first.
        known: images of the data set.
        what: origin of the table, for the message.

    Raises:
        DatasetError: a name may mean two images.
    """
    found = known.find(table["image_id"], what=what)
    return table.assign(image_id=[found[name][0] if name in found else _without_ending(name) for name in table["image_id"]])


def malignant_among(classes: tuple[str, ...], named: Sequence[str] | None) -> tuple[str, ...]:
    """The malignant classes: those that are named; else those of the known diagnoses, if there are no others; else none.

    Of the two classes benign and malignant, malignant is.

    Raises:
        DatasetError: one that is named is no class, or a class `malignant` is not the only malignant one.
    """
    if named is None and set(classes) == set(BENIGN_AND_MALIGNANT):
        named = (MALIGNANT,)
    if named is None:
        chosen = set(known_malignant(classes) if all(map(is_known, classes)) else ())
    else:
        chosen = {class_code(name) for name in named}
    if not chosen <= set(classes):
        raise DatasetError(f"data.malignant must name classes among {', '.join(classes)}, got {', '.join(sorted(chosen))}")
    if MALIGNANT in classes and chosen != {MALIGNANT}:
        # The column p_malignant is that of the class and the sum over the malignant classes.
        raise DatasetError(
            f"a class malignant must be the only malignant one, got {', '.join(sorted(chosen)) or 'none'} of "
            f"{', '.join(classes)}; set data.malignant=[malignant], or rename the class"
        )
    return tuple(code for code in classes if code in chosen)


def _complete_lesion_ids(table: pd.DataFrame, root: str, *, asked_for: bool) -> pd.DataFrame:
    """Make each image whose lesion is not known a lesion of its own, where that was asked for.

    Raises:
        DatasetError: it was not, and no lesion is known.
    """
    unknown = table["lesion_id"].isna()
    if asked_for:
        return table.assign(lesion_id=table["image_id"].where(unknown, table["lesion_id"]))
    if unknown.all():
        raise DatasetError(
            f"data.root={root!r} has no lesion ids, and a split without them leaks; give them in a table, see "
            "data/README.md, or ask for a split by image with data.without_lesion_ids=true"
        )
    return table


def _paths_of(table: pd.DataFrame, paths: Mapping[str, Path]) -> pd.Series:
    """The file of each image; None where there is none."""
    found = [str(paths[image_id]) if image_id in paths else None for image_id in table["image_id"]]
    return pd.Series(found, index=table.index, dtype=object)
