"""A run as pages for a browser: one of all images and one for each; they ask for nothing outside the run's folder."""

import base64
import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from segpipe.inference.finding import Finding
from segpipe.io.images import write_file
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.html_image import (
    ReportImage,
    answer_context,
    html_templates,
    image_context,
    measures_context,
    place_context,
    url,
)
from segpipe.report.html_table import flatten, report_context
from segpipe.report.overlays import CROPS, HEATMAPS, PHOTOGRAPHS, report_pictures
from segpipe.report.wording import (
    DISCLAIMER,
    HEATMAP_CAPTION,
    MALIGNANT_SIGN,
    SIGN_CAPTION,
    name_with_code,
    operating_point_words,
    printable,
)
from segpipe.runs.results import Row


def finding_html(finding: Finding) -> str:
    """Return a finding as an HTML fragment: diagnosis, photograph, crop, heatmap and probabilities.

    Args:
        finding: result of one image.

    Returns:
        One `div`; what comes from files or cards is escaped, and nothing is loaded from elsewhere.
    """
    row, pictures = finding.to_dict(), report_pictures(finding)
    explained = None if finding.class_map is None else name_with_code(finding.class_map.diagnosis)
    return (
        html_templates()
        .get_template("notebook.html")
        .render(
            answer_context(row, finding.malignant, finding.operating_points)
            | place_context(row)
            | measures_context(row)
            | {
                "name": printable(finding.name),
                "level": 3,
                "sign": MALIGNANT_SIGN,
                "sign_caption": SIGN_CAPTION,
                "disclaimer": DISCLAIMER,
                "photograph": _data_uri(pictures[PHOTOGRAPHS]),
                "crop": _data_uri(pictures[CROPS]),
                "heatmap": _data_uri(pictures[HEATMAPS]) if HEATMAPS in pictures else None,
                "explained": explained,
                "heatmap_caption": HEATMAP_CAPTION,
            }
        )
    )


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


def write_report(
    output: Path,
    rows: Sequence[Row],
    names: Mapping[str, Path],
    failures: Sequence[tuple[str, str]],
    summary: Mapping[str, Any],
) -> Path:
    """Write `report.html` and, below `report/pages`, a page for each image.

    The pictures are not drawn here: those of `report_pictures` must lie in their folders, under each image's name with .jpg.

    Args:
        output: folder of the run, with the masks and the pictures.
        rows: lines of the results, see `Finding.to_dict`, in the order of the pages.
        names: by the path of a row, its name among the results, see `result_names`.
        failures: path and reason of the images without a result.
        summary: what `summary.json` holds.

    Returns:
        Path of `report.html`.

    Raises:
        OutputError: a page cannot be written.
    """
    images = [_image(output, row, names[row["path"]]) for row in rows]
    settings = flatten(summary["settings"] or {})
    points = [OperatingPoint(**point) for point in summary["operating_points"]]
    templates = html_templates()
    shared = {
        "disclaimer": DISCLAIMER,
        "sign": MALIGNANT_SIGN,
        "sign_caption": SIGN_CAPTION,
        "models": {role: _hashes(model) for role, model in summary["models"].items()},
        "operating_points": operating_point_words(points),
    }
    page = templates.get_template("image.html", globals=shared)
    for image, neighbours in zip(images, _neighbours(images), strict=True):
        _write_page(output / image.page, page.render(image_context(image, settings, summary["malignant"], points) | neighbours))
    script = (files("segpipe.report") / "templates" / "report.js").read_text(encoding="utf-8")
    report = templates.get_template("report.html", globals=shared)
    context = report_context(images, failures, summary, settings, points)
    # Last, so that what it links to is there.
    _write_page(output / "report.html", report.render(context, script=Markup(script), script_hash=_hash(script)))
    return output / "report.html"


def _image(output: Path, row: Row, name: Path) -> ReportImage:
    return ReportImage(row, name, has_heatmap=(output / HEATMAPS / name.with_suffix(".jpg")).exists())


def _hashes(model: str | Sequence[str] | None) -> Sequence[str]:
    """Those of one model, of several, or of none."""
    if model is None:
        return ()
    return (model,) if isinstance(model, str) else model


def _hash(script: str) -> str:
    """What a content security policy knows a script by: no other script may run, whatever gets into the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _neighbours(images: Sequence[ReportImage]) -> Iterator[dict[str, Any]]:
    """For each image, the path and page of the one before and of the one after it; None at the ends."""

    def link(number: int, start: Path) -> dict[str, str] | None:
        if not 0 <= number < len(images):
            return None
        return {"path": images[number].row["path"], "url": url(images[number].page, start=start)}

    for number, image in enumerate(images):
        start = image.page.parent
        yield {"before": link(number - 1, start), "after": link(number + 1, start)}


def _write_page(path: Path, text: str) -> None:
    # A reason may quote the bytes of a file name, which are no text.
    write_file(path, text.encode("utf-8", "backslashreplace"))
