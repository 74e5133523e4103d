"""Correction of a lesion's outline, after which the finding is computed again."""

import base64
import hashlib
from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import streamlit as st

from segpipe.app.parts import literal
from segpipe.app.uploads import Analysis, encode_mask, safe_stem
from segpipe.errors import ImageError
from segpipe.language import translate
from segpipe.lesion.polygon import outline_polygon
from segpipe.report.overlays import encode_jpeg, make_preview

if TYPE_CHECKING:
    from concurrent.futures import Future


PICTURE_SIDE = 900  # pixels, longer side of the photograph in the editor
COMPONENT = "segpipe.outline"  # as declared in segpipe/pyproject.toml

OPEN, CLOSE, RESTORE, MASK = "Correct the outline", "Close the editor", "Back to the found outline", "Mask (PNG)"
CORRECTED = "The outline was corrected by hand; everything shown here is computed with it."
# Texts of the editor, by the name of its part.
TEXTS = {
    "label": "Outline of the lesion",
    "drag": "Drag a point. Press on the line to add one, twice on a point to remove it.",
    "keys": "Keyboard: Enter selects a point, the arrow keys move it, Delete removes it.",
    "draw": "Draw around the lesion in one stroke.",
    "use": "Use this outline",
    "redraw": "Redraw",
    "remove": "Remove point",
    "undo": "Undo",
}


def show_outline(
    analysis: Analysis,
    *,
    key: str,
    keep: Callable[[Analysis], None],
    correct: Callable[[object], "Future[Analysis]"],
) -> None:
    """Show the buttons of the outline, and its editor while open.

    Args:
        analysis: Analysis of the image, corrected before or not.
        key: Key of the analysis, unique on the page.
        keep: Function that stores another analysis in place of this one: with a corrected outline, or with the found one again.
        correct: Function that starts a new analysis with the corners of an outline, see
            `segpipe.app.analysis.correct_outline`.
    """
    opened = f"outline editor {key}"
    is_open = bool(st.session_state.get(opened))
    with st.container(horizontal=True):
        st.button(translate(CLOSE if is_open else OPEN), on_click=partial(_set, opened, not is_open), key=f"outline {key}")
        if analysis.found is not None:
            st.button(translate(RESTORE), on_click=partial(keep, analysis.found), key=f"found outline {key}")
        name = f"{safe_stem(analysis.name)}_segmentation.png"
        st.download_button(
            translate(MASK),
            partial(encode_mask, analysis),
            file_name=name,
            mime="image/png",
            on_click="ignore",
            key=f"{MASK} {key}",
            icon=":material/download:",
        )
    if analysis.found is not None:
        st.caption(translate(CORRECTED))
    if is_open:
        corrected = _edit(analysis, correct, key=key)
        if corrected is not None:
            keep(corrected)
            _set(opened, False)
            st.rerun()


def _set(name: str, value: bool) -> None:
    st.session_state[name] = value


def _edit(analysis: Analysis, correct: Callable[[object], "Future[Analysis]"], *, key: str) -> Analysis | None:
    """Show the editor; return the new analysis once an outline is sent."""
    preview, mask = make_preview(analysis.finding, max_side=PICTURE_SIDE), analysis.finding.localization.mask
    height, width = preview.mask.shape
    # Where the whole image was classified there is no outline to correct: it is drawn anew.
    corners = [] if mask.all() else outline_polygon(mask).tolist()
    picture = base64.b64encode(encode_jpeg(preview.image)).decode()
    edited = _editor()(
        data={
            "picture": f"data:image/jpeg;base64,{picture}",
            "width": width,
            "height": height,
            "corners": corners,
            "texts": {part: translate(text) for part, text in TEXTS.items()},
        },
        on_outline_change=lambda: None,
        # Streamlit refuses keys with two underscores in a row, which a name may have.
        key=hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest(),
    )
    if edited.outline is None:
        return None
    try:
        with st.spinner(translate("Computing the finding")):
            return correct(edited.outline).result()
    except ImageError as error:
        st.error(literal(str(error)))
        return None


@cache
def _editor() -> Any:
    """Register the component, which is possible only while Streamlit runs."""
    html = (files("segpipe.app") / "components" / "outline.html").read_text(encoding="utf-8")
    return st.components.v2.component(COMPONENT, html=html, css="outline.css", js="outline.js")
