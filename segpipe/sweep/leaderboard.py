"""The tables over all trainings of a sweep: `leaderboard.csv` with its picture, `failed.csv`, `out_of_fold.csv`."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from segpipe.evaluation.headline import short_hash
from segpipe.evaluation.out_of_fold import FOLD_TABLE, join_folds, score_folds
from segpipe.evaluation.plots import COLOURS, new_figure, save_figure, set_texts
from segpipe.io.images import write_file
from segpipe.io.strict_json import encode_json
from segpipe.sweep.record import FAILED, FINISHED, SCORES, JobRecord, read_records, read_test_metrics, read_test_set

SHOWN = 40  # trainings, the best of them
# The figure of the test split that stands beside a score.
_TEST_FIGURES = {"val_auroc": "test_macro_auroc", "val_dice": "test_dice"}
_TITLES = {
    "val_auroc": "Validation images, crops as in training\nmacro AUROC",
    "val_dice": "Validation images, segmenter alone\nDice",
    "test_macro_auroc": "Test images, end to end\nmacro AUROC, 95 % interval",
    "test_dice": "Test images, segmenter alone\nDice, 95 % interval",
}
_SEVERAL_TESTS = "Test splits differ: only rows of one test split can be compared"


def draw_leaderboard(table: pd.DataFrame, varying: Sequence[str], path: Path) -> None:
    """Draw a leaderboard.

    Args:
        table: see `segpipe.sweep.leaderboard.leaderboard`; not empty.
        varying: names of the settings by which the trainings are told apart.
        path: of the PNG.
    """
    table = table.head(SHOWN)
    score = next(name for name in SCORES if name in table or _TEST_FIGURES[name] in table)
    test = _TEST_FIGURES[score]
    values = table.reindex(columns=[score, test, f"{test}_low", f"{test}_high"]).astype(float)  # any may be missing
    groups = [name for name in varying if "." not in name]
    # A chosen option stands for all that it sets.
    names = [name for name in varying if name.split(".")[0] not in groups or name in groups]
    labels = ["\n".join(f"{name}={row[name]}" for name in names) or row["job"] for _, row in table.iterrows()]
    several = len(table) > 1 and (table["test_set_sha256"].nunique() != 1 or table["test_set_sha256"].isna().any())
    if several:
        labels = [f"{label}\n{_test_split_text(row)}" for label, (_, row) in zip(labels, table.iterrows(), strict=True)]
    table = table.reindex(columns=list(dict.fromkeys([*table.columns, test, f"{test}_low", f"{test}_high"])))
    figure = new_figure(width=11, height=1.8 + (0.3 + 0.17 * max(1, len(names) + several)) * len(table))
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(table))
    left.plot(values[score], places, "o", color=COLOURS[0])
    middle = values[test]
    errors = [middle - values[f"{test}_low"].fillna(middle), values[f"{test}_high"].fillna(middle) - middle]
    right.errorbar(middle, places, xerr=errors, fmt="o", color=COLOURS[1], capsize=3)
    left.set_yticks(places, [label.replace("$", r"\$") for label in labels], fontsize=9)
    left.invert_yaxis()
    for axes, name in ((left, score), (right, test)):
        set_texts(axes, _TITLES[name], "", "")
        axes.grid(color="0.9")
    if several:
        figure.suptitle(_SEVERAL_TESTS, fontsize=11)
    save_figure(figure, path)


def _test_split_text(row: pd.Series) -> str:
    if pd.isna(row["test_set_sha256"]):
        return "test split not recorded"
    return f"test: {row['test_images']:.0f} of {row['test_dataset']}, {short_hash(row['test_set_sha256'])}"


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


LEADERBOARD, FAILURES, PICTURE = "leaderboard.csv", "failed.csv", "leaderboard.png"


def write_tables(sweep: Path) -> None:
    """Write the tables of a sweep anew from the records of its trainings.

    Args:
        sweep: folder of the sweep; each training has a subfolder.

    Raises:
        OutputError: a table cannot be written.
    """
    records = read_records(sweep)
    table = leaderboard(records)
    _write(sweep / LEADERBOARD, table)
    failed = [record for record in records if record.status == FAILED]
    rows = [[record.folder.name, " ".join(record.overrides), record.reason] for record in failed]
    _write(sweep / FAILURES, pd.DataFrame(rows, columns=["job", "overrides", "reason"]))
    finished = {record.folder.name: record for record in records if record.status == FINISHED}
    if finished:
        draw_leaderboard(table, varying_settings(list(finished.values())), sweep / PICTURE)
    write_out_of_fold(sweep, list(finished.values()))


def leaderboard(records: Sequence[JobRecord]) -> pd.DataFrame:
    """The finished trainings, the best first, those without a score last: on validation, for the test split must not choose.

    Returns:
        One row each: `job`, the settings that differ between them, `best_epoch`, the figures of that epoch (`val_...`), those of
        the test split (`test_...`, see `read_test_metrics`), `epochs`, `seconds`, `peak_memory_mib`, and what the test split is:
        `test_dataset`, `test_images`, `test_set_sha256`, empty where an older version did not record it.
    """
    finished = [record for record in records if record.status == FINISHED]
    varying = varying_settings(finished)
    rows = [
        {
            "job": record.folder.name,
            **{key: _shown(record.settings.get(key)) for key in varying},
            "best_epoch": record.best_epoch,
            **dict(sorted(record.validation.items(), key=lambda item: item[0] not in SCORES)),
            **read_test_metrics(record.folder),
            "epochs": record.epochs,
            "seconds": round(record.seconds, 1),
            "peak_memory_mib": None if record.peak_memory_mib is None else round(record.peak_memory_mib),
            **read_test_set(record.folder),
        }
        for record in sorted(finished, key=lambda record: -math.inf if record.score is None else record.score, reverse=True)
    ]
    return pd.DataFrame(rows if rows else None, columns=None if rows else ["job"])


def varying_settings(records: Sequence[JobRecord]) -> list[str]:
    """The settings in which trainings differ: chosen options of config groups first, then single keys."""
    keys = dict.fromkeys(key for record in records for key in record.settings)
    varying = [key for key in keys if len({json.dumps(record.settings.get(key)) for record in records}) > 1]
    return sorted(varying, key=lambda key: "." in key)


def _shown(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | Mapping) else value


def _write(path: Path, table: pd.DataFrame) -> None:
    write_file(path, table.to_csv(index=False).encode())
