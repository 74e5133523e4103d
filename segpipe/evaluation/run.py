"""What a run over images wrote, read again."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.evaluation.classification import Answers
from segpipe.image_io import BoolMask, RgbImage, display_path, read_image, read_mask
from segpipe.inference.results import class_codes

# The run has accepted these images by its own max_pixels.
ANY_SIZE = sys.maxsize


@dataclass(frozen=True)
class Run:
    """The results in a folder.

    Attributes:
        folder: with `results.csv` and `masks/`.
        results: the table, with the `image_id` of each row, by which its truth is known: its `path`.
        malignant: codes of the malignant classes, from `summary.json`; empty where they are not known.
        operating_point: `diagnosis` and `threshold` behind the column `flagged`, from `summary.json`; None where there is none.
        photographs: the file of each image by its `path`; empty where the files are not at hand.
    """

    folder: Path
    results: pd.DataFrame
    malignant: tuple[str, ...]
    operating_point: Mapping[str, Any] | None
    photographs: Mapping[str, Path]

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
        """The mask that was found for the image of this `path`, see `segpipe.inference.source.result_names`."""
        relative, masks = Path(path), self.folder / "masks"
        with_ending, without = (masks / relative.with_name(f"{name}.png") for name in (relative.name, relative.stem))
        return read_mask(with_ending if with_ending.is_file() else without, max_pixels=ANY_SIZE)

    def photograph(self, path: str) -> RgbImage:
        """The image of this `path`."""
        return read_image(self.photographs[path], max_pixels=ANY_SIZE)


def read_run(folder: Path, files: Sequence[tuple[Path, Path]] = ()) -> Run:
    """Read the results in a folder.

    Args:
        folder: of the run, with `results.csv`, `masks/` and, for the malignant classes and the operating point, `summary.json`.
        files: the images, each with its path relative to the folder that it was found in.
    """
    results = pd.read_csv(folder / "results.csv", keep_default_na=False)
    results["image_id"] = results["path"]
    file = folder / "summary.json"
    summary = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    photographs = {display_path(relative): path for path, relative in files}
    return Run(folder, results, tuple(summary.get("malignant", ())), summary.get("operating_point"), photographs)
