"""Changes of one lesion between two photographs; without Streamlit."""

from segpipe.language import localize_number, translate
from segpipe.report.evidence import has_numbers
from segpipe.report.wording import percent
from segpipe.runs.results import Row

_MINUS = "\N{MINUS SIGN}"
# Label, column, unit and decimals.
_NUMBERS = (
    ("Largest diameter", "abcd_diameter_mm", " mm", 1),
    ("Largest diameter", "abcd_diameter_px", " px", 0),
    ("Asymmetry of the shape", "abcd_asymmetry", "", 2),
    ("Irregularity of the border", "abcd_border", "", 2),
    ("Number of colors", "abcd_colors", "", 0),
)


def changes(first: Row, second: Row) -> list[tuple[str, str, str, str]]:
    """Compare two results of one lesion.

    Args:
        first: Row of the results of the first photograph.
        second: Row of the results of the second.

    Returns:
        Label, both values and their difference, for each value that both rows have.
    """
    rows = []
    for label, column in (("Probability of malignancy", "p_malignant"), ("Lesion area", "mask_area_fraction")):
        if first.get(column) is not None and second.get(column) is not None:
            points = _signed(100 * (second[column] - first[column]), 1)
            values = percent(first[column]), percent(second[column])
            rows.append((translate(label), *values, translate("{number} percentage points", number=points)))
    if not (has_numbers(first) and has_numbers(second)):
        return rows
    for label, column, unit, digits in _NUMBERS:
        if first.get(column) is not None and second.get(column) is not None:
            before, after = (localize_number(f"{row[column]:,.{digits}f}") + unit for row in (first, second))
            rows.append((translate(label), before, after, _signed(second[column] - first[column], digits) + unit))
    return rows


def _signed(number: float, digits: int) -> str:
    text = f"{number:+,.{digits}f}".replace("-", _MINUS)
    return localize_number(text if float(f"{number:.{digits}f}") else f"{0:.{digits}f}")
