"""The leaderboard of a sweep as a picture: what chose the best, and beside it what the test split says."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from segpipe.evaluation.drawing import COLOURS, new_figure, save_figure, set_texts
from segpipe.evaluation.scored_images import short_hash
from segpipe.sweep.record import SCORES

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
