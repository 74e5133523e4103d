"""Plot of a training: its curves, the best epoch, the stages."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from segpipe.evaluation import training_plot
from segpipe.evaluation.training_plot import draw_training

COLUMNS = {
    "train_loss": [3.0, 2.0, 1.5],
    "val_loss": [4.0, 5.0, 6.0],
    "val_iou": [0.4, 0.6, 0.5],
    "val_dice": [0.5, 0.75, 0.6],
    "learning_rate": [0.1, 0.01, 0.001],
}


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that were drawn."""
    pd.DataFrame(COLUMNS).rename_axis("epoch").to_csv(tmp_path / "metrics.csv")
    found: list[Figure] = []
    make = training_plot.new_figure

    def remember(**values: Any) -> Figure:
        found.append(make(**values))
        return found[-1]

    monkeypatch.setattr(training_plot, "new_figure", remember)
    return found


def curves(figure: Figure) -> dict[str, list[float]]:
    lines = (line for axes in figure.axes for line in axes.lines if line.get_label() != "best epoch")
    return {str(line.get_label()): list(line.get_ydata()) for line in lines}


def marked(figure: Figure) -> set[float]:
    return {x for axes in figure.axes for line in axes.lines if line.get_label() == "best epoch" for x in line.get_xdata()}


@pytest.mark.parametrize(("monitor", "best"), [("val_dice", 1), ("val_iou", 2), ("val_loss", 0)])
def test_curves_are_those_of_the_table_with_the_best_epoch(
    tmp_path: Path, figures: list[Figure], monitor: str, best: int
) -> None:
    picture = draw_training(tmp_path, monitor, best)
    assert picture.shape[2] == 3
    assert picture.std() > 5
    assert curves(figures[0]) == COLUMNS
    assert marked(figures[0]) == {best}
    assert f"best epoch {best}: {monitor} {COLUMNS[monitor][best]:.4f}" in figures[0].get_suptitle()
    metrics = figures[0].axes[1].lines
    assert metrics[0].get_label() == (monitor if monitor != "val_loss" else "val_iou")


def test_each_stage_has_a_bar_from_its_first_epoch_on(tmp_path: Path, figures: list[Figure]) -> None:
    draw_training(tmp_path, "val_dice", 1, {"head": 0, "stage5": 1, "stage4": 7})
    stages = figures[0].axes[3]
    assert [text.get_text() for text in stages.get_yticklabels()] == ["head", "stage5", "stage4"]
    assert [(bar.get_x() + 0.5, bar.get_width()) for bar in stages.patches] == [(0, 3), (1, 2), (7, 0)]


@pytest.mark.parametrize("first_epochs", [{}, {"head": 0, "stage5": 0}])
def test_no_panel_of_stages_where_all_train_from_the_start(
    tmp_path: Path, figures: list[Figure], first_epochs: dict[str, int]
) -> None:
    draw_training(tmp_path, "val_dice", 1, first_epochs)
    assert len(figures[0].axes) == 3
