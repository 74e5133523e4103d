"""Frame of the pages: style, language, links, disclaimer, errors, and hidden parts."""

from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

import streamlit as st

from segpipe.app.parts import literal
from segpipe.language import ENGLISH, language_codes, language_name, translate, use_language
from segpipe.report.wording import DISCLAIMER

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

SCRIPT = (files("segpipe.app") / "page.js").read_text(encoding="utf-8").strip()
BROWSERS_OWN = "auto"  # language


def show_style() -> None:
    """Add the style of the parts drawn as HTML."""
    # Streamlit's own words in the place for files are not translated, so the style replaces them.
    words = {"--drop": translate("Drop photographs here"), "--choose": translate("Choose files")}
    variables = "; ".join(f'{name}: "{text}"' for name, text in words.items())
    st.html(f"<style>:root {{ {variables} }}\n{_style()}</style>")


@cache
def _style() -> str:
    parts = (files("segpipe.report") / "templates" / "parts.css").read_text(encoding="utf-8")
    # The report's style applies inside .finding only, not to Streamlit's own elements.
    return (files("segpipe.app") / "style.css").read_text(encoding="utf-8") + f".finding {{\n{parts}}}\n"


def show_disclaimer() -> None:
    """Show the disclaimer at the lower edge, and start the script."""
    with st.bottom:
        notice = f'<p class="notice" role="note">{escape(translate(DISCLAIMER))}</p>'
        st.html(f"{notice}<script>{SCRIPT}</script>", unsafe_allow_javascript=True)


def set_language(setting: str) -> None:
    """Use the language that the visitor has chosen.

    Args:
        setting: Code of the language at the start, or `auto` for that of the browser.
    """
    known = language_codes()
    preferred = (st.context.locale or ENGLISH).partition("-")[0] if setting == BROWSERS_OWN else setting
    chosen = st.session_state.setdefault("language", preferred if preferred in known else ENGLISH)
    use_language(chosen)


def show_links(pages: Sequence["StreamlitPage"]) -> None:
    """Show links to the pages, and the choice of the language."""
    with st.container(horizontal=True, vertical_alignment="center", key="links"):
        for page in pages:
            st.page_link(page, width="content")
        st.space("stretch")
        title = translate("Language")
        st.selectbox(title, language_codes(), format_func=language_name, key="language", label_visibility="collapsed", width=120)


def show_error(message: str) -> None:
    """Show an error as one line of plain text."""
    st.error(literal(message))


def hide(key: str) -> None:
    """Hide a container but keep the state of its widgets."""
    st.html(f"<style>.st-key-{key} {{ display: none; }}</style>")
