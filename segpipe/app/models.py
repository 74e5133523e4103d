"""Choice of the models, and the pipelines that all visitors share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import streamlit as st

from segpipe.app import bundles
from segpipe.app.analysis import NETWORK_THREAD
from segpipe.app.bundles import FoundBundle, weights_mtime
from segpipe.inference.resources import gc_paused
from segpipe.inference.settings import PipelineSettings
from segpipe.language import translate
from segpipe.lesion.localization import MaskSource
from segpipe.report.wording import printable

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline

Value = TypeVar("Value")

MAX_PIPELINES = 8  # kept loaded, about 40 MiB each

SHIPPED, STARTED_WITH, NO_COMPARISON = "shipped", "from the command line", "none"
_SHIPPED_ONLY = "Only the shipped models were found. Models in the folder `outputs`, or in that of `bundles=`, appear here."
_VIEWS_HELP = "Average the predictions over flipped and rotated views of the crop. Slower, but more stable."
_HEATMAP_HELP = "Grad-CAM: regions of the crop that contributed most to the prediction."


@dataclass(frozen=True)
class Model:
    """A chosen model.

    Attributes:
        label: Name of the classifier on one line.
        settings: Settings of its pipeline.
    """

    label: str
    settings: PipelineSettings


def choose_models(start: PipelineSettings, folder: str | None) -> list[Model]:
    """Show the settings and return the chosen model, or two to compare.

    Args:
        start: Settings of the command line.
        folder: Folder with further bundles; None for the default.
    """
    found = _find_bundles(folder)
    classifiers = _options(None, start.classifier, {b.label: (b.folder,) for b in found if b.kind == "classifier"})
    segmenters = _options(None, start.segmenter, {b.label: b.folder for b in found if b.kind == "segmenter"})
    if start.localize != MaskSource.UNET:
        segmenters = {STARTED_WITH: start.segmenter}  # not used
    with st.expander(translate("Settings"), key="settings"):
        averaged = st.toggle(
            translate("Test-time augmentation"), start.tta != "none", key="averaged", help=translate(_VIEWS_HELP)
        )
        explained = st.toggle(translate("Heatmap"), start.explain != "none", key="explained", help=translate(_HEATMAP_HELP))
        label = _choose("Classifier", list(classifiers))
        other = _choose("Compare with", [NO_COMPARISON, *(name for name in classifiers if name != label)])
        segmenter = _choose("Segmenter", list(segmenters))
        if len(classifiers) == len(segmenters) == 1:
            st.caption(translate(_SHIPPED_ONLY))
    chosen = replace(
        start,
        segmenter=segmenters[segmenter],
        tta=(start.tta if start.tta != "none" else "d4") if averaged else "none",
        explain="gradcam" if explained else "none",
    )
    labels = [label] if other == NO_COMPARISON else [label, other]
    return [Model(_label(name), replace(chosen, classifier=classifiers[name])) for name in labels]


@st.cache_data(ttl=20, max_entries=1, show_spinner=False)
def _find_bundles(folder: str | None) -> list[FoundBundle]:
    return bundles.find_bundles(folder)


def _options(shipped: Value, started_with: Value, found: Mapping[str, Value]) -> dict[str, Value]:
    """Options by their label, beginning with those of the command line."""
    first = {SHIPPED: shipped} if started_with == shipped else {STARTED_WITH: started_with, SHIPPED: shipped}
    return first | {label: value for label, value in found.items() if value != started_with}


def _choose(title: str, options: Sequence[str]) -> str:
    """Show a selection; a single option is chosen without one."""
    if len(options) == 1:
        return options[0]
    return st.selectbox(translate(title), options, format_func=_label, key=title)


def _label(option: str) -> str:
    return translate(option) if option in (SHIPPED, STARTED_WITH, NO_COMPARISON) else printable(option)


def get_pipeline(settings: PipelineSettings) -> "Pipeline":
    """Return the shared pipeline, reloaded when a bundle changes.

    Raises:
        BundleError: See `segpipe.inference.loading.load_pipeline`.
        ConfigError: See `segpipe.inference.loading.load_pipeline`.
    """
    folders = [folder for folder in (settings.segmenter, *(settings.classifier or ())) if folder is not None]
    with st.spinner(translate("Getting ready")):
        return _get_pipeline(settings, tuple(weights_mtime(folder) for folder in folders))


@st.cache_resource(max_entries=MAX_PIPELINES, show_spinner=False)
def _get_pipeline(settings: PipelineSettings, mtimes: tuple[int, ...]) -> "Pipeline":
    del mtimes  # part of the key of the cache
    return NETWORK_THREAD.submit(_load, settings).result()


def _load(settings: PipelineSettings) -> "Pipeline":
    _import_networks()
    from segpipe.inference.loading import load_pipeline

    pipeline = load_pipeline(**vars(settings))
    # Warm-up: the first image takes longer than others.
    pipeline([np.zeros((pipeline.least_side, pipeline.least_side, 3), dtype=np.uint8)])
    return pipeline


@cache
def _import_networks() -> None:
    """Import large modules once, without tracking by the garbage collector."""
    # Streamlit runs the collector after each click.
    with gc_paused():
        import segpipe.inference.loading  # noqa: F401
