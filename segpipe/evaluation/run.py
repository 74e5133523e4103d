"""Results of runs over labeled images, and out-of-fold tables.

Each model of a cross-validation chose its best epoch and its calibration on its own fold, so metrics of out-of-fold predictions
are slightly optimistic; those of the test split, which no fold uses, are not.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.data.identity import parse_name
from segpipe.errors import DatasetError
from segpipe.evaluation.text import describe_test_set
from segpipe.io.files import counted, display_path, read_json, write_file
from segpipe.io.images import read_image, read_mask
from segpipe.io.run_files import FOLD_TABLE, MASKS, RESULTS, SUMMARY
from segpipe.metrics.bootstrap import with_intervals
from segpipe.metrics.classification import LabeledPredictions, score_predictions
from segpipe.metrics.conformal import SetMetrics, read_sets
from segpipe.runs.results import class_codes
from segpipe.types import BoolMask, RgbImage

# The run has accepted these images by its own max_pixels.
ANY_SIZE = sys.maxsize


@dataclass(frozen=True)
class Run:
    """Results in the folder of a run.

    Attributes:
        folder: Folder with `results.csv` and `masks/`.
        results: Table of the results, with the `image_id` of each row by which its ground truth is known: its `path`.
        malignant: Codes of the malignant classes, from `summary.json`; empty where they are unknown.
        operating_points: `target` and `threshold` of each operating point, from `summary.json`; empty without operating points.
        image_files: File of each image by its `path`; empty where the files are not available.
        pipeline: Models and settings behind the results, from `summary.json`: SHA-256 of the weights of `segmenter` and
            `classifier` (a list for an ensemble), `localize` (first mask source), `views` (number of views); empty where unknown.
    """

    folder: Path
    results: pd.DataFrame
    malignant: tuple[str, ...]
    operating_points: tuple[Mapping[str, Any], ...]
    image_files: Mapping[str, Path]
    pipeline: Mapping[str, Any] = field(default_factory=dict)

    @property
    def codes(self) -> list[str]:
        """Codes of the classes, in the order of the columns."""
        return class_codes(self.results.columns, self.malignant)

    def labeled(self, diagnoses: Mapping[str, str]) -> pd.DataFrame:
        """Select the results of images with a known diagnosis among the classes.

        Args:
            diagnoses: Code of each labeled image by its id.
        """
        return self.results[self.results["image_id"].map(dict(diagnoses)).isin(self.codes)]

    def predictions(self, rows: pd.DataFrame, diagnoses: Mapping[str, str]) -> LabeledPredictions:
        """Join the probabilities of labeled images with their diagnoses.

        Args:
            rows: Results of labeled images.
            diagnoses: Code of each labeled image by its id.
        """
        codes = self.codes
        labels = np.array([codes.index(diagnoses[image_id]) for image_id in rows["image_id"]])
        return LabeledPredictions(rows[[f"p_{code}" for code in codes]].to_numpy(dtype=np.float64), labels, codes)

    def set_metrics(self, rows: pd.DataFrame, predictions: LabeledPredictions) -> SetMetrics | None:
        """Prepare the metrics of the prediction sets, if the run has any.

        Args:
            rows: Results of labeled images.
            predictions: Predictions for the same images, in the same order.
        """
        members = read_sets(list(rows["prediction_set"]), predictions.codes) if "prediction_set" in rows else None
        return None if members is None else SetMetrics(members, predictions.labels, predictions.codes)

    def read_mask(self, path: str) -> BoolMask:
        """Read the predicted mask of an image, see `segpipe.runs.source.result_names`."""
        relative, masks = Path(path), self.folder / MASKS
        with_suffix, without = (masks / relative.with_name(f"{name}.png") for name in (relative.name, relative.stem))
        return read_mask(with_suffix if with_suffix.is_file() else without, max_pixels=ANY_SIZE)

    def read_image(self, path: str) -> RgbImage:
        """Read an image."""
        return read_image(self.image_files[path], max_pixels=ANY_SIZE)


def read_run(folder: Path, files: Sequence[tuple[Path, Path]] = ()) -> Run:
    """Read the results of a run.

    Args:
        folder: Folder with `results.csv`, `masks/` and, for the models and the data of their cards, `summary.json`.
        files: Images, each with its path relative to the folder of the run's images.
    """
    results = pd.read_csv(folder / RESULTS, keep_default_na=False, dtype={"flagged_for": str, "prediction_set": str})
    results["image_id"] = results["path"]
    file = folder / SUMMARY
    summary = read_json(file) if file.is_file() else {}
    image_files = {display_path(relative): path for path, relative in files}
    malignant, points = (tuple(summary.get(name, ())) for name in ("malignant", "operating_points"))
    return Run(folder, results, malignant, points, image_files, _pipeline_of(summary))


def result_path(row: Mapping[Any, Any]) -> Path:
    """Name an image by its id with the suffix of its file."""
    image_id = row["image_id"]
    return Path(image_id if parse_name(image_id).ending else f"{image_id}{Path(row['image_path']).suffix}")


def _pipeline_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    if not {"models", "run"} <= summary.keys():
        return {}
    return {**summary["models"], "localize": summary["run"]["localize"], "views": len(summary["run"]["tta"])}


def write_fold(output: Path, folder: Path, images: pd.DataFrame) -> None:
    """Write the table of a fold: its images with their predictions.

    Args:
        output: Folder of the training.
        folder: Folder of a run over the images of the fold.
        images: `image_id`, `lesion_id`, `dx`, `fold` and `path` in the results of each image.
    """
    run = read_run(folder)
    predictions = run.results[["path", "diagnosis", "confidence", *(f"p_{code}" for code in run.codes), "sha256"]]
    joined = images.merge(predictions, on="path").drop(columns="path")
    write_file(output / FOLD_TABLE, joined.to_csv(index=False).encode())


def join_folds(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the tables of all folds, ordered by fold and image.

    Args:
        tables: Tables of `write_fold`.

    Raises:
        DatasetError: A lesion is in two folds, or an image is there twice.
    """
    joined = pd.concat(tables).sort_values(["fold", "image_id"], ignore_index=True)
    folds = joined.groupby("lesion_id")["fold"].nunique()
    if (folds > 1).any():
        raise DatasetError(
            f"each lesion must be in one fold, got {counted((folds > 1).sum(), 'lesion')} in two folds, such as "
            f"{folds.idxmax()}; give all folds the same seed and split"
        )
    duplicated = joined["image_id"].duplicated()
    if duplicated.any():
        raise DatasetError(f"each image must be in one fold, got {joined['image_id'][duplicated].iloc[0]} twice")
    return joined


def score_folds(joined: pd.DataFrame, *, dataset: str | None = None) -> dict[str, Any]:
    """Compute the metrics of a classifier over all folds.

    Args:
        joined: Table of `join_folds`.
        dataset: Name of the data set.

    Returns:
        Each metric with its 95 % interval over lesions; and under `test_set` the identity of the images, None where the table of
        a fold is from an older version without hashes.
    """
    codes = [name.removeprefix("p_") for name in joined.columns if name.startswith("p_")]
    labels = np.array([codes.index(code) for code in joined["dx"]])
    predictions = LabeledPredictions(joined[[f"p_{code}" for code in codes]].to_numpy(np.float64), labels, codes)
    metrics = with_intervals(partial(score_predictions, predictions), list(joined["lesion_id"]))
    if "sha256" not in joined or joined["sha256"].isna().any():
        return metrics | {"test_set": None}
    return metrics | {"test_set": describe_test_set(list(joined["sha256"]), list(joined["dx"]), dataset=dataset, part="val")}
