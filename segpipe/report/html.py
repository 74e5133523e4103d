"""A run as pages for a browser: one of all images and one for each; they ask for nothing outside the run's folder."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from segpipe.io.images import write_file
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.html_image import ReportImage, image_context, url
from segpipe.report.html_parts import html_templates
from segpipe.report.html_pictures import HEATMAPS
from segpipe.report.html_table import flatten, report_context
from segpipe.report.wording import DISCLAIMER, MALIGNANT_SIGN, SIGN_CAPTION, operating_point_words
from segpipe.runs.results import Row


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
