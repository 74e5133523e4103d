"""What each output means, in plain words."""

from importlib.resources import files

import streamlit as st


def show_guide() -> None:
    """Show the page."""
    st.title("What it shows")
    with st.container(width=760):
        st.markdown((files("segpipe.app") / "guide.md").read_text(encoding="utf-8"))
