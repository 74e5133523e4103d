"""Server of the web page, run by Streamlit.

It is started by `segpipe app`, or by `streamlit run segpipe/app/main.py -- key=value ...`. The keys are those of
`segpipe.config.commands.AppConfig`; the server's own settings are in `.streamlit/config.toml`. Streamlit runs `pages.py` after
each click. Not a medical device.
"""

import logging
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from segpipe.app.guard import RequestGuard, remove_expired_sessions

logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
app = st.App(
    Path(__file__).with_name("pages.py"),
    lifespan=remove_expired_sessions,
    middleware=[Middleware(RequestGuard)],
)
