"""Plot of the epochs of a training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from segpipe.evaluation.plots import GRAY, color_of, line_style, new_figure, set_texts
from segpipe.io.run_files import EPOCH_TABLE
from segpipe.types import RgbImage

_LOSSES = ("train_loss", "val_loss")
_DOTS_PER_INCH = 110
_LARGE_RANGE = 20  # largest loss by the median one, from which the axis is logarithmic


def draw_training(output: Path, monitor: str, best: int, first_epochs: Mapping[str, int] = {}) -> RgbImage:
    """Draw losses, metrics, learning rate and unfreezing over the epochs.

    Args:
        output: Folder of the training, with `metrics.csv`.
        monitor: Metric that chooses the best epoch.
        best: Best epoch so far, counted from 0.
        first_epochs: First epoch of each stage, the head first; empty for a model without stages.
    """
    table = pd.read_csv(output / EPOCH_TABLE, index_col="epoch")
    last = int(table.index[-1])
    metrics = [name for name in table.columns if name.startswith("val_") and name not in _LOSSES]
    progressive = any(first_epochs.values())
    figure = new_figure(width=11, height=7)
    panels = figure.subplot_mosaic([["losses", "metrics"], ["rate", "stages" if progressive else "rate"]])
    _draw_lines(panels["losses"], table, _LOSSES, "Loss")
    losses = table[[*_LOSSES]].to_numpy(dtype=np.float64)
    if np.nanmax(losses) > _LARGE_RANGE * np.nanmedian(losses) > 0:
        panels["losses"].set_yscale("log")
    _draw_lines(panels["metrics"], table, sorted(metrics, key=lambda name: name != monitor), "Metrics of the validation images")
    _draw_lines(panels["rate"], table, ["learning_rate"], "Largest learning rate")
    if progressive:
        _draw_stages(panels["stages"], first_epochs, last=last)
    for axes in panels.values():
        axes.axvline(best, color=GRAY, linestyle=":", label="best epoch", zorder=1)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.set_xlim(-0.5, last + 0.5)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("Epoch")
    # Fixed corners, because matplotlib's own choice takes long.
    panels["losses"].legend(frameon=False, fontsize=9, loc="upper right")
    panels["metrics"].legend(frameon=False, fontsize=9, loc="lower right")
    figure.suptitle(f"Training up to epoch {last}; best epoch {best}: {monitor} {table[monitor][best]:.4f}", fontsize=14)
    figure.set_dpi(_DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(pixels[..., :3])


def _draw_lines(axes: Axes, table: pd.DataFrame, names: Sequence[str], title: str) -> None:
    for index, name in enumerate(names):
        axes.plot(table.index, table[name], marker="o", markersize=4, label=name, **line_style(index))
    set_texts(axes, title, "", "")


def _draw_stages(axes: Axes, first_epochs: Mapping[str, int], *, last: int) -> None:
    """Draw a bar for each stage, from its first epoch on."""
    for row, first in enumerate(first_epochs.values()):
        axes.barh(row, max(0, last + 1 - first), left=first - 0.5, height=0.6, color=color_of(0), alpha=0.6)
    axes.set_yticks(range(len(first_epochs)), list(first_epochs))
    axes.invert_yaxis()
    set_texts(axes, "Trained stages", "", "")
