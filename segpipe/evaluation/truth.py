"""Ground truth of images: diagnoses, masks, lesions and patient attributes."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.annotations.files import is_annotation_file, read_annotations
from segpipe.data.annotations.labels import read_label_file
from segpipe.data.identity import KnownImages
from segpipe.data.masks import find_masks, inspect_mask, same_masks
from segpipe.data.splits import read_split
from segpipe.data.tables import refuse_contradictions
from segpipe.errors import DatasetError, ImageError
from segpipe.io.images import decode_photograph
from segpipe.io.storage import open_source

UNKNOWN = "unknown"
AGE_BANDS = {"0-29": 0, "30-44": 30, "45-59": 45, "60-74": 60, "75+": 75}  # first year of each


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth by image.

    Images are known by their names, see `segpipe.data.identity`, until `match_images` replaces them by the `path` of the results.

    Attributes:
        diagnoses: Code of each labeled image; None without labels.
        masks: File of each true mask; None without masks.
        lesions: Lesion id of each image; empty where lesions are unknown.
        attributes: Value of each image by `sex`, `age_band` and `localization`, as far as they are known.
        dataset: Name of the data set, for the description of the test set; None for single images.
        part: Part of the split; None without a split.
        left_out: Images whose label or mask cannot be used, by the reason.
        matched: True after `match_images`.
    """

    diagnoses: Mapping[str, str] | None = None
    masks: Mapping[str, Path] | None = None
    lesions: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dataset: str | None = None
    part: str | None = None
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    matched: bool = False

    def interval_unit(self, image_ids: Sequence[str]) -> str:
        """Name the unit of the bootstrap: `lesion`, or `image` without lesion ids."""
        return "lesion" if any(image_id in self.lesions for image_id in image_ids) else "image"

    def lesions_of(self, image_ids: Sequence[str]) -> list[str]:
        """List the lesion of each image, `image <id>` where unknown."""
        return [self.lesions.get(image_id, f"image {image_id}") for image_id in image_ids]

    def attributes_of(self, image_ids: Sequence[str]) -> dict[str, list[str]]:
        """List the values of each attribute, `unknown` where missing."""
        return {name: [known.get(image_id, UNKNOWN) for image_id in image_ids] for name, known in self.attributes.items()}

    def match_images(self, files: Mapping[str, Path | str | None]) -> "GroundTruth":
        """Match names to the images of a run.

        Args:
            files: File of each image by the `path` of its results; None where the file is not available.

        Returns:
            Ground truth by that path.

        Raises:
            DatasetError: A name fits two images, or two names of one image contradict each other.
        """
        if self.matched:
            return self
        known = KnownImages(files)
        return replace(
            self,
            matched=True,
            diagnoses=None if self.diagnoses is None else known.assign(self.diagnoses, what="labels"),
            masks=None if self.masks is None else known.assign(self.masks, what="masks", same=same_masks),
            lesions=known.assign(self.lesions, what="lesion ids"),
            attributes={name: known.assign(values, what=name) for name, values in self.attributes.items()},
        )

    def keep_classes(self, classes: Sequence[str]) -> "GroundTruth":
        """Leave out the labels of classes that a classifier does not have.

        Args:
            classes: Codes of the classes of the classifier.

        Raises:
            DatasetError: No label is left.
        """
        others: dict[str, list[str]] = {}
        for image, code in (self.diagnoses or {}).items():
            if code not in classes:
                others.setdefault(f"label of another class, {code!r}", []).append(image)
        diagnoses = {image: code for image, code in (self.diagnoses or {}).items() if code in classes}
        if others and not diagnoses:
            raise DatasetError(
                f"labels must name classes among {', '.join(classes)}, got none: {_counts(others)}; see the bundle"
            )
        return replace(self, diagnoses=None if self.diagnoses is None else diagnoses, left_out={**self.left_out, **others})

    def with_usable_masks(self, files: Mapping[str, Path | str | None]) -> "GroundTruth":
        """Leave out the masks that cannot be used, see `segpipe.data.masks.inspect_mask`.

        Args:
            files: File of each image, see `match_images`, which must have been called.

        Raises:
            DatasetError: No mask is left.
        """
        masks = dict(self.masks or {})
        with ThreadPoolExecutor() as pool:
            defects = dict(
                zip(masks, pool.map(lambda image: inspect_mask(masks[image], _shape(files[image])), masks), strict=True)
            )
        bad: dict[str, list[str]] = {}
        for image, defect in defects.items():
            if defect:
                bad.setdefault(defect, []).append(image)
        if bad and not any(defect == "" for defect in defects.values()):
            raise DatasetError(
                f"masks must hold at least one that can be used, got none: {_counts(bad)}; fix them, or leave masks out"
            )
        usable = {image: path for image, path in masks.items() if not defects[image]}
        return replace(self, masks=None if self.masks is None else usable, left_out={**self.left_out, **bad})

    def remarks(self) -> list[str]:
        """Describe the left-out labels and masks, one line per reason."""
        return [f"left out: {_counts({reason: images})}" for reason, images in self.left_out.items()]


def _counts(images: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{len(names)} x {reason} (such as {names[0]})" for reason, names in images.items())


def _shape(file: Path | str | None) -> tuple[int, int] | None:
    """Read height and width of an image, pixels; None where unreadable."""
    if file is None:
        return None
    try:
        with open_source(file) as opened:
            photograph = decode_photograph(opened, least_side=1)
    except ImageError:
        return None
    return photograph.height, photograph.width


def check_truth(truth: GroundTruth, files: Mapping[str, Path | str]) -> GroundTruth:
    """Check, before a run, that its images can be scored.

    Args:
        truth: Ground truth by names, see `read_truth`.
        files: File of each image of the run by the `path` of its results.

    Returns:
        Ground truth of these images by that path, without masks that cannot be used.

    Raises:
        DatasetError: Labels or masks fit none of the images or contradict each other, or no mask can be used.
    """
    matched = truth.match_images(files)
    if not files:
        return matched
    for key, given, used in (("labels", truth.diagnoses, matched.diagnoses), ("masks", truth.masks, matched.masks)):
        if given is not None and not used:
            example = next(iter(given), None)
            raise DatasetError(
                f"{key} must name at least one of the {len(files)} images, such as {next(iter(files), 'none')}, got none: "
                f"{f'{len(given)} names, such as {example}' if given else 'there are none'}; name images by their path below the "
                f"folder{', or masks IMAGE_segmentation.png' if key == 'masks' else ''}"
            )
    return matched.with_usable_masks(files)


def read_truth(
    *, labels: Path | None, masks: Path | None, split: Path | None = None, images: Collection[Path] = ()
) -> GroundTruth:
    """Read the ground truth of images.

    Args:
        labels: Table of diagnoses or annotation file, see `read_label_file`, with optional lesion ids, `age`, `sex` and
            `localization`.
        masks: Folder of true masks, or annotation file, see `find_masks`.
        split: Table with lesion ids for labels without them.
        images: Images that may lie in the folder of the masks.

    Raises:
        DatasetError: A table cannot be used, or the masks contradict each other.
    """
    true_masks = None if masks is None else find_masks(masks, images=images)
    left_out = read_annotations(masks).skipped if masks is not None and is_annotation_file(masks) else {}
    split_lesions = {} if split is None else _known(read_split(split), "lesion_id")
    if labels is None:
        return GroundTruth(masks=true_masks, lesions=split_lesions, left_out=left_out)
    table = read_label_file(labels)
    refuse_contradictions(table, what=str(labels))
    diagnoses = {name: code for name, code in zip(table["image_id"], table["dx"], strict=True) if not pd.isna(code)}
    lesions = _known(table, "lesion_id") or split_lesions
    return GroundTruth(diagnoses, true_masks, lesions, read_attributes(table), left_out=left_out)


def _known(table: pd.DataFrame, column: str) -> dict[str, str]:
    if column not in table.columns:
        return {}
    known = table.dropna(subset=column)
    return {image_id: value for image_id, value in zip(known["image_id"], known[column].astype(str), strict=True) if value}


def dataset_truth(table: pd.DataFrame, *, dataset: str | None = None) -> GroundTruth:
    """Collect the ground truth of a data set.

    Args:
        table: Rows of the data set; where all are of one part of a split, their `part` names it.
        dataset: Name of the data set.
    """
    masks = {image_id: Path(path) for image_id, path in _column(table, "mask_path").items()}
    parts = set(table["part"]) if "part" in table else set()
    part = parts.pop() if len(parts) == 1 else None
    lesions, attributes = _column(table, "lesion_id"), read_attributes(table)
    return GroundTruth(_column(table, "dx"), masks or None, lesions, attributes, dataset, part)


def _column(table: pd.DataFrame, name: str) -> Mapping[str, str]:
    known = table.dropna(subset=name)
    return dict(zip(known["image_id"], known[name], strict=True))


def read_attributes(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Read the attributes of patients and body sites.

    Args:
        table: `image_id` and, if known, `sex`, `age` (years) and `localization` of each image.

    Returns:
        Value of each image by `sex` and `localization`, in lower case, and by `age_band` (`AGE_BANDS`); only attributes that at
        least one image has.
    """
    texts = {name: table[name].astype("string").str.strip().str.lower() for name in ("sex", "localization") if name in table}
    if "age" in table:
        edges = [*AGE_BANDS.values(), np.inf]
        texts["age_band"] = pd.cut(pd.to_numeric(table["age"], errors="coerce"), edges, right=False, labels=list(AGE_BANDS))
    columns = {name: _known(table.assign(value=values), "value") for name, values in texts.items()}
    return {name: values for name, values in columns.items() if values}
