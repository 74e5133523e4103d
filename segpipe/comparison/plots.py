"""Three pictures of classifiers side by side: ROC curves, figures with their intervals, and what better answers cost."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import offset_copy
from sklearn.metrics import roc_curve

from segpipe.comparison.table import METRICS, Comparison, Entry
from segpipe.comparison.table import Figure as Estimate
from segpipe.evaluation.plots import GREY, colour_of, line_style, new_figure, save_figure, set_texts, set_unit_range, wrap_text
from segpipe.io.numerals import counted
from segpipe.metrics.classification import Answers, score_answers
from segpipe.types import FloatArray

_FALSE_ALARMS = np.linspace(0, 1, 1001)
_HINTS = {"accuracy": "dotted: the commonest class alone", "ece": "less is better"}
_LETTERS = 24  # of a title in one line
_LINE = 0.24  # inches that a line of a legend takes
_POINTS_APART = 10  # between classifiers of nearly the same cost
_NEARLY_THE_SAME = 0.04  # of the axis
_AREA_PER_MILLION, _SMALLEST_AREA = 12, 20  # of a marker, square points


def draw_roc(comparison: Comparison, path: Path) -> None:
    """Show the ROC curve of each classifier: the mean over the classes, and beside it melanoma against the rest."""
    entries, has_melanoma = comparison.entries, 0 < (comparison.melanomas or 0) < comparison.images
    figure = new_figure(width=6.6 * (1 + has_melanoma), height=7.6 + _LINE * sum(map(_lines_of, entries)))
    panels = figure.subplots(1, 1 + has_melanoma, squeeze=False)[0]
    _draw_curves(panels[0], entries, [macro_roc(entry.answers) for entry in entries], "macro_auroc")
    set_texts(panels[0], "Each diagnosis against the rest, mean", "False alarms (1 - specificity)", "Sensitivity")
    if has_melanoma:
        curves = [_roc(entry.answers, list(entry.answers.codes).index("mel")) for entry in entries]
        _draw_curves(panels[1], entries, curves, "auroc_mel")
        set_texts(panels[1], f"Melanoma (n = {comparison.melanomas:,}) against the rest", "False alarms (1 - specificity)", "")
    figure.suptitle(f"ROC curves, n = {counted(comparison.images, 'image')}", fontsize=15)
    save_figure(figure, path)


def macro_roc(answers: Answers) -> FloatArray:
    """The mean sensitivity over the classes at each of 1,001 rates of false alarms from 0 to 1; its area is the macro AUROC.

    Returns:
        Shape (1001,); nan where no class has a curve.
    """
    ranked = np.flatnonzero(answers.ranked)
    curves = [_roc(answers, int(index)) for index in ranked] or [np.full_like(_FALSE_ALARMS, np.nan)]
    return np.asarray(np.mean(curves, axis=0))


def _roc(answers: Answers, index: int) -> FloatArray:
    false_alarms, sensitivity, _ = roc_curve(answers.labels == index, answers.probs[:, index])
    return np.asarray(np.interp(_FALSE_ALARMS, false_alarms, sensitivity))


def _draw_curves(axes: Axes, entries: Sequence[Entry], curves: Sequence[FloatArray], area: str) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance: AUROC 0.500")
    for number, (entry, curve) in enumerate(zip(entries, curves, strict=True)):
        value = score_answers(entry.answers)[area]
        text = "not scored" if value is None else f"AUROC {value:.3f}"
        # The curves start at a corner that all of them share.
        axes.plot([0, *_FALSE_ALARMS], [0, *curve], label=f"{wrap_text(entry.title, 2 * _LETTERS)}: {text}", **line_style(number))
    set_unit_range(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.12), frameon=False, fontsize=11)


def draw_metrics(comparison: Comparison, path: Path) -> None:
    """Show each metric of each classifier as a dot with its interval; the best classifier by macro AUROC stands at the top."""
    entries = comparison.entries
    titles = [wrap_text(entry.title, _LETTERS) for entry in entries]
    picture = new_figure(width=13.5, height=2 * (1.4 + 0.3 * sum(1 + title.count("\n") for title in titles)))
    panels = picture.subplots(2, 3, sharey=True).ravel()
    for axes, (name, title) in zip(panels, METRICS.items(), strict=True):
        for row, figure in enumerate(entry.figures[name] for entry in entries):
            if figure["value"] is not None:
                look = {"color": colour_of(row), "markersize": 8, "capsize": 4, "linewidth": 2}
                axes.errorbar(figure["value"], row, xerr=_errors(figure), fmt="o", **look)
        set_texts(axes, title, _HINTS.get(name, ""), "")
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.margins(x=0.12)
        axes.tick_params(axis="y", labelsize=11)
        if name == "accuracy":
            axes.axvline(comparison.majority_baseline, color=GREY, linestyle=":")
    panels[0].set_yticks(range(len(entries)), titles)
    panels[0].set_ylim(len(entries) - 0.4, -0.6)
    picture.suptitle(f"95 % intervals over {comparison.interval_unit}s, n = {counted(comparison.images, 'image')}", fontsize=15)
    save_figure(picture, path)


def draw_cost(comparison: Comparison, path: Path) -> None:
    """Show macro AUROC with its interval against the work for one crop; the area of a dot is that of the weights."""
    entries = comparison.entries
    gmacs = np.array([entry.macs / 1e9 for entry in entries])
    is_wide = gmacs.max() > 5 * gmacs.min()
    picture = new_figure(width=11.5, height=max(6.0, 1.5 + 2 * _LINE * sum(map(_lines_of, entries))))
    axes = picture.add_subplot()
    if is_wide:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    shifts = _steps_aside(np.log(gmacs) if is_wide else gmacs)
    for number, (entry, shift) in enumerate(zip(entries, shifts, strict=True)):
        figure, millions = entry.figures["macro_auroc"], entry.parameters / 1e6
        look = {
            "label": f"{wrap_text(entry.title, _LETTERS)}\n{millions:.1f} million weights, {gmacs[number]:.2f} GMACs",
            "color": colour_of(number),
            "markersize": np.sqrt(_SMALLEST_AREA + _AREA_PER_MILLION * millions),
            "linewidth": 2,
            "transform": offset_copy(axes.transData, picture, x=shift, units="points"),
        }
        if figure["value"] is not None:
            axes.errorbar(gmacs[number], figure["value"], yerr=_errors(figure), fmt="o", **look)
            # What is drawn with an offset does not count for the range of the axes.
            axes.update_datalim([(gmacs[number], end) for end in figure.values() if end is not None])
    set_texts(
        axes, "What better answers cost", "GMACs of one crop", f"Macro AUROC, 95 % interval over {comparison.interval_unit}s"
    )
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.margins(0.12)
    axes.autoscale_view()
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=11, labelspacing=1.0)
    save_figure(picture, path)


def _errors(figure: Estimate) -> list[list[float]] | None:
    """How far the interval reaches below and above the figure."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    return None if value is None or low is None or high is None else [[value - low], [high - value]]


def _steps_aside(places: FloatArray) -> FloatArray:
    """Points by which each dot steps aside, so that it does not hide others at nearly the same place of the axis."""
    order = np.argsort(places, kind="stable")
    gaps = np.diff(places[order]) > _NEARLY_THE_SAME * np.ptp(places)
    shifts = np.zeros(len(places))
    for group in np.split(order, np.flatnonzero(gaps) + 1):
        shifts[group] = _POINTS_APART * (np.arange(len(group)) - (len(group) - 1) / 2)
    return shifts


def _lines_of(entry: Entry) -> int:
    return 1 + wrap_text(entry.title, _LETTERS).count("\n")
