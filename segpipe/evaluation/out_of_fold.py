"""A cross-validation's answers on the images that each model was not trained on: from one fold, and from all of them together.

Each model chose its best epoch and its calibration by its own fold, so figures on these answers flatter it a little; the test
split, which no fold touches, does not.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.bundle.folder import ClassifierBundle
from segpipe.errors import DatasetError
from segpipe.evaluation.headline import describe_test_set
from segpipe.evaluation.held_out import result_path, score_classifier
from segpipe.evaluation.run import read_run
from segpipe.evaluation.score import RESAMPLES
from segpipe.inference.pipeline import Locator
from segpipe.inference.tta import View
from segpipe.io.images import display_path, write_file
from segpipe.io.numerals import counted
from segpipe.metrics.bootstrap import with_intervals
from segpipe.metrics.classification import Answers, score_answers

FOLD_TABLE = "out_of_fold.csv"


def predict_fold(
    locator: Locator,
    bundle: ClassifierBundle,
    table: pd.DataFrame,
    output: Path,
    *,
    fold: int,
    views: Sequence[View],
    batch_size: int,
    dataset: str | None = None,
) -> None:
    """Name the images of the fold that was held out, and write them into `out_of_fold.csv`.

    Args:
        locator: finds the lesions.
        bundle: of the classifier, calibrated.
        table: of the images: `image_id`, `lesion_id`, `dx`, `image_path`, `mask_path`.
        output: of the training; takes the table, and `out_of_fold/` with what a run over images writes.
        fold: number of the fold.
        views: for test-time augmentation.
        batch_size: cap on images x views.
        dataset: name of the data set.
    """
    folder = output / "out_of_fold"
    score_classifier(locator, bundle, table, folder, views=views, batch_size=batch_size, dataset=dataset)
    run = read_run(folder)
    answers = run.results[["path", "diagnosis", "confidence", *(f"p_{code}" for code in run.codes), "sha256"]]
    paths = [display_path(result_path(*row)) for row in zip(table["image_id"], table["image_path"], strict=True)]
    known = table[["image_id", "lesion_id", "dx"]].assign(fold=fold, path=paths)
    joined = known.merge(answers, on="path").drop(columns="path")
    write_file(output / FOLD_TABLE, joined.to_csv(index=False).encode())


def join_folds(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The held-out images of all folds in one table, by fold and image.

    Args:
        tables: as `predict_fold` writes them.

    Raises:
        DatasetError: a lesion stands in two folds, or an image twice.
    """
    joined = pd.concat(tables).sort_values(["fold", "image_id"], ignore_index=True)
    folds = joined.groupby("lesion_id")["fold"].nunique()
    if (folds > 1).any():
        raise DatasetError(
            f"{counted((folds > 1).sum(), 'lesion')} in two folds, {folds.idxmax()} for one; give all folds the same "
            "seed and split"
        )
    twice = joined["image_id"].duplicated()
    if twice.any():
        raise DatasetError(f"each image must stand in one fold, got {joined['image_id'][twice].iloc[0]} twice")
    return joined


def score_folds(joined: pd.DataFrame, *, dataset: str | None = None) -> dict[str, Any]:
    """Compute the metrics of a classifier over the held-out images of all folds.

    Args:
        joined: as `join_folds` returns it.
        dataset: name of the data set.

    Returns:
        Each metric with its 95 % interval over lesions; and under `test_set` the identity of the images, None where a fold of an
        older version does not have their hashes.
    """
    codes = [name.removeprefix("p_") for name in joined.columns if name.startswith("p_")]
    labels = np.array([codes.index(code) for code in joined["dx"]])
    answers = Answers(joined[[f"p_{code}" for code in codes]].to_numpy(np.float64), labels, codes)
    metrics = with_intervals(partial(score_answers, answers), list(joined["lesion_id"]), resamples=RESAMPLES)
    if "sha256" not in joined or joined["sha256"].isna().any():
        return metrics | {"test_set": None}
    return metrics | {"test_set": describe_test_set(list(joined["sha256"]), list(joined["dx"]), dataset=dataset, part="val")}
