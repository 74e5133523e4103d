"""What a run over images wrote, read again."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.io.images import display_path, read_image, read_mask
from segpipe.io.strict_json import read_json
from segpipe.metrics.classification import Answers
from segpipe.runs.results import class_codes
from segpipe.types import BoolMask, RgbImage

# The run has accepted these images by its own max_pixels.
ANY_SIZE = sys.maxsize


@dataclass(frozen=True)
class Run:
    """The results in a folder.

    Attributes:
        folder: with `results.csv` and `masks/`.
        results: the table, with the `image_id` of each row, by which its truth is known: its `path`.
        malignant: codes of the malignant classes, from `summary.json`; empty where they are not known.
        operating_points: `target` and `threshold` of each, from `summary.json`; empty where there are none.
        photographs: the file of each image by its `path`; empty where the files are not at hand.
        pipeline: models and settings behind the results, from `summary.json`: SHA-256 of the weights of `segmenter` and
            `classifier` (a list for an ensemble), `localize` (first mask source), `views` (number of views); empty where unknown.
    """

    folder: Path
    results: pd.DataFrame
    malignant: tuple[str, ...]
    operating_points: tuple[Mapping[str, Any], ...]
    photographs: Mapping[str, Path]
    pipeline: Mapping[str, Any] = field(default_factory=dict)

    @property
    def codes(self) -> list[str]:
        """The classes, in the order of the columns."""
        return class_codes(self.results.columns, self.malignant)

    def labelled(self, diagnoses: Mapping[str, str]) -> pd.DataFrame:
        """The results of the images whose diagnosis, by image id, is known and one of the classes."""
        return self.results[self.results["image_id"].map(dict(diagnoses)).isin(self.codes)]

    def answers(self, rows: pd.DataFrame, diagnoses: Mapping[str, str]) -> Answers:
        """What the classifier says of images beside what is true of them.

        Args:
            rows: results of labelled images.
            diagnoses: code of each image, by image id.
        """
        codes = self.codes
        labels = np.array([codes.index(diagnoses[image_id]) for image_id in rows["image_id"]])
        return Answers(rows[[f"p_{code}" for code in codes]].to_numpy(dtype=np.float64), labels, codes)

    def mask(self, path: str) -> BoolMask:
        """The mask that was found for the image of this `path`, see `segpipe.runs.source.result_names`."""
        relative, masks = Path(path), self.folder / "masks"
        with_ending, without = (masks / relative.with_name(f"{name}.png") for name in (relative.name, relative.stem))
        return read_mask(with_ending if with_ending.is_file() else without, max_pixels=ANY_SIZE)

    def photograph(self, path: str) -> RgbImage:
        """The image of this `path`."""
        return read_image(self.photographs[path], max_pixels=ANY_SIZE)


def read_run(folder: Path, files: Sequence[tuple[Path, Path]] = ()) -> Run:
    """Read the results in a folder.

    Args:
        folder: of the run, with `results.csv`, `masks/` and, for the models and what their cards say, `summary.json`.
        files: the images, each with its path relative to the folder that it was found in.
    """
    results = pd.read_csv(folder / "results.csv", keep_default_na=False, dtype={"flagged_for": str})
    results["image_id"] = results["path"]
    file = folder / "summary.json"
    summary = read_json(file) if file.is_file() else {}
    photographs = {display_path(relative): path for path, relative in files}
    malignant, points = (tuple(summary.get(name, ())) for name in ("malignant", "operating_points"))
    return Run(folder, results, malignant, points, photographs, _pipeline_of(summary))


def _pipeline_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    if not {"models", "run"} <= summary.keys():
        return {}
    return {**summary["models"], "localize": summary["run"]["localize"], "views": len(summary["run"]["tta"])}
