"""Out-of-fold predictions of a cross-validation.

Each model chose its best epoch and its calibration on its own fold, so metrics of these predictions are slightly optimistic;
those of the test split, which no fold uses, are not.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.errors import DatasetError
from segpipe.evaluation.headline import describe_test_set
from segpipe.evaluation.run import read_run
from segpipe.io.files import counted, write_file
from segpipe.io.run_files import FOLD_TABLE
from segpipe.metrics.bootstrap import with_intervals
from segpipe.metrics.classification import LabeledPredictions, score_predictions


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
