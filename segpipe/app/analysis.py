"""Uploaded images analyzed in memory, and the files to download; without Streamlit."""

import hashlib
import io
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from segpipe import __version__
from segpipe.errors import ImageError, PredictionError
from segpipe.evaluation.text import images_text, metric_text
from segpipe.inference.finding import Finding
from segpipe.io.files import counted
from segpipe.io.files import encode_json as encode_strict_json
from segpipe.io.images import decode_photograph
from segpipe.report.wording import DISCLAIMER, printable
from segpipe.runs.results import Row, encode_results
from segpipe.types import Photograph

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline

# Accuracy alone misleads, so it is not among them.
_METRICS = {"balanced_accuracy": "balanced accuracy", "sensitivity_mel": "melanoma sensitivity", "macro_auroc": "macro AUROC"}


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
    with _image_errors():
        photograph = decode_photograph(io.BytesIO(upload.content), least_side=least_side, max_pixels=max_pixels)
    return DecodedUpload(upload, photograph, 1000 * (time.perf_counter() - start))


def analyze(pipeline: "Pipeline", decoded: DecodedUpload) -> Analysis:
    """Run the pipeline on a decoded upload.

    Raises:
        ImageError: The image cannot be used, or a model returned a number that is not finite; without the file name.
    """
    start = time.perf_counter()
    with _image_errors():
        finding = pipeline([decoded.photograph.image])[0]
    if finding.refusal:
        raise ImageError(finding.refusal)
    latency_ms = decoded.decoding_ms + 1000 * (time.perf_counter() - start)
    name, sha256 = printable(decoded.upload.name), hashlib.sha256(decoded.upload.content).hexdigest()
    finding = replace(finding, photograph=decoded.photograph, path=name, sha256=sha256, latency_ms=latency_ms)
    return Analysis(name, finding, finding.to_dict())


@contextmanager
def _image_errors() -> Iterator[None]:
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


def encode_json(analysis: Analysis, pipeline: "Pipeline") -> bytes:
    """Encode the row of the results and its models as JSON."""
    from segpipe.bundle.records import library_versions

    content = {
        "notice": DISCLAIMER,
        "finding": dict(analysis.row),
        "models": pipeline.describe_models()["models"],
        "localize": str(pipeline.localizer.start),
        "views": len(pipeline.ensemble.views),
        "explain": pipeline.ensemble.explained,
        **{name: pipeline.identity()[name] for name in ("runtime", "precision")},
        "versions": library_versions(),
    }
    return encode_strict_json(content)


def encode_picture(analysis: Analysis) -> bytes:
    """Encode the figure of `segpipe predict` as PNG."""
    from segpipe.report.figure import encode_figure

    return encode_figure(analysis.finding, analysis.name)


def encode_report(analysis: Analysis, pipeline: "Pipeline") -> bytes:
    """Encode the report page as PDF."""
    from segpipe.report.page import encode_page

    return encode_page(analysis.finding, title=analysis.name, about=_describe_provenance(pipeline))


def encode_table(analyses: Sequence[Analysis]) -> bytes:
    """Encode `results.csv` for images analyzed by the same model."""
    return encode_results([analysis.row for analysis in analyses], list(analyses[0].finding.probabilities))


def _describe_provenance(pipeline: "Pipeline") -> list[str]:
    """Date, version, hashes of the models, and their test metrics."""
    hashes = pipeline.describe_models()["models"]
    classifiers = hashes["classifier"] if isinstance(hashes["classifier"], list) else [hashes["classifier"]]
    models = [f"segmenter {(hashes['segmenter'] or 'none')[:12]}", *(f"classifier {sha256[:12]}" for sha256 in classifiers)]
    views = len(pipeline.ensemble.views)
    lines = [
        f"Created {datetime.now():%Y-%m-%d %H:%M} by segpipe {__version__}",
        f"SHA-256: {', '.join(models)}; {counted(views, 'view')}{' averaged' if views > 1 else ''}",
    ]
    if len(classifiers) > 1:
        return [*lines, "No test metrics are available for this ensemble"]
    return [*lines, _describe_metrics(pipeline.ensemble.networks[0].card.metrics)]


def _describe_metrics(metrics: Mapping[str, Any]) -> str:
    values = metrics.get("metrics", {})
    texts = [f"{title} {metric_text(values[name])}" for name, title in _METRICS.items() if name in values]
    if not texts:
        return "No test metrics are available for this classifier"
    return f"End-to-end test metrics of the classifier on {images_text(metrics)}, 95 % intervals: {', '.join(texts)}"
