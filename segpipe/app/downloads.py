"""What a visitor takes home: JSON, figure and PDF of one finding, the table of many. All drawn anew from pixels and numbers."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from segpipe import __version__
from segpipe.app.examination import Examination
from segpipe.evaluation.scored_images import images_text
from segpipe.evaluation.table import figure_text
from segpipe.io.numerals import counted
from segpipe.io.strict_json import encode_json as encode_strict_json
from segpipe.report.wording import DISCLAIMER
from segpipe.runs.results import encode_results

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline


# Accuracy alone misleads, so it is none of them.
_FIGURES = {"balanced_accuracy": "balanced accuracy", "sensitivity_mel": "melanoma sensitivity", "macro_auroc": "macro AUROC"}


def safe_stem(name: str) -> str:
    """What the files of a photograph are offered under: its name without the ending, in letters that any system takes."""
    return re.sub(r"[^\w-]+", "_", PurePath(name).stem).strip("_")[:60] or "photograph"


def encode_json(examination: Examination, pipeline: "Pipeline") -> bytes:
    """The line of the results as JSON, with the models that it comes from."""
    from segpipe.bundle.card import library_versions
    from segpipe.runs.summary import model_hashes

    content = {
        "notice": DISCLAIMER,
        "finding": dict(examination.row),
        "models": model_hashes(pipeline),
        "localize": str(pipeline.locator.start),
        "views": len(pipeline.ensemble.views),
        "explain": pipeline.ensemble.explained,
        "precision": str(pipeline.ensemble.precision).removeprefix("torch."),
        "versions": library_versions(),
    }
    return encode_strict_json(content)


def encode_picture(examination: Examination) -> bytes:
    """The figure of the command line, as PNG."""
    from segpipe.report.figure import encode_figure

    return encode_figure(examination.finding, examination.name)


def encode_report(examination: Examination, pipeline: "Pipeline") -> bytes:
    """The page for a record, as PDF."""
    from segpipe.report.page import encode_page

    about = _about(pipeline)
    return encode_page(examination.finding, title=examination.name, about=about)


def encode_table(examinations: Sequence[Examination]) -> bytes:
    """`results.csv` of photographs that one model named."""
    return encode_results([examination.row for examination in examinations], list(examinations[0].finding.probabilities))


def _about(pipeline: "Pipeline") -> list[str]:
    """Where a finding comes from: when, by what, and how good that was found to be."""
    from segpipe.runs.summary import model_hashes

    hashes = model_hashes(pipeline)
    classifiers = hashes["classifier"] if isinstance(hashes["classifier"], list) else [hashes["classifier"]]
    named = [f"segmenter {(hashes['segmenter'] or 'none')[:12]}", *(f"classifier {sha256[:12]}" for sha256 in classifiers)]
    views = len(pipeline.ensemble.views)
    lines = [
        f"Made {datetime.now():%Y-%m-%d %H:%M} by segpipe {__version__}",
        f"SHA-256: {', '.join(named)}; {counted(views, 'view')}{' averaged' if views > 1 else ''}",
    ]
    if len(classifiers) > 1:
        return [*lines, "How good the mean of these classifiers is has not been measured"]
    return [*lines, _measured(pipeline.ensemble.bundles[0].card.metrics)]


def _measured(metrics: Mapping[str, Any]) -> str:
    figures = metrics.get("metrics", {})
    texts = [f"{title} {figure_text(figures[name])}" for name, title in _FIGURES.items() if name in figures]
    if not texts:
        return "How good the classifier is has not been measured"
    return f"In the classifier's own test, end to end, on {images_text(metrics)}, with 95 % intervals: {', '.join(texts)}"
