"""How photographs are given: files that are dropped, the camera, a shipped sample; they stay in memory."""

import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import streamlit as st

from segpipe.app.shared import hide, show_error
from segpipe.config.resources import SAMPLES
from segpipe.errors import ImageError, PredictionError
from segpipe.inference.finding import Finding
from segpipe.io.images import IMAGE_SUFFIXES, decode_photograph
from segpipe.report.wording import name_with_code, printable
from segpipe.runs.results import Row

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline


@dataclass(frozen=True)
class Upload:
    """A photograph as it came, not yet looked at.

    Attributes:
        key: tells it from all others of the session.
        name: of its file, for people only; never a path.
        content: the bytes of its file.
    """

    key: str
    name: str
    content: bytes


@dataclass(frozen=True)
class Examination:
    """What was found on a photograph.

    Attributes:
        name: of its file, on one line.
        finding: result of the photograph.
        row: its line of the results.
    """

    name: str
    finding: Finding
    row: Row


def examine(pipeline: "Pipeline", upload: Upload, *, max_pixels: int) -> Examination:
    """Find and name the lesion of a photograph.

    Args:
        pipeline: that does it.
        upload: any bytes.
        max_pixels: refuse larger images (height x width).

    Raises:
        ImageError: it cannot be used, or a model gave a number that is not finite; the message does not name it.
    """
    begun = time.perf_counter()
    try:
        read = decode_photograph(io.BytesIO(upload.content), least_side=pipeline.least_side, max_pixels=max_pixels)
        finding = pipeline([read.image])[0]
    except PredictionError as error:
        raise ImageError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        from segpipe.inference.networks import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise ImageError("needs more memory than there is; make it smaller") from error
    name, sha256 = printable(upload.name), hashlib.sha256(upload.content).hexdigest()
    latency_ms = 1000 * (time.perf_counter() - begun)
    finding = replace(finding, photograph=read, path=name, sha256=sha256, latency_ms=latency_ms)
    return Examination(name, finding, finding.to_dict())


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
