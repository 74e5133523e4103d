"""Assembly of a data set from photographs, labels, lesion ids and masks."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from segpipe.data.check import CheckedDataset, check_table
from segpipe.data.identity import KnownImages, image_ids, parse_name, same_content
from segpipe.data.masks import assign_masks, name_masks, same_masks
from segpipe.data.tables import SUFFIXES, read_columns, read_labels, read_table, refuse_contradictions, to_numbers
from segpipe.diagnosis import BENIGN_AND_MALIGNANT, MALIGNANT, class_code, is_known, known_malignant
from segpipe.errors import DatasetError
from segpipe.io.files import display_path
from segpipe.io.folders import find_files, find_images

_COLUMNS = ("image_id", "lesion_id", "dx", "age", "sex", "localization")
# Names of these columns in ISIC's metadata tables.
_NAMES_OF_ISIC = {"image": "image_id", "age_approx": "age", "anatom_site_general": "localization"}


@dataclass(frozen=True)
class Files:
    """Files below the root of a data set.

    Attributes:
        root: Root folder, as given.
        images: Photographs by id, see `segpipe.data.identity.image_ids`.
        masks: Masks by the id of their image.
        remarks: Skipped paths by reason.
    """

    root: str
    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def folders(self) -> dict[str, tuple[str, ...]]:
        """Folder names of each photograph from the root downwards, in NFC."""
        relatives = {image_id: path.relative_to(self.root) for image_id, path in self.images.items()}
        return {
            image_id: tuple(unicodedata.normalize("NFC", part) for part in relative.parts[:-1])
            for image_id, relative in relatives.items()
        }

    @property
    def known(self) -> KnownImages:
        """Photographs as tables name them."""
        return KnownImages(self.images)

    def with_masks(self, source: str, *, key: str) -> "Files":
        """Give other masks precedence, see `segpipe.data.masks.assign_masks`.

        Args:
            source: Folder or annotation file of masks.
            key: Setting that names it, for messages.
        """
        given, unused = assign_masks(Path(source), self.known, key=key)
        return replace(self, masks={**self.masks, **given}, remarks={**self.remarks, **unused})


def find_photographs(root: str, *, copies: bool, masks: str | None = None) -> Files:
    """Find the photographs and masks of a data set.

    Args:
        root: Folder, searched with all its subfolders.
        copies: True to keep all identical photographs of one file name; False to keep the first, because some downloads hold
            files twice.
        masks: Folder or annotation file of masks that take precedence over those below `root`, see `find_masks`; None for none.

    Raises:
        DatasetError: `root` is no folder, holds no photographs, an image has two masks, or `masks` cannot be used.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(f"data.root must be a folder, got {root!r}; see data/README.md, or use data=synthetic")
    found = find_images(folder)
    own_masks = (*found.masks, *found.mask_pictures)
    if not found.images:
        others = f" but {len(own_masks)} masks" if own_masks else ""
        first = "".join(f"; {display_path(path)} is {reason}" for path, reason in found.unreadable[:1])
        raise DatasetError(
            f"data.root must hold images, got none in {root!r}{others}; see data/README.md, or use data=synthetic{first}"
        )
    photographs = found.images if copies else _without_copies(found.images)
    images = _by_id(folder, photographs)
    named = name_masks(folder, own_masks)
    of_images = KnownImages(images).assign(named, what=f"the masks in {root}", same=same_masks)
    unmatched = sorted(set(found.mask_pictures if of_images else named.values()) - set(of_images.values()))
    skipped: dict[str, Sequence[Path]] = {"folder of results": found.outputs, "mask of no image": unmatched}
    skipped["file that is not read as an image"] = [path for path, _ in found.unreadable]
    remarks = {what: tuple(display_path(path.relative_to(folder)) for path in paths) for what, paths in skipped.items()}
    files = Files(root, images, of_images, remarks)
    return files if masks is None else files.with_masks(masks, key="data.masks")


def _by_id(folder: Path, photographs: Sequence[Path]) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for image_id, path in zip(image_ids([path.relative_to(folder) for path in photographs]), photographs, strict=True):
        if images.setdefault(image_id, path) != path:
            raise DatasetError(
                f"data.root must hold images of different names, got {image_id} twice, in two Unicode forms or with a suffix "
                "in different case; rename one"
            )
    return images


def _without_copies(photographs: Sequence[Path]) -> list[Path]:
    """Drop files with the name and content of an earlier one."""
    firsts: dict[str, list[Path]] = {}
    for path in photographs:
        known = firsts.setdefault(parse_name(path.name).stem, [])
        if not any(same_content(path, other) for other in known):
            known.append(path)
    return [path for path in photographs if path in firsts[parse_name(path.name).stem]]


def read_metadata(root: str) -> pd.DataFrame | None:
    """Read all label tables below a root, joined with other metadata.

    Tables are recognized by their columns.

    Returns:
        Labels as by `read_labels`, with further columns; None without any label table.
    """
    paths = [path for path in find_files(Path(root)) if path.suffix.lower() in SUFFIXES]
    headers = {path: read_columns(path) for path in paths}
    full = [path for path, header in headers.items() if {"image_id", "dx"} <= header]
    one_hot = [path for path, header in headers.items() if {"image", "MEL", "NV"} <= header]
    if not full and not one_hot:
        return None
    labels = pd.concat([read_labels(path) for path in full or one_hot], ignore_index=True)
    extra_tables = [read_table(path) for path, header in headers.items() if {"image", "lesion_id"} <= header]
    if "lesion_id" in labels.columns or not extra_tables:
        return labels
    known = pd.concat(extra_tables).rename(columns=_NAMES_OF_ISIC).dropna(subset="image_id")
    known = known.assign(name=known["image_id"].map(_without_ending)).drop_duplicates("name")
    new_columns = [name for name in _COLUMNS if name in known.columns and name not in labels.columns]
    labels = labels.assign(name=labels["image_id"].map(_without_ending))
    return labels.merge(known[["name", *new_columns]], on="name", how="left").drop(columns="name")


def _without_ending(name: str) -> str:
    return parse_name(name).without_ending


def assemble(
    labels: pd.DataFrame,
    files: Files,
    *,
    classes: tuple[str, ...],
    excluded: Collection[str] = (),
    malignant: Sequence[str] | None = None,
    without_lesion_ids: bool,
) -> CheckedDataset:
    """Join labels, photographs and masks, and check the result.

    Args:
        labels: `image_id` and `dx`, and as far as known `lesion_id`, `age`, `sex` and `localization`.
        files: Files of the data set.
        classes: Codes in the order of a classifier's outputs.
        excluded: Other classes, whose images are left out without being read.
        malignant: Malignant classes; None derives them from the classes, see `malignant_among`.
        without_lesion_ids: True to treat images without a known lesion as lesions of their own. Two images of one lesion may
            then be in two parts of a split, which inflates all metrics.

    Returns:
        One row per usable image, and the report on the others.

    Raises:
        DatasetError: Lesion ids are missing, no image is left, a malignant class is unknown, or labels contradict each other.
    """
    table = name_images(labels.reindex(columns=list(_COLUMNS)), files.known, what="the labels")
    table = table.assign(age=to_numbers(table["age"]))
    refuse_contradictions(table, what=files.root)
    table = _complete_lesion_ids(table, files.root, allowed=without_lesion_ids)
    outside = table["dx"].isin(excluded)
    left_out = {
        "image without metadata": sorted(files.images.keys() - set(table["image_id"])),
        "image of a class outside data.classes": list(table.loc[outside, "image_id"]),
    }
    included = table[~outside]
    return check_table(
        included.assign(image_path=_paths_of(included, files.images), mask_path=_paths_of(included, files.masks)),
        name=Path(files.root).resolve().name,
        left_out=left_out,
        remarks=files.remarks,
        classes=classes,
        malignant=malignant_among(classes, malignant),
    )


def name_images(table: pd.DataFrame, known: KnownImages, *, what: str) -> pd.DataFrame:
    """Replace image names in a table by image ids.

    Args:
        table: Table with image names in `image_id`; a name of several copies means the first.
        known: Images of the data set.
        what: Origin of the table in messages.

    Returns:
        The same rows; names of unknown images are kept without suffix.

    Raises:
        DatasetError: A name is ambiguous.
    """
    found = known.find(table["image_id"], what=what)
    return table.assign(image_id=[found[name][0] if name in found else _without_ending(name) for name in table["image_id"]])


def malignant_among(classes: tuple[str, ...], named: Sequence[str] | None) -> tuple[str, ...]:
    """Determine the malignant classes.

    If none are named, these are `malignant` of the pair benign and malignant, or the malignant ones of known diagnoses only;
    else none.

    Raises:
        DatasetError: A named class does not exist, or a class `malignant` is not the only malignant one.
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
        # Otherwise the column p_malignant would mean both this class and the sum over the malignant classes.
        raise DatasetError(
            f"a class malignant must be the only malignant one, got {', '.join(sorted(chosen)) or 'none'} of "
            f"{', '.join(classes)}; set data.malignant=[malignant], or rename the class"
        )
    return tuple(code for code in classes if code in chosen)


def _complete_lesion_ids(table: pd.DataFrame, root: str, *, allowed: bool) -> pd.DataFrame:
    """Assign lesion ids of their own to images without one.

    Raises:
        DatasetError: This is not allowed, and no lesion is known.
    """
    unknown = table["lesion_id"].isna()
    if allowed:
        return table.assign(lesion_id=table["image_id"].where(unknown, table["lesion_id"]))
    if unknown.all():
        raise DatasetError(
            f"data.root={root!r} has no lesion ids, and a split without them leaks; give them in a table, see "
            "data/README.md, or ask for a split by image with data.without_lesion_ids=true"
        )
    return table


def _paths_of(table: pd.DataFrame, paths: Mapping[str, Path]) -> pd.Series:
    """Return the file of each image; None for a missing one."""
    found = [str(paths[image_id]) if image_id in paths else None for image_id in table["image_id"]]
    return pd.Series(found, index=table.index, dtype=object)
