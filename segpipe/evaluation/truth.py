"""What is known of images without looking at them: diagnosis, true mask, lesion, and whose lesion it is and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.annotations import find_masks, read_labels
from segpipe.data.splits import read_split

UNKNOWN = "unknown"
AGE_BANDS = {"0-29": 0, "30-44": 30, "45-59": 45, "60-74": 60, "75+": 75}  # each with its first year


@dataclass(frozen=True)
class Truth:
    """What is known of images, by image id (file stem).

    Attributes:
        diagnoses: code of each labelled image; None where nothing is labelled.
        masks: file of each true mask; None where there are none.
        lesions: lesion id of each image; empty where none are known.
        attributes: by `sex`, `age_band` and `localization`, as far as they are known, the value of each image.
        dataset: name of the data set, for the description of the test set; None where the images were named one by one.
        part: part of the split that the images are of; None where there is no split.
    """

    diagnoses: Mapping[str, str] | None = None
    masks: Mapping[str, Path] | None = None
    lesions: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dataset: str | None = None
    part: str | None = None

    def interval_unit(self, image_ids: Sequence[str]) -> str:
        """What the bootstrap draws: a `lesion`, or an `image` where the lesion of none of these images is known."""
        return "lesion" if any(image_id in self.lesions for image_id in image_ids) else "image"

    def groups(self, image_ids: Sequence[str]) -> list[str]:
        """The lesion of each image; an image without one stands for itself."""
        return [self.lesions.get(image_id, f"image {image_id}") for image_id in image_ids]

    def attributes_of(self, image_ids: Sequence[str]) -> dict[str, list[str]]:
        """Each attribute's value for each image; `unknown` where there is none."""
        return {name: [known.get(image_id, UNKNOWN) for image_id in image_ids] for name, known in self.attributes.items()}


def read_truth(*, labels: Path | None, masks: Path | None, split: Path | None = None) -> Truth:
    """Read what is known of images.

    Args:
        labels: table of diagnoses, see `read_labels`; its lesion ids, `age`, `sex` and `localization` are used where it has them.
        masks: folder of true masks.
        split: where lesion ids are taken from otherwise.

    Raises:
        DatasetError: a table cannot be used.
    """
    true_masks = None if masks is None else find_masks(masks)
    split_lesions = {} if split is None else _known(read_split(split), "lesion_id")
    if labels is None:
        return Truth(masks=true_masks, lesions=split_lesions)
    table = read_labels(labels).drop_duplicates("image_id")
    diagnoses = dict(zip(table["image_id"], table["dx"], strict=True))
    return Truth(diagnoses, true_masks, _known(table, "lesion_id") or split_lesions, read_attributes(table))


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
