"""Visitors who left are forgotten in time, with all that they brought.

Streamlit keeps a session in memory for `server.disconnectedSessionTTL` seconds after its connection broke, in case it comes back.
Then it lets go of it, but only when the next session ends: the last visitor's photographs would stay as long as the server runs.
"""

import gc
import logging
import threading
import time

import streamlit as st
from streamlit.runtime import Runtime, exists, get_instance

INTERVAL_SECONDS = 10.0


@st.cache_resource
def start_forgetting() -> None:
    """See to it for as long as the server runs; called by every page, done once."""
    if exists():  # not so where a page is tested without a server
        threading.Thread(target=_forget_for_ever, args=(get_instance(),), name="forgetting", daemon=True).start()


def _forget_for_ever(runtime: Runtime) -> None:
    while True:
        time.sleep(INTERVAL_SECONDS)
        try:
            forget_expired(runtime)
        except AttributeError as error:
            logging.getLogger(__name__).warning("the last visitor is not forgotten before the server ends: %s", error)
            return


def forget_expired(runtime: Runtime) -> int:
    """Let go of the sessions whose time is over; returns their number.

    Streamlit has no public way to them: an AttributeError says that another version keeps them elsewhere.
    """
    manager = runtime._session_mgr
    with manager._storage_lock:  # type: ignore[attr-defined]
        expired = manager._session_storage._cache.expire()  # type: ignore[attr-defined]
    number = len(expired)
    while expired:
        expired.pop()[1].session.shutdown()
    if number:
        gc.collect()  # a session refers to itself
    return number
