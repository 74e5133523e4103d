"""What frames each page: the style, the notice that stays, and texts that Markdown must not read."""

import re
from functools import cache
from html import escape
from importlib.resources import files

import streamlit as st

from segpipe.report.wording import DISCLAIMER

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
