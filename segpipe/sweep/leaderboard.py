"""Tables of a sweep: leaderboard with its plot, failures, cross-validation."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from segpipe.evaluation.plots import COLORS, new_figure, save_figure, set_texts
from segpipe.evaluation.run import join_folds, score_folds
from segpipe.evaluation.text import short_hash
from segpipe.io.files import encode_json, write_file
from segpipe.io.run_files import FAILED_JOBS, FOLD_TABLE, LEADERBOARD, LEADERBOARD_PLOT
from segpipe.sweep.printing import shown_settings
from segpipe.sweep.record import FAILED, FINISHED, SCORES, JobRecord, read_records, read_test_metrics, read_test_set

SHOWN = 40  # best trainings in the plot
# Test metric beside each score.
_TEST_METRICS = {"val_auroc": "test_macro_auroc", "val_dice": "test_dice"}
_TITLES = {
    "val_auroc": "Validation images, crops as in training\nmacro AUROC",
    "val_dice": "Validation images, segmenter alone\nDice",
    "test_macro_auroc": "Test images, end to end\nmacro AUROC, 95 % interval",
    "test_dice": "Test images, segmenter alone\nDice, 95 % interval",
}
_SEVERAL_TESTS = "Test splits differ: only rows of one test split can be compared"


def write_tables(sweep: Path) -> None:
    """Rewrite the tables of a sweep from the records of its trainings.

    Args:
        sweep: Folder of the sweep, with a subfolder for each training.

    Raises:
        OutputError: A table cannot be written.
    """
    records = read_records(sweep)
    table = leaderboard(records)
    _write(sweep / LEADERBOARD, table)
    failed = [record for record in records if record.status == FAILED]
    rows = [[record.folder.name, " ".join(record.overrides), record.reason] for record in failed]
    _write(sweep / FAILED_JOBS, pd.DataFrame(rows, columns=["job", "overrides", "reason"]))
    finished = {record.folder.name: record for record in records if record.status == FINISHED}
    if finished:
        draw_leaderboard(table, varying_settings(list(finished.values())), sweep / LEADERBOARD_PLOT)
    write_out_of_fold(sweep, list(finished.values()))


def leaderboard(records: Sequence[JobRecord]) -> pd.DataFrame:
    """Rank the finished trainings by their score on the validation images.

    The test split is shown, but does not rank. Trainings without a score are last.

    Returns:
        One row for each training: `job`, the settings that differ between them, `best_epoch`, the metrics of that epoch
        (`val_...`) and of the test split (`test_...`, see `read_test_metrics`), `epochs`, `seconds`, `peak_memory_mib`, and the
        identity of the test split: `test_dataset`, `test_images`, `test_set_sha256`, empty if an older version recorded none.
    """
    finished = [record for record in records if record.status == FINISHED]
    varying = varying_settings(finished)
    rows = [
        {
            "job": record.folder.name,
            **{key: _cell(record.settings.get(key)) for key in varying},
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
    """List the settings in which trainings differ, config groups first."""
    keys = dict.fromkeys(key for record in records for key in record.settings)
    varying = [key for key in keys if len({json.dumps(record.settings.get(key)) for record in records}) > 1]
    return sorted(varying, key=lambda key: "." in key)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | Mapping) else value


def draw_leaderboard(table: pd.DataFrame, varying: Sequence[str], path: Path) -> None:
    """Draw the best trainings of a leaderboard.

    Args:
        table: Leaderboard, see `leaderboard`; not empty.
        varying: Names of the settings in which the trainings differ.
        path: Path of the PNG.
    """
    table = table.head(SHOWN)
    score = next(name for name in SCORES if name in table or _TEST_METRICS[name] in table)
    test = _TEST_METRICS[score]
    values = table.reindex(columns=[score, test, f"{test}_low", f"{test}_high"]).astype(float)  # any may be missing
    names = shown_settings(varying)
    labels = ["\n".join(f"{name}={row[name]}" for name in names) or row["job"] for _, row in table.iterrows()]
    differing = len(table) > 1 and (table["test_set_sha256"].nunique() != 1 or table["test_set_sha256"].isna().any())
    if differing:
        labels = [f"{label}\n{_test_split_text(row)}" for label, (_, row) in zip(labels, table.iterrows(), strict=True)]
    table = table.reindex(columns=list(dict.fromkeys([*table.columns, test, f"{test}_low", f"{test}_high"])))
    figure = new_figure(width=11, height=1.8 + (0.3 + 0.17 * max(1, len(names) + differing)) * len(table))
    left, right = figure.subplots(1, 2, sharey=True)
    rows = range(len(table))
    left.plot(values[score], rows, "o", color=COLORS[0])
    middle = values[test]
    errors = [middle - values[f"{test}_low"].fillna(middle), values[f"{test}_high"].fillna(middle) - middle]
    right.errorbar(middle, rows, xerr=errors, fmt="o", color=COLORS[1], capsize=3)
    left.set_yticks(rows, [label.replace("$", r"\$") for label in labels], fontsize=9)
    left.invert_yaxis()
    for axes, name in ((left, score), (right, test)):
        set_texts(axes, _TITLES[name], "", "")
        axes.grid(color="0.9")
    if differing:
        figure.suptitle(_SEVERAL_TESTS, fontsize=11)
    save_figure(figure, path)


def _test_split_text(row: pd.Series) -> str:
    if pd.isna(row["test_set_sha256"]):
        return "test split not recorded"
    return f"test: {row['test_images']:.0f} of {row['test_dataset']}, {short_hash(row['test_set_sha256'])}"


def write_out_of_fold(sweep: Path, records: Sequence[JobRecord]) -> None:
    """Join the tables of the folds of a cross-validation, if any.

    Writes `out_of_fold.csv`, and `out_of_fold.json` with the metrics once all folds are finished. If several settings were
    cross-validated, the others are in `out_of_fold_2.csv` and so on.

    Args:
        sweep: Folder of the sweep.
        records: Records of its finished trainings.

    Raises:
        DatasetError: A lesion is in two folds.
        OutputError: A table cannot be written.
    """
    folds: dict[str, list[JobRecord]] = defaultdict(list)
    for record in records:
        if (record.folder / FOLD_TABLE).is_file():
            settings = {key: record.settings[key] for key in sorted(record.settings) if key != "data.fold"}
            # Folds of other data can have the same settings, but another test split.
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


def _write(path: Path, table: pd.DataFrame) -> None:
    write_file(path, table.to_csv(index=False).encode())
