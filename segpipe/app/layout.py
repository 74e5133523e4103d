"""Elements of all pages: style, disclaimer, errors and hidden containers."""

import re
from functools import cache
from html import escape
from importlib.resources import files

import streamlit as st

from segpipe.report.wording import DISCLAIMER

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def show_style() -> None:
    """Add the style of the parts drawn as HTML."""
    st.html(f"<style>{_style()}</style>")


@cache
def _style() -> str:
    parts = (files("segpipe.report") / "templates" / "parts.css").read_text(encoding="utf-8")
    # The report's style applies inside .finding only, not to Streamlit's own elements.
    return (files("segpipe.app") / "style.css").read_text(encoding="utf-8") + f".finding {{\n{parts}}}\n"


def show_disclaimer() -> None:
    """Show the disclaimer at the lower edge of the window."""
    with st.bottom:
        st.html(f'<p class="notice" role="note">{escape(DISCLAIMER)}</p>')


def show_error(message: str) -> None:
    """Show an error as one line of plain text."""
    st.error(literal(message))


def hide(key: str) -> None:
    """Hide a container but keep the state of its widgets."""
    st.html(f"<style>.st-key-{key} {{ display: none; }}</style>")


def literal(text: str) -> str:
    """Escape all punctuation of a text for Markdown."""
    return _PUNCTUATION.sub(r"\\\1", text)
