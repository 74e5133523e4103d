"""From the bytes of a photograph to what was found on it, by the pipeline of the command line; nothing of it touches the disk."""

import hashlib
import io
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from segpipe.errors import ImageError, PredictionError
from segpipe.inference.finding import Finding
from segpipe.io.images import decode_photograph
from segpipe.report.wording import printable
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
