"""Pages of the web app, run by Streamlit after each click. Not a medical device."""

import sys
from functools import partial
from importlib.resources import files
from pathlib import Path

import streamlit as st

from segpipe.app.frame import hide, set_language, show_disclaimer, show_error, show_links, show_style
from segpipe.app.inputs import gather_uploads
from segpipe.app.models import choose_models
from segpipe.app.performance import show_performance
from segpipe.app.results import show_results
from segpipe.app.uploads import Upload
from segpipe.config.commands import AppConfig
from segpipe.config.composing import compose_config, typed
from segpipe.errors import SegpipeError
from segpipe.inference.settings import PipelineSettings
from segpipe.language import translate, translated_document


@st.cache_resource
def read_config(arguments: tuple[str, ...]) -> AppConfig:
    """Compose the configuration from `key=value` arguments.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ConfigError: A key or value is wrong.
    """
    config: AppConfig = typed(compose_config("app", arguments))
    return config


def show_pages() -> None:
    """Show the page that a visitor has chosen."""
    st.set_page_config(page_title="segpipe", page_icon=str(Path(__file__).parent / "icon.svg"), layout="wide")
    try:
        config = read_config(tuple(sys.argv[1:]))
    except SegpipeError as error:
        show_error(str(error))
        return
    set_language(config.language)
    show_style()
    show_disclaimer()
    try:
        _show_page(config)
    except SegpipeError as error:
        show_error(str(error))


def _show_page(config: AppConfig) -> None:
    links, body, settings = (st.container() for _ in range(3))
    with settings:
        models = choose_models(PipelineSettings.of(config), config.bundles)
    uploads = list[Upload]()
    analyze = partial(show_results, models, uploads, max_pixels=config.max_pixels, training_images=config.similar.root)
    pages = [
        st.Page(analyze, title=translate("Analyze"), url_path="analyze", default=True),
        st.Page(partial(show_performance, models), title=translate("How good is it?"), url_path="performance"),
        st.Page(show_guide, title=translate("Guide"), url_path="guide"),
    ]
    # The links are on the page itself: on a phone, those of Streamlit would cover it.
    page = st.navigation(pages, position="hidden")
    with links:
        show_links(pages)
    with body:
        # Gathered on every page, because Streamlit drops uploads that a page does not show.
        uploads += gather_uploads(config.max_files, shown=page is pages[0])
        page.run()
    if page is pages[2]:
        hide("settings")


def show_guide() -> None:
    """Show the guide to the outputs."""
    st.title(translate("Guide"))
    english = (files("segpipe.app") / "guide.md").read_text(encoding="utf-8")
    with st.container(width=760):
        st.markdown(translated_document("guide", english))


show_pages()
