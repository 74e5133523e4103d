"""The held-out images of the folds of a sweep over `data.fold`, in one table for each model that was cross-validated."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from segpipe.evaluation.out_of_fold import FOLD_TABLE, join_folds, score_folds
from segpipe.io.images import write_file
from segpipe.io.strict_json import encode_json
from segpipe.sweep.record import JobRecord
from segpipe.sweep.test_split import read_test_set


def write_out_of_fold(sweep: Path, records: Sequence[JobRecord]) -> None:
    """Join the tables of the folds; nothing where there are none.

    Writes `out_of_fold.csv`, and `out_of_fold.json` with the figures as soon as all folds are there; where several settings were
    cross-validated, `out_of_fold_2.csv` and so on for the others.

    Args:
        sweep: folder of the sweep.
        records: of its finished trainings.

    Raises:
        DatasetError: a lesion stands in two folds.
        OutputError: a table cannot be written.
    """
    folds: dict[str, list[JobRecord]] = defaultdict(list)
    for record in records:
        if (record.folder / FOLD_TABLE).is_file():
            settings = {key: record.settings[key] for key in sorted(record.settings) if key != "data.fold"}
            # The folds of one cross-validation have one test split; those of other data have another, under the same settings.
            folds[json.dumps([settings, read_test_set(record.folder)])].append(record)
    for number, (_, members) in enumerate(sorted(folds.items()), start=1):
        path = sweep / (FOLD_TABLE if number == 1 else f"out_of_fold_{number}.csv")
        text_columns = {"image_id": str, "lesion_id": str, "dx": str}
        joined = join_folds(
            [pd.read_csv(member.folder / FOLD_TABLE, dtype=text_columns, keep_default_na=False) for member in members]
        )
        write_file(path, joined.to_csv(index=False).encode())
        if len(members) == members[0].settings["data.folds"]:
            dataset = read_test_set(members[0].folder)["test_dataset"]
            write_file(path.with_suffix(".json"), encode_json(score_folds(joined, dataset=dataset)))
