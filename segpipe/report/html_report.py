"""HTML report of a run: overview, and a page for each image.

The pages load nothing from outside the output folder.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from segpipe.io.files import write_file
from segpipe.io.passes import follow
from segpipe.io.run_files import MASKS, REPORT
from segpipe.report.contents import ReportContents, ReportImage, collect_contents
from segpipe.report.html_finding import PICTURE_FOLDERS, finding_context, html_templates, pictures_context
from segpipe.report.html_table import overview_context, url
from segpipe.report.html_truth import tiles, truth_context
from segpipe.report.similar_pictures import write_similar_pictures
from segpipe.report.truth import NO_TRUTH, ReportTruth
from segpipe.report.wording import DISCLAIMER, MALIGNANT_SIGN, SIGN_CAPTION
from segpipe.runs.results import Row


def write_report(
    output: Path,
    rows: Sequence[Row],
    names: Mapping[str, Path],
    failures: Sequence[tuple[str, str]],
    summary: Mapping[str, Any],
    *,
    training_images: Path | None = None,
    truth: ReportTruth = NO_TRUTH,
) -> Path:
    """Write `report.html`, and a page for each image below `report/pages`.

    The pictures of `report_pictures` must already be in their folders, named after the images with .jpg.

    Args:
        output: Output folder of the run, with the masks and the pictures.
        rows: Rows of the results, see `Finding.to_dict`. The pages follow the probability of malignancy, the largest first.
        names: Name of each image among the results by the path of its row, see `result_names`.
        failures: Path and reason of each image without a result.
        summary: Content of `summary.json`.
        training_images: Folder of the training images, for pictures of similar cases; None for their names alone.
        truth: True diagnoses and masks, as far as they are known.

    Returns:
        Path of `report.html`.

    Raises:
        OutputError: A page cannot be written.
    """
    contents = collect_contents(output, rows, names, failures, summary, truth=truth)
    cases = {} if training_images is None else write_similar_pictures(output, rows, training_images)
    templates = html_templates()
    shared = {"disclaimer": DISCLAIMER, "sign": MALIGNANT_SIGN, "sign_caption": SIGN_CAPTION, "models": contents.models}
    page = templates.get_template("image.html", globals=shared)
    shown = follow(contents.images, len(contents.images), "pages of the report")
    for image, neighbors in zip(shown, _neighbors(contents.images), strict=True):
        _write_page(output / image.page, page.render(_image_context(image, contents, cases) | neighbors))
    script = (files("segpipe.report") / "templates" / "report.js").read_text(encoding="utf-8")
    report = templates.get_template("report.html", globals=shared)
    overview = {**overview_context(contents), "tiles": tiles(contents), "truth": truth_context(contents)}
    # Last, so that all links lead to files.
    _write_page(output / REPORT, report.render(overview, script=Markup(script), script_hash=_hash(script)))
    return output / REPORT


def _image_context(image: ReportImage, contents: ReportContents, cases: Mapping[str, Path]) -> dict[str, Any]:
    """Values of the page of an image, except its neighbors."""
    row, start = image.row, image.page.parent
    missing = {key for key, exists in (("heatmap", image.has_heatmap), ("shape", image.has_shape)) if not exists}
    sources = {
        key: url(Path(folder) / image.picture, start=start) for key, folder in PICTURE_FOLDERS.items() if key not in missing
    }
    case_urls = {image_id: url(path, start=start) for image_id, path in cases.items()}
    malignant, points, coverage = contents.malignant, contents.points, contents.coverage
    return {
        **finding_context(row, malignant, points, coverage=coverage, case_urls=case_urls, true=image.true),
        "dice": None if image.mask is None else f"{image.mask.dice:.3f}",
        "name": row["path"],
        "sha256": row["sha256"],
        "report_url": url(Path(REPORT), start=start),
        "mask_url": url(MASKS / image.name, start=start),
        "pictures": [
            {**picture, "true_mask": image.mask if picture["key"] == "image" else None}
            for picture in pictures_context(row, sources, explained=contents.explained_class(row))
        ],
    }


def _neighbors(images: Sequence[ReportImage]) -> Iterator[dict[str, Any]]:
    """Links to the previous and next page of each image."""

    def link(number: int, start: Path) -> dict[str, str] | None:
        if not 0 <= number < len(images):
            return None
        return {"path": images[number].row["path"], "url": url(images[number].page, start=start)}

    for number, image in enumerate(images):
        start = image.page.parent
        yield {"before": link(number - 1, start), "after": link(number + 1, start)}


def _hash(script: str) -> str:
    """Hash of the only script that the content security policy allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _write_page(path: Path, text: str) -> None:
    # A reason may quote the bytes of a file name that is not valid text.
    write_file(path, text.encode("utf-8", "backslashreplace"))
