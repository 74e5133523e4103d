"""First screen and input of images: files, camera and samples."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import streamlit as st

from segpipe.app.frame import hide, show_error
from segpipe.app.parts import literal, picture_uri, render
from segpipe.app.uploads import Upload, make_names_unique
from segpipe.config import SAMPLES
from segpipe.diagnosis import full_name
from segpipe.io.image_formats import IMAGE_SUFFIXES
from segpipe.io.images import read_image
from segpipe.language import translate
from segpipe.report.wording import capitalized

FILES, CAMERA, SAMPLE = "files", "camera", "sample"
SHOWN_SAMPLES = ("mel", "nv", "bcc")
IGNORED = "At most {most} photographs are analyzed at once, got {given}; the others are ignored"
PRIVACY = "Up to {most} at once. They stay in memory and are deleted when you close the page."
_SAMPLE_STEP = 2  # every second pixel of a sample is shown


def gather_uploads(max_files: int, *, shown: bool) -> Sequence[Upload]:
    """Show the input of images and return the uploads.

    Called on every page, because Streamlit drops the state of widgets that a page leaves out.

    Args:
        max_files: Largest number of images; further ones are ignored.
        shown: False to hide the input on other pages.
    """
    if not shown:
        hide("inputs")
    source = st.session_state.setdefault("source", FILES)
    with st.container(key="inputs"):
        if source != FILES:
            hide("uploader")
            st.button(translate("Start again"), on_click=_start_again, key="start", icon=":material/arrow_back:")
        head = st.container(key="greeting")
        with st.container(key="uploader"):
            uploads = _from_files(max_files)
        if source == CAMERA:
            uploads = _from_camera()
        elif source == SAMPLE:
            uploads = [_sample(st.session_state["sample"])]
        elif shown and not uploads:
            with head:
                _show_greeting()
            _show_alternatives()
        elif len(uploads) > max_files:
            show_error(translate(IGNORED, most=max_files, given=len(uploads)))
    return make_names_unique(uploads[:max_files])


def _show_greeting() -> None:
    st.title(translate("Find, outline and name a skin lesion"), anchor=False)
    st.write(
        translate(
            "Upload a photograph taken through a dermatoscope. You get an outline, diagnoses with probabilities, and how far to "
            "trust them."
        )
    )


def _from_files(max_files: int) -> Sequence[Upload]:
    files = st.file_uploader(
        translate("Photographs"),
        type=sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES),
        accept_multiple_files=True,
        key="files",
        label_visibility="collapsed",
    )
    if not files:
        st.html(f'<p class="privacy">{translate(PRIVACY, most=max_files)}</p>')
    return [Upload(file.file_id, file.name, file.getvalue()) for file in files]


def _from_camera() -> Sequence[Upload]:
    shot = st.camera_input(translate("Take a picture through the dermatoscope"), key="camera")
    return [] if shot is None else [Upload(shot.file_id, "camera.jpg", shot.getvalue())]


def _show_alternatives() -> None:
    """Show the samples and the button of the camera."""
    with st.container(key="alternatives"):
        st.html(f"<p>{translate('No photograph at hand? Try a generated one:')}</p>")
        with st.container(horizontal=True, vertical_alignment="center", key="samples"):
            for code in SHOWN_SAMPLES:
                name = capitalized(translate(full_name(code)))
                with st.container(key=f"card-{code}", width="content"):
                    st.html(render("sample", name=name, picture=_sample_uri(code)))
                    st.button(literal(name), on_click=_open_sample, args=(code,), key=f"sample {code}")
            with st.container(key="camera_link", width="content"):
                st.button(translate("Take a picture"), on_click=_open_camera, key="photograph", icon=":material/photo_camera:")


def _open_sample(code: str) -> None:
    st.session_state.update(source=SAMPLE, sample=code)


def _open_camera() -> None:
    st.session_state["source"] = CAMERA


def _start_again() -> None:
    st.session_state["source"] = FILES


def _sample_path(code: str) -> Path:
    return SAMPLES / f"synthetic_{code}.jpg"


def _sample(code: str) -> Upload:
    path = _sample_path(code)
    return Upload(str(path), path.name, path.read_bytes())


@cache
def _sample_uri(code: str) -> str:
    image = read_image(_sample_path(code))
    return picture_uri(image[::_SAMPLE_STEP, ::_SAMPLE_STEP])
