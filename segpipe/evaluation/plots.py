"""The four pictures of a classifier's test: confusion matrix, ROC, precision-recall and reliability.

Each takes a classifier's answers and the PNG to write.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from segpipe.diagnosis import full_name
from segpipe.evaluation.drawing import COLOURS, GREY, line_style, new_figure, save_figure, set_texts, set_unit_range, wrap_text
from segpipe.io.numerals import counted
from segpipe.metrics.classification import Answers, score_answers
from segpipe.metrics.reliability import expected_calibration_error, reliability_curve


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
