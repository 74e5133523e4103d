"""HTML of one finding, shared by report, notebook and web page."""

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from segpipe.inference.finding import Finding
from segpipe.language import localize_number, translate
from segpipe.lesion.appearance import REFERENCE_RGB
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.evidence import (
    KNOWN,
    NUMBERS_TITLE,
    SIMILAR_CAPTION,
    SIMILAR_TITLE,
    gate_sentences,
    has_numbers,
    judge_suspicion,
    lesion_colors,
    lesion_numbers,
    set_coverage,
    set_text,
    similar_cases,
    trust_text,
    vote_text,
)
from segpipe.report.overlays import CROPS, HEATMAPS, PHOTOGRAPHS, SHAPES, report_pictures
from segpipe.report.truth import VERDICT_SIGNS, TrueDiagnosis
from segpipe.report.wording import (
    CROP_TITLE,
    DISCLAIMER,
    HEATMAP_CAPTION,
    HEATMAP_TITLE,
    IMAGE_TITLE,
    MALIGNANT_SIGN,
    SHAPE_CAPTION,
    SHAPE_TITLE,
    SIGN_CAPTION,
    capitalized,
    class_context,
    crop_box,
    crop_caption,
    image_caption,
    mask_source_text,
    name_with_code,
    operating_points_text,
    percent,
    printable,
    reason_sentences,
    split_names,
    warning_sentences,
    warning_titles,
)
from segpipe.runs.results import Row, class_codes

# Folder of the report's pictures, by the key of a picture.
PICTURE_FOLDERS = {"image": PHOTOGRAPHS, "crop": CROPS, "heatmap": HEATMAPS, "shape": SHAPES}
_NO_URLS: Mapping[str, str] = {}


def finding_html(finding: Finding) -> str:
    """Return a finding as an HTML fragment for a notebook.

    Args:
        finding: Result of one image.

    Returns:
        One `div` that loads nothing; texts from files and cards are escaped.
    """
    row, files = finding.to_dict(), report_pictures(finding)
    explained = None if finding.class_map is None else name_with_code(finding.class_map.diagnosis)
    sources = {key: data_uri(files[folder]) for key, folder in PICTURE_FOLDERS.items() if folder in files}
    context = {
        **finding_context(row, finding.malignant, finding.operating_points, coverage=set_coverage(finding)),
        "name": printable(finding.name),
        "level": 3,
        "disclaimer": translate(DISCLAIMER),
        "pictures": pictures_context(row, sources, explained=explained),
    }
    return html_templates().get_template("notebook.html").render(context)


def data_uri(jpeg: bytes) -> str:
    """Return a JPEG file as a URL."""
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


def render_part(
    part: str,
    row: Row,
    malignant: Collection[str],
    *,
    points: Sequence[OperatingPoint],
    level: int,
    coverage: float | None = None,
    case_urls: Mapping[str, str] = _NO_URLS,
) -> str:
    """Render one part of a finding, styled by `parts.css`.

    Args:
        part: `prediction`, `probabilities`, `similar`, `numbers` or `details`.
        row: Row of the results.
        malignant: Codes of the malignant classes.
        points: Operating points of the run; empty where none are known.
        level: Level of the heading with the diagnosis, 1 to 6.
        coverage: Coverage of the prediction set; None if unknown.
        case_urls: URL of the picture of each similar case that has one, by image id.
    """
    context = finding_context(row, malignant, points, coverage=coverage, case_urls=case_urls) | {"level": level, "mask_url": None}
    return html_templates().get_template(f"{part}.html").render(context)


def finding_context(
    row: Row,
    malignant: Collection[str],
    points: Sequence[OperatingPoint],
    *,
    coverage: float | None = None,
    case_urls: Mapping[str, str] = _NO_URLS,
    true: TrueDiagnosis | None = None,
) -> dict[str, Any]:
    """Values of a finding for the templates of its parts.

    Args:
        row: Row of the results.
        malignant: Codes of the malignant classes.
        points: Operating points of the run; empty where none are known.
        coverage: Coverage of the prediction set; None if unknown.
        case_urls: URL of the picture of each similar case that has one, by image id.
        true: True diagnosis; None if unknown.
    """
    warnings, (suspicious, suspicion) = split_names(row["warnings"]), judge_suspicion(row, malignant, points)
    height, width = row["box_bottom"] - row["box_top"], row["box_right"] - row["box_left"]
    return {
        "sign": MALIGNANT_SIGN,
        "sign_caption": translate(SIGN_CAPTION),
        "diagnosis": class_context(row["diagnosis"], malignant),
        "truth": None if true is None else _true_context(true, malignant),
        "dice": None,
        "confidence": percent(row["confidence"]),
        "p_malignant": _optional_percent(row["p_malignant"]),
        "suspicious": suspicious,
        "suspicion": suspicion,
        "operating_points": operating_points_text(points),
        "unsure": ", ".join(warning_titles(warnings)),
        "warnings": warning_sentences(warnings),
        "probabilities": _probabilities_context(row, malignant),
        "any_malignant": bool(malignant),
        "mask_source": mask_source_text(MaskSource(row["mask_source"]), row["mask_area_fraction"]),
        "reasons": [capitalized(reason) for reason in reason_sentences(split_names(row["mask_reasons"]))],
        "box": translate(
            "{width} x {height} px at {left} from the left, {top} from the top",
            **{"width": width, "height": height, "left": row["box_left"], "top": row["box_top"]},
        ),
        "spread": _optional_percent(row["tta_spread"]),
        "in_lesion": _optional_percent(row["heatmap_in_lesion"]),
        "latency_ms": localize_number(f"{row['latency_ms']:,.1f}"),
        "trust": trust_text(row),
        "gate_advice": gate_sentences(row),
        "prediction_set": set_text(row, coverage),
        "known": translate(KNOWN) if row.get("similar_known") else None,
        "similar": _similar_context(row, malignant, case_urls),
        "numbers": _numbers_context(row) if has_numbers(row) else None,
    }


def _true_context(true: TrueDiagnosis, malignant: Collection[str]) -> dict[str, Any]:
    return {
        **class_context(true.code, malignant),
        "verdict": true.verdict,
        "verdict_sign": VERDICT_SIGNS[true.verdict],
        "missed": true.missed,
    }


def _similar_context(row: Row, malignant: Collection[str], urls: Mapping[str, str]) -> dict[str, Any] | None:
    cases = [
        {
            **class_context(case.diagnosis, malignant),
            "image_id": printable(case.image_id),
            "distance": localize_number(f"{case.distance:.3f}"),
            "source": urls.get(case.image_id),
        }
        for case in similar_cases(row)
    ]
    titles = {"title": translate(SIMILAR_TITLE), "caption": translate(SIMILAR_CAPTION)}
    return {**titles, "vote": vote_text(row), "cases": cases} if cases else None


def _numbers_context(row: Row) -> dict[str, Any]:
    names = [name for name in lesion_colors(row) if name in REFERENCE_RGB]
    colors = [{"name": translate(name), "rgb": f"rgb{REFERENCE_RGB[name]}"} for name in names]
    return {"title": translate(NUMBERS_TITLE), "values": lesion_numbers(row), "colors": colors}


def _probabilities_context(row: Row, malignant: Collection[str]) -> list[dict[str, Any]]:
    probs = {code: row[f"p_{code}"] for code in class_codes(row, malignant)}
    return [
        {
            **class_context(code, malignant),
            "percent": percent(prob),
            "width": f"{prob:.2%}",
            "chosen": code == row["diagnosis"],
        }
        for code, prob in sorted(probs.items(), key=lambda item: -item[1])
    ]


def _optional_percent(fraction: float | None) -> str | None:
    return None if fraction is None else percent(fraction)


def pictures_context(row: Row, sources: Mapping[str, str], *, explained: str | None) -> list[dict[str, str]]:
    """Titles, captions and sources of the pictures of a finding.

    Args:
        row: Row of the results.
        sources: URL of each picture by its key; pictures without one are left out.
        explained: Name of the class that the heatmap explains; None where it is unknown.
    """
    texts = picture_texts(row, explained=explained)
    return [
        {"key": key, "title": title, "caption": caption, "source": sources[key]}
        for key, (title, caption) in texts.items()
        if key in sources
    ]


def picture_texts(row: Row, *, explained: str | None) -> dict[str, tuple[str, str]]:
    """Title and caption of each picture, by key of `PICTURE_FOLDERS`."""
    in_lesion, heatmap = _optional_percent(row["heatmap_in_lesion"]), translate(HEATMAP_TITLE)
    hint = translate(HEATMAP_CAPTION)
    return {
        "image": (translate(IMAGE_TITLE), image_caption(MaskSource(row["mask_source"]))),
        "crop": (translate(CROP_TITLE), crop_caption(crop_box(row), row["crop_border"])),
        "heatmap": (
            heatmap if explained is None else f"{heatmap}: {explained}",
            hint if in_lesion is None else f"{hint}; {translate('{percent} in the lesion', percent=in_lesion)}",
        ),
        "shape": (translate(SHAPE_TITLE), translate(SHAPE_CAPTION)),
    }


@cache
def html_templates() -> Environment:
    """Templates of all pages; values are escaped."""
    templates = Environment(
        loader=PackageLoader("segpipe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["_"] = translate
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return templates
