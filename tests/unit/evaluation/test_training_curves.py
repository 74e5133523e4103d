"""Plot of a training, drawn from its table of epochs."""

from pathlib import Path

import pandas as pd
import pytest

from segpipe.evaluation import training_curves
from segpipe.evaluation.training_curves import draw_training
from segpipe.io.images import read_image


@pytest.mark.parametrize(("monitor", "panels"), [("val_dice", 3), ("val_loss", 2)])
def test_plot_shows_losses_monitored_metric_and_learning_rate_of_each_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitor: str, panels: int
) -> None:
    columns = {"train_loss": [3.0, 2.0], "val_loss": [4.0, 5.0], "val_dice": [0.5, 0.75], "learning_rate": [0.1, 0.01]}
    pd.DataFrame(columns).rename_axis("epoch").to_csv(tmp_path / "metrics.csv")
    figures = []
    save = training_curves.save_figure
    monkeypatch.setattr(training_curves, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path)))
    draw_training(tmp_path, monitor=monitor, best_epoch=1)
    axes = figures[0].axes
    assert len(axes) == panels
    drawn = [line.get_ydata().tolist() for panel in axes for line in panel.lines if line.get_label() != "best epoch"]
    shown = ["train_loss", "val_loss", *(["val_dice"] if panels == 3 else []), "learning_rate"]
    assert drawn == [columns[name] for name in shown]
    assert all(panel.lines[-1].get_xdata() == [1, 1] for panel in axes)
    assert read_image(tmp_path / "plots" / "training.png").shape[2] == 3
