"""Plots of the test of a classifier, and parts of all plots."""

import textwrap
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from segpipe.diagnosis import full_name
from segpipe.evaluation.run import Run
from segpipe.io.files import counted, write_file
from segpipe.io.images import read_mask
from segpipe.io.run_files import PLOT_FOLDER
from segpipe.metrics.calibration import expected_calibration_error, reliability_curve
from segpipe.metrics.classification import LabeledPredictions, score_predictions
from segpipe.report.overlays import PREDICTED_COLOR
from segpipe.report.plots import PAIR_HEADING, Panel, draw_panels, panel_of_pair
from segpipe.report.wording import name_with_code, percent

# Distinguishable with any color vision (arXiv 2107.02270); the dashes are for prints in gray.
COLORS = color_sequences["petroff8"]
DASHES = ("-", "--", "-.", ":")
GRAY = "0.45"
DOTS_PER_INCH = 160
CASES = 20  # worst cases that are drawn


def draw_confusion_matrix(predictions: LabeledPredictions, path: Path) -> None:
    """Draw the confusion matrix: counts, and fractions of each true diagnosis."""
    codes = predictions.codes
    counts = confusion_matrix(predictions.labels, predictions.predicted, labels=range(len(codes)))
    support = counts.sum(axis=1, keepdims=True)
    fractions = counts / np.maximum(support, 1)
    figure = new_figure(width=3.4 + 1.35 * len(codes), height=2.4 + 0.85 * len(codes))
    axes = figure.add_subplot()
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if fractions[row, column] > 0.6 else "black" if count else GRAY
        text = f"{fractions[row, column]:.0%}\n{count:,}" if support[row, 0] else "-"
        axes.text(column, row, text, color=color, ha="center", va="center", fontsize=12)
    axes.set_xticks(range(len(codes)), [_wrapped(code, 15) for code in codes])
    axes.set_yticks(range(len(codes)), [f"{_wrapped(code, 22)}\n(n = {n:,})" for code, (n,) in zip(codes, support, strict=True)])
    axes.tick_params(length=0, labelsize=11)
    axes.spines[:].set_visible(False)
    title = "Confusion matrix\nfraction of the true diagnosis, and number of images"
    set_texts(axes, title, "Predicted diagnosis", "True diagnosis")
    save_figure(figure, path)


def draw_roc_curves(predictions: LabeledPredictions, path: Path) -> None:
    """Draw the ROC curve of each diagnosis against the rest."""
    scores = score_predictions(predictions)
    figure = new_figure(width=11.5, height=6.5)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", label="chance: AUROC 0.50")
    for index, (code, line) in enumerate(_draw_empty_lines(axes, predictions.codes).items()):
        area = scores[f"auroc_{code}"]
        line.set_label(_curve_label(code, scores, "not scored" if area is None else f"AUROC {area:.2f}"))
        if area is not None:
            false_positive_rate, sensitivity, _ = roc_curve(predictions.labels == index, predictions.probs[:, index])
            line.set_data(false_positive_rate, sensitivity)
    title = _curves_title("ROC curves", "AUROC", scores["macro_auroc"], len(predictions.labels))
    _save_curves(figure, path, title, "False positive rate (1 - specificity)", "Sensitivity")


def draw_precision_recall_curves(predictions: LabeledPredictions, path: Path) -> None:
    """Draw the precision-recall curve of each diagnosis against the rest."""
    scores = score_predictions(predictions)
    figure = new_figure(width=11.5, height=6.5)
    axes = figure.add_subplot()
    for index, (code, line) in enumerate(_draw_empty_lines(axes, predictions.codes).items()):
        area, positive = scores[f"auprc_{code}"], predictions.labels == index
        text = "not scored" if area is None else f"AUPRC {area:.2f} (chance {positive.mean():.2f})"
        line.set_label(_curve_label(code, scores, text))
        if area is not None:
            precision, sensitivity, _ = precision_recall_curve(positive, predictions.probs[:, index])
            line.set_data(sensitivity, precision)
            line.set_drawstyle("steps-post")
    title = _curves_title("Precision-recall curves", "AUPRC", scores["macro_auprc"], len(predictions.labels))
    _save_curves(figure, path, title, "Recall (sensitivity)", "Precision (positive predictive value)")


def draw_reliability(predictions: LabeledPredictions, path: Path) -> None:
    """Draw accuracy against confidence, above the number of images."""
    correct = predictions.predicted == predictions.labels
    curve = reliability_curve(predictions.confidence, correct)
    filled = curve.counts > 0
    figure = new_figure(width=7.5, height=8)
    axes, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", label="perfect calibration")
    axes.vlines(curve.confidence[filled], curve.confidence[filled], curve.accuracy[filled], color=COLORS[1], label="gap")
    axes.plot(curve.confidence[filled], curve.accuracy[filled], "o-", color=COLORS[0], label="this model")
    error = expected_calibration_error(predictions.confidence, correct)
    title = f"Reliability\nexpected calibration error {error:.3f}, n = {counted(len(predictions.labels), 'image')}"
    set_texts(axes, title, "", "Accuracy")
    axes.legend(loc="upper left", frameon=False, fontsize=11)
    set_unit_range(axes)
    below.stairs(curve.counts, np.linspace(0, 1, len(curve.counts) + 1), fill=True, color=COLORS[0], alpha=0.6)
    set_texts(below, "", "Confidence (probability of the predicted class)", "Images")
    save_figure(figure, path)


def draw_worst_predictions(run: Run, scored: pd.DataFrame, predictions: LabeledPredictions) -> None:
    """Draw the images with the lowest probability of the true diagnosis.

    Args:
        run: Run with its image files; takes the picture, `plots/worst.png`.
        scored: Results that have a label.
        predictions: Predictions for the same images, in the same order.
    """
    p_true = predictions.probs[np.arange(len(predictions.labels)), predictions.labels]

    def panel(row: int) -> Panel:
        path, true, predicted = scored["path"].iloc[row], predictions.labels[row], predictions.predicted[row]
        return Panel(
            run.read_image(path),
            ((run.read_mask(path), PREDICTED_COLOR),),
            (
                Path(path).stem,
                f"true: {name_with_code(predictions.codes[true])} {percent(p_true[row])}",
                f"predicted: {name_with_code(predictions.codes[predicted])} {percent(predictions.confidence[row])}",
            ),
        )

    heading = "lowest probability of the true diagnosis; predicted outline in yellow"
    draw_panels(run.folder / PLOT_FOLDER / "worst.png", map(panel, _smallest(p_true)), heading=heading)


def draw_worst_masks(run: Run, scored: pd.DataFrame, true_masks: Mapping[str, Path], dices: NDArray[np.float64]) -> None:
    """Draw the images whose masks have the lowest Dice.

    Args:
        run: Run with its image files; takes the picture, `plots/worst_masks.png`.
        scored: Results that have a true mask.
        true_masks: File of each true mask by image id.
        dices: Dice of the same images, shape (N,), in the same order.
    """

    def panel(row: int) -> Panel:
        path, image_id, source = (scored[name].iloc[row] for name in ("path", "image_id", "mask_source"))
        title = f"{Path(path).stem}, Dice {dices[row]:.2f}, {source}"
        return panel_of_pair(run.read_image(path), run.read_mask(path), read_mask(true_masks[image_id]), title)

    heading = f"lowest Dice: {PAIR_HEADING}"
    draw_panels(run.folder / PLOT_FOLDER / "worst_masks.png", map(panel, _smallest(dices)), heading=heading)


def new_figure(*, width: float, height: float) -> Figure:
    """Make a figure outside pyplot, whose global state would leak memory.

    Args:
        width: Width in inches.
        height: Height in inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.supxlabel("segpipe - not a medical device", fontsize=8, color=GRAY)
    return figure


def color_of(index: int) -> Any:
    """Choose the color of a class or a run by its index."""
    return COLORS[index % len(COLORS)]


def line_style(index: int) -> dict[str, Any]:
    """Choose the line style of a class or run by its index."""
    return {"color": color_of(index), "linestyle": DASHES[index % len(DASHES)], "linewidth": 2.2}


def set_texts(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Write the title and the labels of the axes."""
    axes.set_title(title, fontsize=14)
    axes.set_xlabel(x_label, fontsize=13)
    axes.set_ylabel(y_label, fontsize=13)


def set_unit_range(axes: Axes) -> None:
    """Set the range of both axes to [0, 1], with a grid."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.grid(color="0.9")


def wrap_text(text: str, width: int) -> str:
    """Wrap a user-given name at `width` characters, without math markup."""
    # Matplotlib reads text between two dollar signs as a formula.
    return textwrap.fill(text, width).replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH)
    write_file(path, content.getvalue())


def _draw_empty_lines(axes: Axes, codes: Sequence[str]) -> dict[str, Line2D]:
    # A class without a curve is in the legend, too.
    return {code: axes.plot([], [], **line_style(i))[0] for i, code in enumerate(codes)}


def _wrapped(code: str, width: int) -> str:
    return wrap_text(full_name(code), width)


def _curve_label(code: str, scores: dict[str, float | None], area: str) -> str:
    return f"{_wrapped(code, 30)}\n{area}, n = {scores[f'support_{code}']:,}"


def _curves_title(name: str, area_name: str, area: float | None, images: int) -> str:
    mean = "" if area is None else f"macro {area_name} {area:.2f}, "
    return f"{name}\neach diagnosis against the rest: {mean}n = {counted(images, 'image')}"


def _save_curves(figure: Figure, path: Path, title: str, x_label: str, y_label: str) -> None:
    (axes,) = figure.axes
    set_texts(axes, title, x_label, y_label)
    set_unit_range(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=11, labelspacing=0.8)
    save_figure(figure, path)


def _smallest(values: NDArray[np.float64]) -> list[int]:
    return [int(row) for row in np.argsort(values, kind="stable")[:CASES]]
