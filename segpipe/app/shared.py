"""What all visitors share: the configuration of the call, the thread of the networks, the pipelines that were loaded."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from omegaconf import DictConfig

from segpipe.app.found_bundles import age_of
from segpipe.config.composing import compose_config
from segpipe.inference.memory import gc_paused, keep_freed_memory
from segpipe.inference.settings import PipelineSettings

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline

MOST_PIPELINES = 8  # that are kept loaded, about 40 MiB each
# The one thread that networks run on: visitors take turns at all cores, and its memory is used again and again. Streamlit runs
# each click on a thread of its own, and each of these would have a share of the heap and helpers of its own.
NETWORK_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="networks", initializer=keep_freed_memory)


@st.cache_resource
def read_config(arguments: tuple[str, ...]) -> DictConfig:
    """The configuration of the call, by its `key=value` arguments; raises a ConfigError for a wrong call."""
    return compose_config("app", arguments)


def get_pipeline(settings: PipelineSettings) -> "Pipeline":
    """The pipeline of some settings, loaded once for all visitors, and anew when a bundle was written anew.

    Raises:
        BundleError: as `segpipe.inference.loading.load_pipeline`.
        ConfigError: likewise.
    """
    bundles = [folder for folder in (settings.segmenter, *(settings.classifier or ())) if folder is not None]
    return _get_pipeline(settings, tuple(age_of(folder) for folder in bundles))


@st.cache_resource(max_entries=MOST_PIPELINES, show_spinner="Loading the models")
def _get_pipeline(settings: PipelineSettings, ages: tuple[int, ...]) -> "Pipeline":
    del ages  # tell one state of the bundles from another
    return NETWORK_THREAD.submit(_load, settings).result()


def _load(settings: PipelineSettings) -> "Pipeline":
    _import_networks()
    from segpipe.inference.loading import load_pipeline

    pipeline = load_pipeline(**vars(settings))
    # The first photograph takes longer than others: no visitor shall wait for it.
    pipeline([np.zeros((pipeline.least_side, pipeline.least_side, 3), dtype=np.uint8)])
    return pipeline


@cache
def _import_networks() -> None:
    """Import what is large, once, out of sight of the garbage collector, which Streamlit calls after each click."""
    with gc_paused():
        import segpipe.inference.loading  # noqa: F401
