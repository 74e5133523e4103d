"""Page on the quality of the models: test plots, metrics, model cards."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from PIL import Image

from segpipe.app.bundles import find_plots, weights_mtime
from segpipe.app.models import Model
from segpipe.app.parts import literal, render
from segpipe.language import localize_number, translate
from segpipe.report.wording import capitalized, percent, target_name

if TYPE_CHECKING:
    from segpipe.bundle.card import ClassifierCard

_INTRODUCTION = (
    "Measured on lesions that the models had never seen. Expect less with other cameras, skin types and kinds of lesions; most "
    "lesions are harmless, so accuracy alone says little."
)

PLOT_HEIGHT = 250  # pixels
_NAMED = {"balanced_accuracy": "balanced accuracy", "macro_auroc": "macro AUROC"}
_DECIMAL = ("macro AUROC", "mean Dice of the outlines")  # not as percentages


def show_performance(models: Sequence[Model]) -> None:
    """Show test plots, metrics and model cards of the chosen models."""
    st.title(translate("How good is it?"), anchor=False)
    containers = [st.container()] if len(models) == 1 else st.tabs([literal(model.label) for model in models])
    for container, model in zip(containers, models, strict=True):
        with container:
            _show_model(model)


def _show_model(model: Model) -> None:
    from segpipe.bundle.card_file import SHIPPED

    settings = model.settings
    for classifier in settings.classifier or (str(SHIPPED / "classifier"),):
        segmenter = settings.segmenter or str(SHIPPED / "segmenter")
        tiles, text = _read_cards(segmenter, classifier, (weights_mtime(segmenter), weights_mtime(classifier)))
        plots = find_plots(Path(classifier))
        if not plots:
            st.info(translate("No test plots are available for this model. The metrics below are from its card."))
        with st.container(horizontal=True):
            for title, path in plots.items():
                _show_plot(translate(title), path)
            with st.container(width="stretch"):
                st.write(translate(_INTRODUCTION))
                if tiles:
                    st.html(render("tiles", tiles=[_tile(*values) for values in tiles]))
        with st.expander(translate("All numbers: the model card")):
            st.markdown(text)


def _show_plot(title: str, path: Path) -> None:
    """Show a plot; all have the same height."""
    with Image.open(path) as image:
        width, height = image.size
    with st.container(width=round(PLOT_HEIGHT * width / height)):
        st.image(path.read_bytes(), width="stretch", alt=title)
        st.caption(title)


def _tile(kind: str, name: str, value: dict[str, float]) -> tuple[str, str, str]:
    """Label, value and interval of a metric in the current language."""
    target = capitalized(target_name(name)) if kind != "metric" else ""
    labels = {
        "sensitivity": translate("{target}: flagged where present", target=target),
        "specificity": translate("{target}: not flagged where absent", target=target),
        "metric": capitalized(translate(name)),
    }
    write = _decimal if name in _DECIMAL else percent
    interval = translate("{low} to {high}", low=write(value["low"]), high=write(value["high"]))
    return labels[kind], write(value["value"]), interval


def _decimal(value: float) -> str:
    return localize_number(f"{value:.3f}")


@st.cache_data(max_entries=20, show_spinner=False)
def _read_cards(segmenter: str, classifier: str, mtimes: tuple[int, ...]) -> tuple[list[tuple[str, str, dict[str, float]]], str]:
    """Read metrics for the tiles, and the model card as Markdown."""
    del mtimes  # part of the key of the cache
    from segpipe.bundle.card import ClassifierCard, SegmenterCard
    from segpipe.bundle.card_file import read_model
    from segpipe.release.model_card import model_card

    model = read_model(Path(classifier), "classifier", ClassifierCard)
    if "metrics" not in model.card.metrics:
        return [], "The card of this classifier has no test metrics."
    segmenter_model = read_model(Path(segmenter), "segmenter", SegmenterCard)
    sections = "## " + model_card(segmenter_model, model).partition("\n## ")[2]
    # A foreign card could contain a picture, which would be requested from another server.
    return _choose_metrics(model.card), sections.replace("![", r"\!\[")


def _choose_metrics(card: "ClassifierCard") -> list[tuple[str, str, dict[str, float]]]:
    """Kind, name and value of each metric of the tiles."""
    chosen: list[tuple[str, str, Any]] = [
        (kind, point.target, point.test[kind])
        for point in card.operating_points
        for kind in ("sensitivity", "specificity")
        if point.test and kind in point.test
    ]
    metrics, outlines = card.metrics["metrics"], card.metrics.get("localizer", {}).get("metrics", {})
    chosen += [("metric", title, metrics[name]) for name, title in _NAMED.items() if name in metrics]
    chosen += [("metric", "mean Dice of the outlines", outlines["dice"])] if "dice" in outlines else []
    return [(kind, name, score) for kind, name, score in chosen if None not in (score["value"], score["low"], score["high"])]
