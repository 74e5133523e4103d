"""The four pictures of a classifier's test: confusion matrix, ROC, precision-recall and reliability.

Each takes a classifier's answers and the PNG to write.
"""

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
from segpipe.io.images import read_mask, write_file
from segpipe.io.numerals import counted
from segpipe.metrics.calibration import expected_calibration_error, reliability_curve
from segpipe.metrics.classification import Answers, score_answers
from segpipe.report.masks import FOUND_COLOUR, PAIR_HEADING, Panel, draw_panels, panel_of_pair
from segpipe.report.wording import name_with_code, percent

# Told apart with any colour vision (arXiv 2107.02270); the dashes come on top, for prints in grey.
COLOURS = color_sequences["petroff8"]
DASHES = ("-", "--", "-.", ":")
GREY = "0.45"
DOTS_PER_INCH = 160


def new_figure(*, width: float, height: float) -> Figure:
    """A figure outside pyplot, whose global state would leak memory over many runs; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.supxlabel("segpipe - not a medical device", fontsize=8, color=GREY)
    return figure


def colour_of(index: int) -> Any:
    """The colour of the class or run of this index."""
    return COLOURS[index % len(COLOURS)]


def line_style(index: int) -> dict[str, Any]:
    """How the line of the class or run of this index looks."""
    return {"color": colour_of(index), "linestyle": DASHES[index % len(DASHES)], "linewidth": 2.2}


def set_texts(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Write the title and the labels of the axes."""
    axes.set_title(title, fontsize=14)
    axes.set_xlabel(x_label, fontsize=13)
    axes.set_ylabel(y_label, fontsize=13)


def set_unit_range(axes: Axes) -> None:
    """Let both axes run from 0 to 1, with a grid."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.grid(color="0.9")


def wrap_text(text: str, width: int) -> str:
    """Break a name that users gave into lines of `width` letters, for matplotlib to show as it is."""
    # What stands between two dollar signs would be read as a formula.
    return textwrap.fill(text, width).replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH)
    write_file(path, content.getvalue())


def draw_confusion_matrix(answers: Answers, path: Path) -> None:
    """Show which diagnosis was taken for which: counts, and shares of each true diagnosis."""
    codes = answers.codes
    counts = confusion_matrix(answers.labels, answers.chosen, labels=range(len(codes)))
    support = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(support, 1)
    figure = new_figure(width=3.4 + 1.35 * len(codes), height=2.4 + 0.85 * len(codes))
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.6 else "black" if count else GREY
        text = f"{shares[row, column]:.0%}\n{count:,}" if support[row, 0] else "-"
        axes.text(column, row, text, color=colour, ha="center", va="center", fontsize=12)
    images = support[:, 0].tolist()
    axes.set_xticks(range(len(codes)), [_wrapped(code, 15) for code in codes])
    axes.set_yticks(range(len(codes)), [f"{_wrapped(code, 22)}\n(n = {n:,})" for code, n in zip(codes, images, strict=True)])
    axes.tick_params(length=0, labelsize=11)
    axes.spines[:].set_visible(False)
    set_texts(axes, "Confusion matrix\nshare of the true diagnosis, and images", "Predicted diagnosis", "True diagnosis")
    save_figure(figure, path)


def draw_roc_curves(answers: Answers, path: Path) -> None:
    """Show sensitivity against false alarms for each diagnosis against the rest, with the AUROC in the legend."""
    scores = score_answers(answers)
    figure = new_figure(width=11.5, height=6.5)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance: AUROC 0.50")
    for index, (code, line) in enumerate(_draw_empty_lines(axes, answers.codes).items()):
        area = scores[f"auroc_{code}"]
        line.set_label(_curve_label(code, scores, "not scored" if area is None else f"AUROC {area:.2f}"))
        if area is not None:
            false_alarms, sensitivity, _ = roc_curve(answers.labels == index, answers.probs[:, index])
            line.set_data(false_alarms, sensitivity)
    title = _curves_title("ROC curves", "AUROC", scores["macro_auroc"], len(answers.labels))
    set_texts(axes, title, "False alarms (1 - specificity)", "Sensitivity")
    _finish_curves(axes)
    save_figure(figure, path)


def draw_precision_recall_curves(answers: Answers, path: Path) -> None:
    """Show precision against sensitivity for each diagnosis against the rest, with the AUPRC and chance in the legend."""
    scores = score_answers(answers)
    figure = new_figure(width=11.5, height=6.5)
    axes = figure.add_subplot()
    for index, (code, line) in enumerate(_draw_empty_lines(axes, answers.codes).items()):
        area, positive = scores[f"auprc_{code}"], answers.labels == index
        text = "not scored" if area is None else f"AUPRC {area:.2f} (chance {positive.mean():.2f})"
        line.set_label(_curve_label(code, scores, text))
        if area is not None:
            precision, sensitivity, _ = precision_recall_curve(positive, answers.probs[:, index])
            line.set_data(sensitivity, precision)
            line.set_drawstyle("steps-post")
    title = _curves_title("Precision-recall curves", "AUPRC", scores["macro_auprc"], len(answers.labels))
    set_texts(axes, title, "Recall (sensitivity)", "Precision (positive predictive value)")
    _finish_curves(axes)
    save_figure(figure, path)


def draw_reliability(answers: Answers, path: Path) -> None:
    """Show how often an answer of a given confidence is right, above how many images have that confidence."""
    correct = answers.chosen == answers.labels
    curve = reliability_curve(answers.confidence, correct)
    filled = curve.counts > 0
    figure = new_figure(width=7.5, height=8)
    axes, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as sure as it is right")
    axes.vlines(curve.confidence[filled], curve.confidence[filled], curve.accuracy[filled], color=COLOURS[1], label="gap")
    axes.plot(curve.confidence[filled], curve.accuracy[filled], "o-", color=COLOURS[0], label="this model")
    error = expected_calibration_error(answers.confidence, correct)
    title = f"Reliability\nexpected calibration error {error:.3f}, n = {counted(len(answers.labels), 'image')}"
    set_texts(axes, title, "", "Share of right answers")
    axes.legend(loc="upper left", frameon=False, fontsize=11)
    set_unit_range(axes)
    below.stairs(curve.counts, np.linspace(0, 1, len(curve.counts) + 1), fill=True, color=COLOURS[0], alpha=0.6)
    set_texts(below, "", "Confidence (probability of the answer)", "Images")
    save_figure(figure, path)


def _draw_empty_lines(axes: Axes, codes: Sequence[str]) -> dict[str, Line2D]:
    """One line per class, empty until it gets data, so that a class without a curve still stands in the legend."""
    return {code: axes.plot([], [], **line_style(i))[0] for i, code in enumerate(codes)}


def _wrapped(code: str, width: int) -> str:
    return wrap_text(full_name(code), width)


def _curve_label(code: str, scores: dict[str, float | None], area: str) -> str:
    return f"{_wrapped(code, 30)}\n{area}, n = {scores[f'support_{code}']:,}"


def _curves_title(name: str, area_name: str, area: float | None, images: int) -> str:
    mean = "" if area is None else f"macro {area_name} {area:.2f}, "
    return f"{name}\neach diagnosis against the rest: {mean}n = {counted(images, 'image')}"


def _finish_curves(axes: Axes) -> None:
    set_unit_range(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=11, labelspacing=0.8)


CASES = 20


def draw_worst_answers(run: Run, scored: pd.DataFrame, answers: Answers) -> None:
    """Draw the images whose true diagnosis got the smallest probability, into `plots/worst.png`.

    Args:
        run: with the photographs.
        scored: its results that have a label.
        answers: for the same images, in the same order.
    """
    p_true = answers.probs[np.arange(len(answers.labels)), answers.labels]

    def panel(row: int) -> Panel:
        path, true, chosen = scored["path"].iloc[row], answers.labels[row], answers.chosen[row]
        return Panel(
            run.photograph(path),
            ((run.mask(path), FOUND_COLOUR),),
            (
                Path(scored["path"].iloc[row]).stem,
                f"true: {name_with_code(answers.codes[true])} {percent(p_true[row])}",
                f"answer: {name_with_code(answers.codes[chosen])} {percent(answers.confidence[row])}",
            ),
        )

    heading = "where the true diagnosis got the smallest probability; found outline in yellow"
    draw_panels(run.folder / "plots" / "worst.png", map(panel, _smallest(p_true)), heading=heading)


def draw_worst_masks(run: Run, scored: pd.DataFrame, true_masks: Mapping[str, Path], dices: NDArray[np.float64]) -> None:
    """Draw the images whose mask has the smallest Dice, into `plots/worst_masks.png`.

    Args:
        run: with the photographs.
        scored: its results that have a true mask.
        true_masks: file of each by image id.
        dices: of the same images, shape (N,), in the same order.
    """

    def panel(row: int) -> Panel:
        path, image_id, source = (scored[name].iloc[row] for name in ("path", "image_id", "mask_source"))
        title = f"{Path(path).stem}, Dice {dices[row]:.2f}, {source}"
        return panel_of_pair(run.photograph(path), run.mask(path), read_mask(true_masks[image_id]), title)

    heading = f"where the mask has the smallest Dice: {PAIR_HEADING}"
    draw_panels(run.folder / "plots" / "worst_masks.png", map(panel, _smallest(dices)), heading=heading)


def _smallest(values: NDArray[np.float64]) -> list[int]:
    return [int(row) for row in np.argsort(values, kind="stable")[:CASES]]
