"""Where photographs come from: files that are dropped, the camera, a shipped sample; they stay in memory."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from starlette.formparsers import MultiPartParser

from segpipe.app.examination import Photograph
from segpipe.app.frame import show_error
from segpipe.image_io import IMAGE_SUFFIXES, display_path
from segpipe.report import name_with_code

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
FILES, CAMERA, SAMPLE = "Files", "Camera", "Samples"

# Starlette keeps larger parts of a request in a file on disk.
MultiPartParser.spool_max_size = 2 * 1024 * 1024 * st.get_option("server.maxUploadSize")


def gather_photographs(max_files: int) -> Sequence[Photograph]:
    """Show the ways to give photographs, and return those that were given."""
    way = st.segmented_control("Photographs from", [FILES, CAMERA, SAMPLE], default=FILES, required=True, key="way")
    if way == CAMERA:
        return _from_camera()
    return _from_samples() if way == SAMPLE else _from_files(max_files)


def _from_files(max_files: int) -> Sequence[Photograph]:
    uploads = st.file_uploader(
        "Dermoscopic photographs",
        type=sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES),
        accept_multiple_files=True,
        key="files",
        help=f"Up to {max_files} at once. They are looked at in memory, and forgotten when you close the page.",
    )
    if len(uploads) > max_files:
        show_error(f"{len(uploads)} files are more than the {max_files} that are taken at once; the first {max_files} are shown")
    return [Photograph(upload.file_id, upload.name, upload.getvalue()) for upload in uploads[:max_files]]


def _from_camera() -> Sequence[Photograph]:
    shot = st.camera_input("Take a photograph through the dermatoscope", key="camera")
    return [] if shot is None else [Photograph(shot.file_id, "camera.jpg", shot.getvalue())]


def _from_samples() -> Sequence[Photograph]:
    st.caption("Drawn by a program, not photographed: they show how the page works, not how good it is.")
    with st.container(horizontal=True):
        for path in sorted(SAMPLES.glob("*.jpg")):
            with st.container(width=150):
                name = name_with_code(path.stem.removeprefix("synthetic_"))
                st.image(path.read_bytes(), alt=f"Drawn sample: {name}")
                if st.button(name, key=f"sample {path.stem}", width="stretch"):
                    st.session_state["sample"] = path
    chosen = st.session_state.get("sample")
    return [] if chosen is None else [Photograph(str(chosen), display_path(Path(chosen.name)), chosen.read_bytes())]
