"""Plot of the metrics of a training over its epochs."""

from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator

from segpipe.evaluation.plots import GRAY, line_style, new_figure, save_figure, set_texts
from segpipe.io.run_files import EPOCH_TABLE, TRAINING_PLOT

_LOSSES = {"train_loss": "training", "val_loss": "validation"}


def draw_training(output: Path, *, monitor: str, best_epoch: int) -> None:
    """Draw loss, monitored metric and learning rate over the epochs.

    Args:
        output: Folder of the training, with `metrics.csv`; the plot is written into it.
        monitor: Metric that chose the best epoch.
        best_epoch: Epoch whose weights were kept, counted from 0; it is marked in the plot.
    """
    table = pd.read_csv(output / EPOCH_TABLE, index_col="epoch")
    monitored = {} if monitor in _LOSSES else {monitor: {monitor: monitor}}
    panels = {"Loss": _LOSSES, **monitored, "Learning rate": {"learning_rate": "learning rate"}}
    figure = new_figure(width=8.5, height=3.3 * len(panels))
    rows = figure.subplots(len(panels), sharex=True)
    for axes, (title, lines) in zip(rows, panels.items(), strict=True):
        for index, (name, label) in enumerate(lines.items()):
            axes.plot(table.index, table[name], marker="o", markersize=4, label=label, **line_style(index))
        axes.axvline(best_epoch, color=GRAY, linestyle=":", label="best epoch")
        axes.grid(color="0.9")
        set_texts(axes, "", "", title)
    rows[0].legend(frameon=False, fontsize=11)
    rows[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    set_texts(rows[0], f"Training, best epoch {best_epoch} by {monitor}", "", "Loss")
    set_texts(rows[-1], "", "Epoch", "Learning rate")
    save_figure(figure, output / TRAINING_PLOT)
