"""Visitors who left are forgotten in time, with all that they brought.

Streamlit keeps a session in memory for `server.disconnectedSessionTTL` seconds after its connection broke, in case it comes back.
Then it lets go of it, but only when the next session ends, and of what was downloaded only when the next script runs: the last
visitor's photographs would stay as long as the server runs.
"""

import asyncio
import logging

import streamlit as st
from streamlit.runtime import Runtime, exists, get_instance

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
