"""One finding as HTML for a notebook: pictures and style are inside, and no style leaks into the rest of the page."""

from base64 import b64encode

from segpipe.inference.finding import Finding
from segpipe.report.html_image import answer_context, measures_context, place_context
from segpipe.report.html_parts import html_templates
from segpipe.report.html_pictures import CROPS, HEATMAPS, PHOTOGRAPHS, report_pictures
from segpipe.report.wording import DISCLAIMER, HEATMAP_CAPTION, MALIGNANT_SIGN, SIGN_CAPTION, name_with_code, printable


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
