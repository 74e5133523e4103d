"""What pages for a browser are put together from: the templates, and the parts that say what was found on one image."""

from collections.abc import Collection, Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.html_image import answer_context, measures_context, place_context
from segpipe.report.wording import MALIGNANT_SIGN, SIGN_CAPTION, operating_point_words
from segpipe.runs.results import Row


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
