"""The choice beside the page: which models, whether a second one is compared, views and heatmap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import streamlit as st
from omegaconf import DictConfig

from segpipe.app.found_bundles import find_bundles
from segpipe.inference.settings import PipelineSettings
from segpipe.lesion.localizer import MaskSource
from segpipe.report.wording import printable

Value = TypeVar("Value")

SHIPPED = "shipped"
GIVEN = "given at the start"
NO_OTHER = "no other model"
_SHIPPED_ONLY = "The shipped ones. Trained models in the folder `outputs`, or in the one that `bundles=` names, are offered here."
_VIEWS_HELP = "Test-time augmentation: the answers on the crop as it is, flipped and turned are averaged. Slower, and steadier."
_HEATMAP_HELP = "Grad-CAM: which part of the crop counted most for the answer."


@dataclass(frozen=True)
class Model:
    """What a visitor chose to name lesions with.

    Attributes:
        label: of the classifier, on one line.
        settings: of its pipeline.
    """

    label: str
    settings: PipelineSettings


def choose_models(config: DictConfig) -> list[Model]:
    """Show the choice and return it: a model, or two to be compared."""
    start, found = PipelineSettings.of(config), find_bundles(config.bundles)
    classifiers = _options(None, start.classifier, {b.label: (b.folder,) for b in found if b.kind == "classifier"})
    segmenters = _options(None, start.segmenter, {b.label: b.folder for b in found if b.kind == "segmenter"})
    if start.localize != MaskSource.UNET:
        segmenters = {GIVEN: start.segmenter}  # none of them is asked
    with st.sidebar:
        st.subheader("Models")
        label = _choose("Classifier", list(classifiers))
        other = _choose("Compare with", [NO_OTHER, *(name for name in classifiers if name != label)])
        segmenter = _choose("Segmenter", list(segmenters))
        if len(classifiers) == len(segmenters) == 1:
            st.caption(_SHIPPED_ONLY)
        st.subheader("How")
        averaged = st.toggle("Average over views", start.tta != "none", key="averaged", help=_VIEWS_HELP)
        explained = st.toggle("Heatmap", start.explain != "none", key="explained", help=_HEATMAP_HELP)
    chosen = replace(
        start,
        segmenter=segmenters[segmenter],
        tta=(start.tta if start.tta != "none" else "d4") if averaged else "none",
        explain="gradcam" if explained else "none",
    )
    labels = [label] if other == NO_OTHER else [label, other]
    return [Model(printable(label), replace(chosen, classifier=classifiers[label])) for label in labels]


def _choose(title: str, options: Sequence[str]) -> str:
    """What a visitor chose; nothing is shown where there is no choice."""
    if len(options) == 1:
        return options[0]
    return st.selectbox(title, options, format_func=printable, key=title)


def _options(shipped: Value, given: Value, found: Mapping[str, Value]) -> dict[str, Value]:
    """What can be chosen, by its label; what the page was started with comes first."""
    first = {SHIPPED: shipped} if given == shipped else {GIVEN: given, SHIPPED: shipped}
    return first | {label: value for label, value in found.items() if value != given}
