"""What the HTML report says of one image, and where its files lie."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from segpipe.lesion.localizer import MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.overlays import CROPS, HEATMAPS, PHOTOGRAPHS
from segpipe.report.wording import (
    HEATMAP_CAPTION,
    MALIGNANT_SIGN,
    SIGN_CAPTION,
    crop_caption,
    name_with_code,
    operating_point_words,
    outline_words,
    percent,
    photograph_caption,
    printable,
    reason_words,
    suspicion_words,
    warning_sentences,
    warning_titles,
)
from segpipe.runs.results import Row, class_codes
from segpipe.types import Box

PAGES = "report/pages"
_LONGEST_NAME = 255  # bytes, what nearly every file system allows


@dataclass(frozen=True)
class ReportImage:
    """One image of a report.

    Attributes:
        row: its line of the results.
        name: its name among the results, see `segpipe.runs.source.result_names`.
        has_heatmap: there is a picture of its heatmap.
    """

    row: Row
    name: Path
    has_heatmap: bool

    @property
    def page(self) -> Path:
        """Its page, below the output folder."""
        page = PAGES / self.name.with_suffix(".html")
        # An image's name may be as long as a name can be, and .html is longer than .jpg.
        return page if len(os.fsencode(page.name)) <= _LONGEST_NAME else page.with_suffix(".htm")

    @property
    def picture(self) -> Path:
        """Its pictures, below each of the folders of pictures."""
        return self.name.with_suffix(".jpg")


def url(path: Path, *, start: Path = Path()) -> str:
    """A link to a file, both below the output folder, from a page in the folder `start`; it holds any name."""
    return "../" * len(start.parts) + quote(os.fsencode(path.as_posix()))


def described_class(code: str, malignant: Collection[str]) -> dict[str, Any]:
    """A class as pages show it; `malignant` are the codes of those that are."""
    return {"code": printable(code), "name": name_with_code(code), "malignant": code in malignant}


def share_text(share: float | None) -> str | None:
    """A share in percent, None where there is none."""
    return None if share is None else percent(share)


def image_context(
    image: ReportImage, settings: Mapping[str, Any], malignant: Collection[str], points: Sequence[OperatingPoint]
) -> dict[str, Any]:
    """What the page of an image shows, without its neighbours.

    Args:
        image: of the report.
        settings: of the run by their dotted keys, empty where they are not known.
        malignant: codes of the malignant classes.
        points: operating points of the run.
    """
    row, start = image.row, image.page.parent
    pictures = {
        f"{key}_url": url(folder / image.picture, start=start)
        for key, folder in (("photograph", Path(PHOTOGRAPHS)), ("crop", Path(CROPS)), ("heatmap", Path(HEATMAPS)))
        if key != "heatmap" or image.has_heatmap
    }
    return {
        "path": row["path"],
        "report_url": url(Path("report.html"), start=start),
        "mask_url": url("masks" / image.name, start=start),
        "heatmap_url": None,
        **pictures,
        "heatmap_caption": HEATMAP_CAPTION,
        "explained": _explained_class(row, settings),
        **answer_context(row, malignant, points),
        **place_context(row),
        **measures_context(row),
        "sha256": row["sha256"],
    }


def _explained_class(row: Row, settings: Mapping[str, Any]) -> str | None:
    if "explain.diagnosis" not in settings:
        return None
    return name_with_code(settings["explain.diagnosis"] or row["diagnosis"])


def suspicion_of(row: Row, malignant: Collection[str], points: Sequence[OperatingPoint]) -> tuple[bool, tuple[str, ...]]:
    """Whether an image is suspicious, and in which words; the arguments are those of `image_context`."""
    flagged_for = split_names(row["flagged_for"])
    is_malignant = row["diagnosis"] in malignant
    words = suspicion_words(flagged_for, [point.target for point in points], malignant=is_malignant)
    return bool(flagged_for) or is_malignant, words


def split_names(joined: str) -> list[str]:
    """The names in a field of the results that holds several, or none."""
    return joined.split(";") if joined else []


def answer_context(row: Row, malignant: Collection[str], points: Sequence[OperatingPoint]) -> dict[str, Any]:
    """What is said of the classes: diagnosis, warnings, suspicion, probabilities; the arguments are as in `image_context`."""
    suspicious, suspicion = suspicion_of(row, malignant, points)
    warnings = split_names(row["warnings"])
    probs = sorted(((code, row[f"p_{code}"]) for code in class_codes(row, malignant)), key=lambda item: -item[1])
    return {
        "diagnosis": described_class(row["diagnosis"], malignant),
        "confidence": percent(row["confidence"]),
        "p_malignant": share_text(row["p_malignant"]),
        "suspicious": suspicious,
        "suspicion": suspicion,
        "unsure": ", ".join(warning_titles(warnings)),
        "warnings": warning_sentences(warnings),
        "probabilities": [
            {
                **described_class(code, malignant),
                "percent": percent(prob),
                "width": f"{prob:.2%}",
                "chosen": code == row["diagnosis"],
            }
            for code, prob in probs
        ],
        "any_malignant": bool(malignant),
    }


def place_context(row: Row) -> dict[str, Any]:
    """Where the lesion lies, and how that was found."""
    source, reasons = MaskSource(row["mask_source"]), row["mask_reasons"]
    height, width = row["box_bottom"] - row["box_top"], row["box_right"] - row["box_left"]
    return {
        "photograph_caption": photograph_caption(source),
        "crop_caption": crop_caption(
            Box(row["crop_top"], row["crop_left"], row["crop_bottom"], row["crop_right"]), row["crop_border"]
        ),
        "outline": _sentence(outline_words(source, row["mask_area_fraction"])),
        "reasons": [_sentence(reason) for reason in reason_words(split_names(reasons))],
        "box": f"{width} pixels wide, {height} high; {row['box_left']} from the left, {row['box_top']} from the top",
    }


def measures_context(row: Row) -> dict[str, Any]:
    """How far the answer is to be trusted, and how long it took."""
    return {
        "spread": share_text(row["tta_spread"]),
        "in_lesion": share_text(row["heatmap_in_lesion"]),
        "latency_ms": f"{row['latency_ms']:,.1f}",
    }


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


@cache
def html_templates() -> Environment:
    """The templates of all pages; what is put into them is escaped."""
    templates = Environment(
        loader=PackageLoader("segpipe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return templates


def render_part(part: str, row: Row, malignant: Collection[str], *, points: Sequence[OperatingPoint], level: int) -> str:
    """One part of what is said of an image, for a page that is laid out elsewhere; `parts.css` is its style.

    Args:
        part: `answer`, `probabilities` or `found`.
        row: of the image.
        malignant: codes of the malignant classes.
        points: operating points of the run; empty where none are known.
        level: of the answer's heading, 1 to 6.
    """
    context = {
        "sign": MALIGNANT_SIGN,
        "sign_caption": SIGN_CAPTION,
        "level": level,
        "mask_url": None,
        "operating_points": operating_point_words(points),
    }
    found = answer_context(row, malignant, points) | place_context(row) | measures_context(row)
    return html_templates().get_template(f"{part}.html").render(context | found)
