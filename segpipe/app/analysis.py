"""Analyses of uploads, and their files to download; without Streamlit."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from segpipe import __version__
from segpipe.app.uploads import Analysis, DecodedUpload, image_errors
from segpipe.errors import ImageError
from segpipe.evaluation.text import images_text, metric_text
from segpipe.inference.given_masks import read_given_mask
from segpipe.inference.image_sources import FailedPrediction, predict_batch
from segpipe.inference.resources import keep_freed_memory
from segpipe.io.files import counted
from segpipe.io.files import encode_json as encode_strict_json
from segpipe.lesion.polygon import fill_polygon, require_polygon
from segpipe.report.wording import DISCLAIMER, printable
from segpipe.runs.results import encode_results

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline

# All networks run on one thread: visitors take turns with all cores, and memory is reused. Streamlit runs each click on a new
# thread, which would have its own part of the heap and its own worker threads.
NETWORK_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="networks", initializer=keep_freed_memory)
# Accuracy alone misleads, so it is not among them.
_METRICS = {"balanced_accuracy": "balanced accuracy", "sensitivity_mel": "melanoma sensitivity", "macro_auroc": "macro AUROC"}


def analyze(pipeline: "Pipeline", decoded: DecodedUpload) -> Analysis:
    """Run the pipeline on a decoded upload.

    Raises:
        ImageError: The image cannot be used, or a model returned a number that is not finite; without the file name.
    """
    start = time.perf_counter()
    with image_errors():
        finding = pipeline([decoded.photograph.image])[0]
    if finding.refusal:
        raise ImageError(finding.refusal)
    latency_ms = decoded.decoding_ms + 1000 * (time.perf_counter() - start)
    name, sha256 = printable(decoded.upload.name), hashlib.sha256(decoded.upload.content).hexdigest()
    finding = replace(finding, photograph=decoded.photograph, path=name, sha256=sha256, latency_ms=latency_ms)
    return Analysis(name, finding, finding.to_dict())


def correct_outline(pipeline: "Pipeline", analysis: Analysis, corners: object) -> Analysis:
    """Run the pipeline again with a corrected outline.

    Args:
        pipeline: Pipeline of the analysis.
        analysis: Analysis of the image, corrected before or not.
        corners: Corners of the outline as a browser sent them, see `segpipe.lesion.polygon.require_polygon`.

    Raises:
        ImageError: The outline is none or encloses nothing, the gate rejects it, or a model returned a number that is not finite.
    """
    start, finding = time.perf_counter(), analysis.finding
    photograph = finding.photograph
    try:
        drawn = fill_polygon(require_polygon(corners), photograph.height, photograph.width)
        mask = read_given_mask(drawn, photograph)
    except ValueError as error:
        raise ImageError(str(error)) from error
    (outcome,) = predict_batch(pipeline, [photograph], [mask])
    if isinstance(outcome, FailedPrediction):
        raise ImageError(outcome.reason)
    latency_ms = 1000 * (time.perf_counter() - start)
    corrected = replace(outcome, path=finding.path, sha256=finding.sha256, latency_ms=latency_ms)
    return Analysis(analysis.name, corrected, corrected.to_dict(), found=analysis.found or analysis)


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
