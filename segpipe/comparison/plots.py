"""Plots of a comparison: ROC curves, metrics with intervals, performance against cost."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import offset_copy
from sklearn.metrics import roc_curve

from segpipe.comparison.table import METRICS, ComparedClassifier, Comparison, Estimate
from segpipe.evaluation.plots import GRAY, color_of, line_style, new_figure, save_figure, set_texts, set_unit_range, wrap_text
from segpipe.io.files import counted
from segpipe.metrics.classification import LabeledPredictions, score_predictions
from segpipe.types import FloatArray

_FALSE_POSITIVE_RATES = np.linspace(0, 1, 1001)
_HINTS = {"accuracy": "dotted: majority-class baseline", "ece": "lower is better"}
_LINE_LENGTH = 24  # characters of a title
_LINE_HEIGHT = 0.24  # inches of a line of a legend
_RATE_LABEL = "False positive rate (1 - specificity)"
_POINTS_APART = 10  # between classifiers of similar cost
_SIMILAR = 0.04  # fraction of the axis
_AREA_PER_MILLION, _SMALLEST_AREA = 12, 20  # of a marker, square points


def draw_roc(comparison: Comparison, path: Path) -> None:
    """Draw the ROC curves: mean over the classes, and melanoma."""
    classifiers, has_melanoma = comparison.classifiers, 0 < (comparison.melanomas or 0) < comparison.images
    figure = new_figure(width=6.6 * (1 + has_melanoma), height=7.6 + _LINE_HEIGHT * sum(map(_lines_of, classifiers)))
    panels = figure.subplots(1, 1 + has_melanoma, squeeze=False)[0]
    _draw_curves(panels[0], classifiers, [macro_roc(classifier.predictions) for classifier in classifiers], "macro_auroc")
    set_texts(panels[0], "Each diagnosis against the rest, mean", _RATE_LABEL, "Sensitivity")
    if has_melanoma:
        curves = [_roc(classifier.predictions, list(classifier.predictions.codes).index("mel")) for classifier in classifiers]
        _draw_curves(panels[1], classifiers, curves, "auroc_mel")
        set_texts(panels[1], f"Melanoma (n = {comparison.melanomas:,}) against the rest", _RATE_LABEL, "")
    figure.suptitle(f"ROC curves, n = {counted(comparison.images, 'image')}", fontsize=15)
    save_figure(figure, path)


def macro_roc(predictions: LabeledPredictions) -> FloatArray:
    """Compute the mean ROC curve over the classes.

    The area under it is the macro AUROC.

    Returns:
        Mean sensitivity at each of 1,001 false positive rates from 0 to 1, shape (1001,); NaN where no class has a curve.
    """
    classes = np.flatnonzero(predictions.has_auroc)
    curves = [_roc(predictions, int(index)) for index in classes] or [np.full_like(_FALSE_POSITIVE_RATES, np.nan)]
    return np.asarray(np.mean(curves, axis=0))


def draw_metrics(comparison: Comparison, path: Path) -> None:
    """Draw each metric of each classifier with its interval."""
    classifiers = comparison.classifiers
    titles = [wrap_text(classifier.title, _LINE_LENGTH) for classifier in classifiers]
    figure = new_figure(width=13.5, height=2 * (1.4 + 0.3 * sum(1 + title.count("\n") for title in titles)))
    panels = figure.subplots(2, 3, sharey=True).ravel()
    for axes, (name, title) in zip(panels, METRICS.items(), strict=True):
        for row, estimate in enumerate(classifier.metrics[name] for classifier in classifiers):
            if estimate["value"] is not None:
                look = {"color": color_of(row), "markersize": 8, "capsize": 4, "linewidth": 2}
                axes.errorbar(estimate["value"], row, xerr=_errors(estimate), fmt="o", **look)
        set_texts(axes, title, _HINTS.get(name, ""), "")
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.margins(x=0.12)
        axes.tick_params(axis="y", labelsize=11)
        if name == "accuracy":
            axes.axvline(comparison.majority_baseline, color=GRAY, linestyle=":")
    panels[0].set_yticks(range(len(classifiers)), titles)
    panels[0].set_ylim(len(classifiers) - 0.4, -0.6)
    figure.suptitle(f"95 % intervals over {comparison.interval_unit}s, n = {counted(comparison.images, 'image')}", fontsize=15)
    save_figure(figure, path)


def draw_cost(comparison: Comparison, path: Path) -> None:
    """Draw macro AUROC against cost; dot areas show the number of weights."""
    classifiers = comparison.classifiers
    gmacs = np.array([classifier.macs / 1e9 for classifier in classifiers])
    is_wide = gmacs.max() > 5 * gmacs.min()
    figure = new_figure(width=11.5, height=max(6.0, 1.5 + 2 * _LINE_HEIGHT * sum(map(_lines_of, classifiers))))
    axes = figure.add_subplot()
    if is_wide:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    shifts = _dodge(np.log(gmacs) if is_wide else gmacs)
    for number, (classifier, shift) in enumerate(zip(classifiers, shifts, strict=True)):
        estimate, millions = classifier.metrics["macro_auroc"], classifier.parameters / 1e6
        look = {
            "label": f"{wrap_text(classifier.title, _LINE_LENGTH)}\n{millions:.1f} million weights, {gmacs[number]:.2f} GMACs",
            "color": color_of(number),
            "markersize": np.sqrt(_SMALLEST_AREA + _AREA_PER_MILLION * millions),
            "linewidth": 2,
            "transform": offset_copy(axes.transData, figure, x=shift, units="points"),
        }
        if estimate["value"] is not None:
            axes.errorbar(gmacs[number], estimate["value"], yerr=_errors(estimate), fmt="o", **look)
            # Dots with an offset do not count for the range of the axes.
            axes.update_datalim([(gmacs[number], end) for end in estimate.values() if end is not None])
    set_texts(
        axes, "Performance against cost", "GMACs of one crop", f"Macro AUROC, 95 % interval over {comparison.interval_unit}s"
    )
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.margins(0.12)
    axes.autoscale_view()
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=11, labelspacing=1.0)
    save_figure(figure, path)


def _roc(predictions: LabeledPredictions, index: int) -> FloatArray:
    false_positive_rate, sensitivity, _ = roc_curve(predictions.labels == index, predictions.probs[:, index])
    return np.asarray(np.interp(_FALSE_POSITIVE_RATES, false_positive_rate, sensitivity))


def _draw_curves(axes: Axes, classifiers: Sequence[ComparedClassifier], curves: Sequence[FloatArray], area: str) -> None:
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", label="chance: AUROC 0.500")
    for number, (classifier, curve) in enumerate(zip(classifiers, curves, strict=True)):
        value = score_predictions(classifier.predictions)[area]
        text = "not scored" if value is None else f"AUROC {value:.3f}"
        # All curves start in the same corner.
        label = f"{wrap_text(classifier.title, 2 * _LINE_LENGTH)}: {text}"
        axes.plot([0, *_FALSE_POSITIVE_RATES], [0, *curve], label=label, **line_style(number))
    set_unit_range(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.12), frameon=False, fontsize=11)


def _errors(estimate: Estimate) -> list[list[float]] | None:
    """Compute the distances of the ends of the interval from the value."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    return None if value is None or low is None or high is None else [[value - low], [high - value]]


def _dodge(positions: FloatArray) -> FloatArray:
    """Compute offsets, in points, of dots that would hide each other."""
    order = np.argsort(positions, kind="stable")
    gaps = np.diff(positions[order]) > _SIMILAR * np.ptp(positions)
    shifts = np.zeros(len(positions))
    for group in np.split(order, np.flatnonzero(gaps) + 1):
        shifts[group] = _POINTS_APART * (np.arange(len(group)) - (len(group) - 1) / 2)
    return shifts


def _lines_of(classifier: ComparedClassifier) -> int:
    return 1 + wrap_text(classifier.title, _LINE_LENGTH).count("\n")
