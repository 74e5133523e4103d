"""Input of images: files, camera or samples, kept in memory."""

from collections.abc import Sequence

import streamlit as st

from segpipe.app.analysis import Upload, make_names_unique
from segpipe.app.layout import hide, show_error
from segpipe.config import SAMPLES
from segpipe.io.image_formats import IMAGE_SUFFIXES
from segpipe.report.wording import name_with_code

FILES, CAMERA, SAMPLE = "Files", "Camera", "Samples"


def gather_uploads(max_files: int, *, shown: bool) -> Sequence[Upload]:
    """Show the input of images and return the uploads.

    Called on every page, because Streamlit drops the state of widgets that a page leaves out.

    Args:
        max_files: Largest number of images; further ones are ignored.
        shown: False to hide the input on other pages.
    """
    if shown:
        st.title("Skin lesion analysis")
        st.write("Upload dermoscopic images to outline and classify the lesion.")
    else:
        hide("upload_panel")
    with st.container(key="upload_panel"):
        source = st.segmented_control("Source", [FILES, CAMERA, SAMPLE], default=FILES, required=True, key="source")
        if source != FILES:
            hide("file_uploader")
        with st.container(key="file_uploader"):
            uploads = _from_files(max_files)
        if source != FILES:
            uploads = _from_camera() if source == CAMERA else _from_samples()
        elif len(uploads) > max_files:
            show_error(f"At most {max_files} images are analyzed at once, got {len(uploads)}; the others are ignored")
    return make_names_unique(uploads[:max_files])


def _from_files(max_files: int) -> Sequence[Upload]:
    files = st.file_uploader(
        "Upload dermoscopic images",
        type=sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES),
        accept_multiple_files=True,
        key="files",
        help=f"Up to {max_files} images. They stay in memory and are deleted when you close the page.",
    )
    return [Upload(file.file_id, file.name, file.getvalue()) for file in files]


def _from_camera() -> Sequence[Upload]:
    shot = st.camera_input("Take a picture through the dermatoscope", key="camera")
    return [] if shot is None else [Upload(shot.file_id, "camera.jpg", shot.getvalue())]


def _from_samples() -> Sequence[Upload]:
    st.caption("Generated images: they demonstrate the page, not its accuracy.")
    with st.container(horizontal=True):
        for path in sorted(SAMPLES.glob("*.jpg")):
            with st.container(width=150):
                name = name_with_code(path.stem.removeprefix("synthetic_"))
                st.image(path.read_bytes(), alt=f"Generated sample: {name}")
                if st.button(name, key=f"sample {path.stem}", width="stretch"):
                    st.session_state["sample"] = path
    chosen = st.session_state.get("sample")
    return [] if chosen is None else [Upload(str(chosen), chosen.name, chosen.read_bytes())]
