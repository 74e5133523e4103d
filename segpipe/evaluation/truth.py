"""What is known of images without looking at them: diagnosis, true mask, lesion, and whose lesion it is and where."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.check import inspect_mask
from segpipe.data.identity import KnownImages
from segpipe.data.splits import read_split
from segpipe.data.tables import find_masks, read_labels, refuse_contradictions, same_masks
from segpipe.errors import DatasetError, ImageError
from segpipe.io.images import decode_photograph
from segpipe.io.storage import open_source

UNKNOWN = "unknown"
AGE_BANDS = {"0-29": 0, "30-44": 30, "45-59": 45, "60-74": 60, "75+": 75}  # each with its first year


@dataclass(frozen=True)
class GroundTruth:
    """What is known of images, by their names (see `segpipe.data.identity`), or by the `path` of their results.

    Attributes:
        diagnoses: code of each labelled image; None where nothing is labelled.
        masks: file of each true mask; None where there are none.
        lesions: lesion id of each image; empty where none are known.
        attributes: by `sex`, `age_band` and `localization`, as far as they are known, the value of each image.
        dataset: name of the data set, for the description of the test set; None where the images were named one by one.
        part: part of the split that the images are of; None where there is no split.
        left_out: labels and masks of images that are not scored by them, by the reason.
        bound: it is known by the `path` of results.
    """

    diagnoses: Mapping[str, str] | None = None
    masks: Mapping[str, Path] | None = None
    lesions: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dataset: str | None = None
    part: str | None = None
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    bound: bool = False

    def interval_unit(self, image_ids: Sequence[str]) -> str:
        """What the bootstrap draws: a `lesion`, or an `image` where the lesion of none of these images is known."""
        return "lesion" if any(image_id in self.lesions for image_id in image_ids) else "image"

    def groups(self, image_ids: Sequence[str]) -> list[str]:
        """The lesion of each image; an image without one stands for itself."""
        return [self.lesions.get(image_id, f"image {image_id}") for image_id in image_ids]

    def attributes_of(self, image_ids: Sequence[str]) -> dict[str, list[str]]:
        """Each attribute's value for each image; `unknown` where there is none."""
        return {name: [known.get(image_id, UNKNOWN) for image_id in image_ids] for name, known in self.attributes.items()}

    def of_images(self, files: Mapping[str, Path | str | None]) -> "GroundTruth":
        """What is known of the images of a run, by the `path` of their results.

        Args:
            files: of the images, by that path; None where a file is not at hand.

        Raises:
            DatasetError: a name may mean two images, or two names of one image contradict each other.
        """
        if self.bound:
            return self
        known = KnownImages(files)
        return replace(
            self,
            bound=True,
            diagnoses=None if self.diagnoses is None else known.assign(self.diagnoses, what="labels"),
            masks=None if self.masks is None else known.assign(self.masks, what="masks", same=same_masks),
            lesions=known.assign(self.lesions, what="lesion ids"),
            attributes={name: known.assign(values, what=name) for name, values in self.attributes.items()},
        )

    def of_classes(self, classes: Sequence[str]) -> "GroundTruth":
        """Leave out the labels of classes that a classifier does not have.

        Args:
            classes: codes of the classifier.

        Raises:
            DatasetError: no label is left.
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
        """Leave out the masks that cannot be used, see `segpipe.data.check.inspect_mask`.

        Args:
            files: as for `of_images`, by whose paths this truth is known.

        Raises:
            DatasetError: no mask is left.
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
                f"masks must hold at least one that can be used, got none: {_counts(bad)}; mend them, or leave masks out"
            )
        usable = {image: path for image, path in masks.items() if not defects[image]}
        return replace(self, masks=None if self.masks is None else usable, left_out={**self.left_out, **bad})

    def remarks(self) -> list[str]:
        """A line for each reason to leave labels or masks out."""
        return [f"left out: {_counts({reason: images})}" for reason, images in self.left_out.items()]


def _counts(images: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{len(names)} x {reason} ({names[0]} for one)" for reason, names in images.items())


def _shape(file: Path | str | None) -> tuple[int, int] | None:
    """Height and width of a photograph, pixels; None where it cannot be read."""
    if file is None:
        return None
    try:
        with open_source(file) as opened:
            photograph = decode_photograph(opened, least_side=1)
    except ImageError:
        return None
    return photograph.height, photograph.width


def check_truth(truth: GroundTruth, files: Mapping[str, Path | str]) -> GroundTruth:
    """See, before the work, that a run will have something to be scored by.

    Args:
        truth: by names, see `read_truth`.
        files: of the images of the run, by the `path` of their results.

    Returns:
        What is known of these images, by that path, without the masks that cannot be used.

    Raises:
        DatasetError: labels or masks belong to none of the images, contradict each other, or no mask can be used.
    """
    bound = truth.of_images(files)
    if not files:
        return bound
    for key, given, found in (("labels", truth.diagnoses, bound.diagnoses), ("masks", truth.masks, bound.masks)):
        if given is not None and not found:
            example = next(iter(given), None)
            raise DatasetError(
                f"{key} must name at least one of the {len(files)} images, {next(iter(files), 'none')} for one, got none: "
                f"{f'{len(given)} names, {example} for one' if given else 'there are none'}; name images by their path below the "
                f"folder{', or masks IMAGE_segmentation.png' if key == 'masks' else ''}"
            )
    return bound.with_usable_masks(files)


def read_truth(
    *, labels: Path | None, masks: Path | None, split: Path | None = None, images: Collection[Path] = ()
) -> GroundTruth:
    """Read what is known of images.

    Args:
        labels: table of diagnoses, see `read_labels`; its lesion ids, `age`, `sex` and `localization` are used where it has them.
        masks: folder of true masks.
        split: where lesion ids are taken from otherwise.
        images: photographs that may lie among the masks.

    Raises:
        DatasetError: a table cannot be used, or the masks contradict each other.
    """
    true_masks = None if masks is None else find_masks(masks, images=images)
    split_lesions = {} if split is None else _known(read_split(split), "lesion_id")
    if labels is None:
        return GroundTruth(masks=true_masks, lesions=split_lesions)
    table = read_labels(labels)
    refuse_contradictions(table, what=str(labels))
    diagnoses = {name: code for name, code in zip(table["image_id"], table["dx"], strict=True) if not pd.isna(code)}
    return GroundTruth(diagnoses, true_masks, _known(table, "lesion_id") or split_lesions, read_attributes(table))


def _known(table: pd.DataFrame, column: str) -> dict[str, str]:
    if column not in table.columns:
        return {}
    known = table.dropna(subset=column)
    return {image_id: value for image_id, value in zip(known["image_id"], known[column].astype(str), strict=True) if value}


def read_attributes(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """By which patients and body sites images can be told apart; an attribute that no image has is left out.

    Args:
        table: `image_id`, and as far as they are there `sex`, `age` (years) and `localization`.

    Returns:
        `sex` and `localization` in lower case and `age_band` (`AGE_BANDS`), for the images that have them.
    """
    texts = {name: table[name].astype("string").str.strip().str.lower() for name in ("sex", "localization") if name in table}
    if "age" in table:
        edges = [*AGE_BANDS.values(), np.inf]
        texts["age_band"] = pd.cut(pd.to_numeric(table["age"], errors="coerce"), edges, right=False, labels=list(AGE_BANDS))
    columns = {name: _known(table.assign(value=values), "value") for name, values in texts.items()}
    return {name: values for name, values in columns.items() if values}
