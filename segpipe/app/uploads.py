"""How photographs are given: files that are dropped, the camera, a shipped sample; they stay in memory."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import streamlit as st

from segpipe.app.examination import Upload
from segpipe.app.layout import hide, show_error
from segpipe.config.resources import SAMPLES
from segpipe.io.images import IMAGE_SUFFIXES
from segpipe.report.wording import name_with_code

FILES, CAMERA, SAMPLE = "Files", "Camera", "Samples"


def gather_uploads(max_files: int, *, shown: bool) -> Sequence[Upload]:
    """Show the ways to give photographs, and return what was given.

    Called on every page, because Streamlit forgets what was given to a part that a page leaves out.

    Args:
        max_files: more are not taken at once.
        shown: false where the page is about something else.
    """
    if shown:
        st.title("Find and name a skin lesion")
        st.write("Give dermoscopic photographs. Each comes back with the outline of its lesion, a name for it, and reasons.")
    else:
        hide("giving")
    with st.container(key="giving"):
        way = st.segmented_control("Photographs from", [FILES, CAMERA, SAMPLE], default=FILES, required=True, key="way")
        if way != FILES:
            hide("files_given")
        with st.container(key="files_given"):
            files = _from_files(max_files)
        if way != FILES:
            files = _from_camera() if way == CAMERA else _from_samples()
        elif len(files) > max_files:
            show_error(f"{len(files)} files are more than the {max_files} taken at once; these are the first {max_files}")
    return _told_apart(files[:max_files])


def _from_files(max_files: int) -> Sequence[Upload]:
    given = st.file_uploader(
        "Dermoscopic photographs",
        type=sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES),
        accept_multiple_files=True,
        key="files",
        help=f"Up to {max_files} at once. They are looked at in memory, and forgotten when you close the page.",
    )
    return [Upload(file.file_id, file.name, file.getvalue()) for file in given]


def _from_camera() -> Sequence[Upload]:
    shot = st.camera_input("Take a photograph through the dermatoscope", key="camera")
    return [] if shot is None else [Upload(shot.file_id, "camera.jpg", shot.getvalue())]


def _from_samples() -> Sequence[Upload]:
    st.caption("Drawn by a program, not photographed: they show how the page works, not how good it is.")
    with st.container(horizontal=True):
        for path in sorted(SAMPLES.glob("*.jpg")):
            with st.container(width=150):
                name = name_with_code(path.stem.removeprefix("synthetic_"))
                st.image(path.read_bytes(), alt=f"Drawn sample: {name}")
                if st.button(name, key=f"sample {path.stem}", width="stretch"):
                    st.session_state["sample"] = path
    chosen = st.session_state.get("sample")
    return [] if chosen is None else [Upload(str(chosen), chosen.name, chosen.read_bytes())]


def _told_apart(uploads: Sequence[Upload]) -> Sequence[Upload]:
    """Each with a name of its own: phones call all photographs alike."""
    apart: dict[str, Upload] = {}
    for upload in uploads:
        names = (upload.name if number == 1 else f"{upload.name} ({number})" for number in count(1))
        name = next(name for name in names if name not in apart)
        apart[name] = replace(upload, name=name)
    return list(apart.values())
