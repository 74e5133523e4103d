"""The web page's server, run by Streamlit: `segpipe app`, or `streamlit run segpipe/app/main.py -- key=value ...`.

The keys are those of `segpipe.config.commands.AppConfig`; the server's own settings are in `.streamlit/config.toml`. What a
visitor sees is in `pages.py`, which Streamlit runs after each click. Not a medical device.
"""

import logging
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from segpipe.app.guard import RequestGuard

logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
app = st.App(Path(__file__).with_name("pages.py"), middleware=[Middleware(RequestGuard)])
