"""Uploaded images and their analyses; without Streamlit."""

import io
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import PurePath

from segpipe.errors import ImageError, PredictionError
from segpipe.inference.finding import Finding
from segpipe.io.images import decode_photograph, encode_png
from segpipe.runs.results import Row
from segpipe.types import Photograph


@dataclass(frozen=True)
class Upload:
    """An image file, not yet decoded.

    Attributes:
        key: Identifier, unique in the session.
        name: File name for display; never used as a path.
        content: Bytes of the file.
    """

    key: str
    name: str
    content: bytes


@dataclass(frozen=True)
class DecodedUpload:
    """Decoded image file.

    Attributes:
        upload: Its file.
        photograph: Decoded image.
        decoding_ms: Milliseconds of the decoding.
    """

    upload: Upload
    photograph: Photograph
    decoding_ms: float


@dataclass(frozen=True)
class Analysis:
    """Result of one upload.

    Attributes:
        name: File name on one line.
        finding: Finding of the image.
        row: Row of the results.
        found: Analysis before its outline was corrected; None where it was not.
    """

    name: str
    finding: Finding
    row: Row
    found: "Analysis | None" = None


def make_names_unique(uploads: Sequence[Upload]) -> Sequence[Upload]:
    """Number uploads of the same name."""
    # Some phones give one name to all images.
    unique: dict[str, Upload] = {}
    for upload in uploads:
        names = (upload.name if number == 1 else f"{upload.name} ({number})" for number in count(1))
        name = next(name for name in names if name not in unique)
        unique[name] = replace(upload, name=name)
    return list(unique.values())


def decode_upload(upload: Upload, *, least_side: int, max_pixels: int) -> DecodedUpload:
    """Decode the image of an upload.

    Args:
        upload: Any bytes.
        least_side: Smallest length of the shorter side, pixels.
        max_pixels: Largest allowed number of pixels (height x width).

    Raises:
        ImageError: The image cannot be used; without the file name.
    """
    start = time.perf_counter()
    with image_errors():
        photograph = decode_photograph(io.BytesIO(upload.content), least_side=least_side, max_pixels=max_pixels)
    return DecodedUpload(upload, photograph, 1000 * (time.perf_counter() - start))


@contextmanager
def image_errors() -> Iterator[None]:
    """Turn what an image may cause into errors of that image."""
    try:
        yield
    except PredictionError as error:
        raise ImageError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        from segpipe.inference.networks import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise ImageError("needs more memory than there is; make it smaller") from error


def safe_stem(name: str) -> str:
    """Turn a file name into a portable stem for downloads."""
    return re.sub(r"[^\w-]+", "_", PurePath(name).stem).strip("_")[:60] or "image"


def encode_mask(analysis: Analysis) -> bytes:
    """Encode the mask as PNG, in the size of the photograph."""
    return encode_png(analysis.finding.mask)
