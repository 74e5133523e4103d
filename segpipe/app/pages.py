"""The web page as a visitor sees it after each click, run by the server of `main.py`. Not a medical device.

Here is what all its pages have: the look, the notice, the choice of models, the photographs.
"""

import sys
from functools import partial
from pathlib import Path

import streamlit as st

from segpipe.app.examination import Upload
from segpipe.app.guide_page import show_guide
from segpipe.app.layout import show_error, show_notice, show_style
from segpipe.app.lesion_page import show_lesions
from segpipe.app.quality_page import show_quality
from segpipe.app.session_cleanup import start_forgetting
from segpipe.app.shared import read_config
from segpipe.app.sidebar import choose_models
from segpipe.app.uploads import gather_uploads
from segpipe.errors import SegpipeError


def show_pages() -> None:
    """One run of the script: what a visitor sees after each click."""
    st.set_page_config(page_title="segpipe", page_icon=str(Path(__file__).parent / "icon.svg"), layout="wide")
    start_forgetting()
    show_style()
    show_notice()
    try:
        config = read_config(tuple(sys.argv[1:]))
        models, uploads = choose_models(config), list[Upload]()
        find = partial(show_lesions, models, uploads, max_pixels=config.max_pixels)
        pages = [
            st.Page(find, title="Find and name", url_path="find", default=True),
            st.Page(partial(show_quality, models), title="How good is it?", url_path="quality"),
            st.Page(show_guide, title="What it shows", url_path="guide"),
        ]
        page = st.navigation(pages, position="top")
        # Here and not on its page, or they would be gone when a visitor has looked at another one.
        uploads += gather_uploads(config.max_files, shown=page is pages[0])
        page.run()
    except SegpipeError as error:
        show_error(str(error))


show_pages()
