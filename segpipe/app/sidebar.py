"""The choice beside the page: which models, whether a second one is compared, views and heatmap."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import streamlit as st
from omegaconf import DictConfig

from segpipe.inference.settings import PipelineSettings
from segpipe.io.strict_json import read_json
from segpipe.lesion.localizer import MaskSource
from segpipe.report.wording import printable
from segpipe.runs.journal import JOURNAL

OUTPUTS = Path("outputs")  # where trainings write by default
CARD, WEIGHTS = "card.json", "model.safetensors"  # as in segpipe.bundle.folder, which takes seconds to import


@dataclass(frozen=True)
class FoundBundle:
    """A trained model below the searched folder.

    Attributes:
        kind: `segmenter` or `classifier`.
        label: what to call it: its folder, relative to the searched one, and the network.
        folder: where it lies.
    """

    kind: str
    label: str
    folder: str


@st.cache_data(ttl=20, max_entries=1, show_spinner=False)
def find_bundles(folder: str | None) -> list[FoundBundle]:
    """The trained models below a folder, sorted by label; None looks into `OUTPUTS`, if it is there."""
    return sorted(_bundles_below(Path(folder or OUTPUTS)), key=lambda bundle: bundle.label)


def age_of(folder: str) -> int:
    """When the weights of a bundle were written, in nanoseconds; 0 where they are gone."""
    try:
        return Path(folder, WEIGHTS).stat().st_mtime_ns
    except OSError:
        return 0


def _bundles_below(root: Path) -> Iterator[FoundBundle]:
    for folder, folders, names in os.walk(root):
        if {CARD, WEIGHTS} <= set(names):
            found = _describe(Path(folder, CARD), Path(folder).relative_to(root).as_posix())
            if found is not None:
                yield found
        # Below the results of a run over images lie its pictures, by the thousand.
        folders[:] = [] if JOURNAL in names else [name for name in folders if not name.startswith(".")]


def _describe(card: Path, place: str) -> FoundBundle | None:
    """What a card says that it is of; None where it says nothing that can be understood."""
    try:
        said = read_json(card)
        arguments = said["arguments"]
        return FoundBundle(said["kind"], f"{place} ({arguments.get('name') or arguments['encoder']})", str(card.parent))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


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
