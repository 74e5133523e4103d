"""What all visitors share: the configuration of the call, the models found on disk, the pipelines that were loaded."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from omegaconf import DictConfig

from segpipe.cli import compose_config
from segpipe.inference.settings import PipelineSettings
from segpipe.memory import garbage_left, keep_freed_memory

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline

CONF = Path(__file__).parents[2] / "conf"
OUTPUTS = Path("outputs")  # where trainings write by default
CARD, WEIGHTS = "card.json", "model.safetensors"  # as in segpipe.bundle, which takes seconds to import
MOST_PIPELINES = 8  # that are kept loaded, about 40 MiB each


@st.cache_resource
def read_config(arguments: tuple[str, ...]) -> DictConfig:
    """The configuration of the call, by its `key=value` arguments; raises a ConfigError for a wrong call."""
    return compose_config(CONF, "app", arguments)


@st.cache_resource
def get_network_thread() -> ThreadPoolExecutor:
    """The one thread that networks run on: visitors take turns at all cores, and its memory is used again and again.

    Streamlit runs each click on a thread of its own, and each of these would have a share of the heap and helpers of its own.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="networks", initializer=keep_freed_memory)


@st.cache_resource(max_entries=MOST_PIPELINES, show_spinner="Loading the models")
def get_pipeline(settings: PipelineSettings) -> "Pipeline":
    """The pipeline of some settings, loaded once for all visitors; raises what `load_pipeline` raises."""
    return get_network_thread().submit(_load, settings).result()


def _load(settings: PipelineSettings) -> "Pipeline":
    with garbage_left():
        from segpipe.inference.loading import load_pipeline

        pipeline = load_pipeline(settings)
    # The first photograph takes longer than others: no visitor shall wait for it.
    pipeline([np.zeros((pipeline.least_side, pipeline.least_side, 3), dtype=np.uint8)])
    return pipeline


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
    root = Path(folder or OUTPUTS)
    return sorted(_bundles_below(root), key=lambda bundle: bundle.label)


def _bundles_below(root: Path) -> Iterator[FoundBundle]:
    for folder, folders, names in os.walk(root):
        if {CARD, WEIGHTS} <= set(names):
            place = Path(folder).relative_to(root)
            # A training's bundle stands under the name of the training.
            found = _describe(Path(folder, CARD), (place.parent if place.name == "bundle" else place).as_posix())
            if found is not None:
                yield found
        folders[:] = [name for name in folders if not name.startswith(".")]


def _describe(card: Path, place: str) -> FoundBundle | None:
    """What a card says that it is of; None where it says nothing that can be understood."""
    try:
        said = json.loads(card.read_text(encoding="utf-8"))
        arguments = said["arguments"]
        return FoundBundle(said["kind"], f"{place} ({arguments.get('name') or arguments['encoder']})", str(card.parent))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
