"""What all visitors share: the configuration of the call, the thread of the networks, the pipelines that were loaded."""

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from omegaconf import DictConfig
from streamlit.runtime import Runtime, exists, get_instance

from segpipe.app.sidebar import age_of
from segpipe.config.composing import compose_config
from segpipe.inference.memory import gc_paused, keep_freed_memory
from segpipe.inference.settings import PipelineSettings
from segpipe.report.wording import DISCLAIMER

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline


_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def show_style() -> None:
    """The look of the parts that are drawn as HTML."""
    st.html(f"<style>{_style()}</style>")


def show_notice() -> None:
    """That this is no medical device, at the lower edge of the window on all pages; it cannot be closed."""
    with st.bottom:
        st.html(f'<p class="notice" role="note">{escape(DISCLAIMER)}</p>')


def hide(key: str) -> None:
    """Leave a container out of sight, with all that a visitor put into it."""
    st.html(f"<style>.st-key-{key} {{ display: none; }}</style>")


def show_error(message: str) -> None:
    """One plain line that says what is wrong; the characters of a file's name mean nothing in it."""
    st.error(literal(message))


def literal(text: str) -> str:
    """A text for Markdown, in which each character stands for itself: no picture, link or formula comes of it."""
    return _PUNCTUATION.sub(r"\\\1", text)


@cache
def _style() -> str:
    parts = (files("segpipe.report") / "templates" / "parts.css").read_text(encoding="utf-8")
    # Streamlit's own elements stay as they are: the parts of the report only have their look inside .finding.
    return (files("segpipe.app") / "style.css").read_text(encoding="utf-8") + f".finding {{\n{parts}}}\n"


INTERVAL_SECONDS = 10.0


@st.cache_resource
def start_forgetting() -> None:
    """See to it for as long as the server runs; called for every page, done once."""
    if not exists():  # where a page is tested without a server
        return
    try:
        loop = get_instance()._get_async_objs().eventloop
    except AttributeError as error:
        logging.getLogger(__name__).warning("the last visitor is not forgotten before the server ends: %s", error)
        return
    # On the loop that owns the sessions, between its own work.
    loop.call_soon_threadsafe(_tick, get_instance(), loop)


def _tick(runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(INTERVAL_SECONDS, _tick, runtime, loop)
    forget_expired(runtime)  # an error is logged by the loop, and the next tick comes all the same


def forget_expired(runtime: Runtime) -> None:
    """Let go of the sessions whose time is over, and of what nobody can download any more.

    Streamlit has no public way to the sessions: an AttributeError says that another version keeps them elsewhere.
    """
    expired = runtime._session_mgr._session_storage._cache.expire()  # type: ignore[attr-defined]
    for _, info in expired:
        info.session.shutdown()
        # Streamlit's loop may hold on to the session itself: what it holds of the visitor goes.
        info.session.session_state.clear()
        info.session._fragment_storage.clear()
    if expired:
        # A first time was in shutdown(), which only marks what was downloaded.
        runtime.media_file_mgr.remove_orphaned_files()


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
