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
from segpipe.evaluation.text import short_hash
from segpipe.inference.finding import Finding
from segpipe.inference.given_masks import reduce_mask
from segpipe.inference.resources import keep_freed_memory
from segpipe.io.files import encode_json as encode_strict_json
from segpipe.language import localize_number, translate
from segpipe.lesion.polygon import fill_polygon, require_polygon
from segpipe.report.wording import DISCLAIMER, printable
from segpipe.runs.results import encode_results
from segpipe.types import BoolMask, Photograph

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
    finding = _predict(pipeline, decoded.photograph)
    latency_ms = decoded.decoding_ms + 1000 * (time.perf_counter() - start)
    name, sha256 = printable(decoded.upload.name), hashlib.sha256(decoded.upload.content).hexdigest()
    finding = replace(finding, path=name, sha256=sha256, latency_ms=latency_ms)
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
        mask = fill_polygon(require_polygon(corners), photograph.height, photograph.width)
    except ValueError as error:
        raise ImageError(str(error)) from error
    corrected = _predict(pipeline, photograph, mask)
    latency_ms = 1000 * (time.perf_counter() - start)
    corrected = replace(corrected, path=finding.path, sha256=finding.sha256, latency_ms=latency_ms)
    return Analysis(analysis.name, corrected, corrected.to_dict(), found=analysis.found or analysis)


def _predict(pipeline: "Pipeline", photograph: Photograph, mask: BoolMask | None = None) -> Finding:
    """Run the pipeline on a photograph, with a corrected outline if given."""
    reduced = reduce_mask(mask, photograph)
    if reduced is not None and not reduced.any():
        raise ImageError("an outline must enclose the lesion, got one that encloses nothing; draw it again")
    with image_errors():
        (finding,) = pipeline([photograph.image], masks=[reduced])
    if finding.refusal:
        raise ImageError(finding.refusal)
    return replace(finding, photograph=photograph, given_mask=mask)


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
    named = [("Segmenter", hashes["segmenter"] or translate("none")), *(("Classifier", sha256) for sha256 in classifiers)]
    models = ", ".join(f"{translate(role)} {sha256[:12]}" for role, sha256 in named)
    views = len(pipeline.ensemble.views)
    lines = [
        translate("Created {time} by segpipe {version}", time=f"{datetime.now():%Y-%m-%d %H:%M}", version=__version__),
        f"SHA-256: {models}; {translate('one view') if views == 1 else translate('{count} views averaged', count=views)}",
    ]
    if len(classifiers) > 1:
        return [*lines, translate("No test metrics are available for this ensemble")]
    return [*lines, _describe_metrics(pipeline.ensemble.networks[0].card.metrics)]


def _describe_metrics(metrics: Mapping[str, Any]) -> str:
    values = metrics.get("metrics", {})
    texts = [_describe_metric(title, values[name]) for name, title in _METRICS.items() if name in values]
    if not texts:
        return translate("No test metrics are available for this classifier")
    return translate(
        "End-to-end test metrics of the classifier on {images}, 95 % intervals: {metrics}",
        images=_describe_images(metrics),
        metrics=", ".join(texts),
    )


def _describe_metric(title: str, metric: Mapping[str, float | None]) -> str:
    value, low, high = (
        "\N{EN DASH}" if metric[name] is None else localize_number(f"{metric[name]:.3f}") for name in ("value", "low", "high")
    )
    return f"{translate(title)} {value} ({translate('{low} to {high}', low=low, high=high)})"


def _describe_images(metrics: Mapping[str, Any]) -> str:
    """Number of the test images, and their data set, part and hash."""
    count, test_set = metrics.get("images"), metrics.get("test_set")
    if count is None or test_set is None:  # cards of older versions
        return translate("an unknown test set")
    origin = ", ".join(filter(None, (test_set["dataset"], test_set["part"], short_hash(test_set["sha256"]))))
    return translate("{count} images ({origin})", count=localize_number(f"{count:,}"), origin=origin)
