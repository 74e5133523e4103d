"""Plain-text table of one finding for the terminal, in ASCII."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from segpipe.diagnosis import full_name
from segpipe.inference.finding import Finding
from segpipe.io.files import display_path
from segpipe.report.evidence import TRUST_TITLE, gate_sentences, set_coverage, set_text, trust_text
from segpipe.report.wording import (
    DISCLAIMER,
    SIGN_CAPTION,
    certainty_phrases,
    mark_unsure,
    mask_source_text,
    name_with_code,
    percent,
    printable,
    reason_sentences,
    warning_sentences,
)

_LINE_LENGTH = 79
_LABEL_LENGTH = 14
_BAR_LENGTH = 18
_SIGN = "!"


def finding_table(name: str, finding: Finding, figure: Path | None) -> str:
    """Format a finding as a short table.

    Args:
        name: Name of the image, usually its file name; any characters.
        finding: Finding to show.
        figure: File of its figure; None where none was written.

    Returns:
        Several lines without a line break at the end; the last one is the disclaimer.
    """
    localization = finding.localization
    certainty = certainty_phrases(finding.to_dict(), finding.malignant, finding.operating_points)
    source = mask_source_text(localization.source, localization.area_fraction)
    fields = [
        *_field("warning", warning_sentences(localization.warnings)),
        *_field("diagnosis", [mark_unsure(name_with_code(finding.diagnosis), localization.warnings)]),
        *_field("confidence", [percent(finding.confidence), *certainty]),
        *_field("mask source", [source, *reason_sentences(localization.reasons)]),
        *_evidence_fields(finding),
    ]
    # Paths are not wrapped, so that they can be copied.
    path = [] if figure is None else [f"  {'figure':<{_LABEL_LENGTH}}  {display_path(figure)}"]
    return "\n".join([printable(name), *fields, *path, "", *_probability_rows(finding), "", DISCLAIMER])


def _evidence_fields(finding: Finding) -> list[str]:
    row = finding.to_dict()
    trust, possible = trust_text(row), set_text(row, set_coverage(finding))
    return [
        *_field("prediction set", [] if possible is None else [possible]),
        *_field("input gate", gate_sentences(row)),
        *_field("trust", [] if trust is None else [f"{TRUST_TITLE}: {trust.color}", *trust.sentences]),
    ]


def _field(label: str, sentences: Sequence[str]) -> list[str]:
    room = _LINE_LENGTH - _LABEL_LENGTH - 4
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, room, break_on_hyphens=False)]
    return [f"  {label if number == 0 else '':<{_LABEL_LENGTH}}  {line}" for number, line in enumerate(lines)]


def _probability_rows(finding: Finding) -> list[str]:
    names = {code: printable(full_name(code)) for code in finding.probabilities}
    longest = max(len(name) for name in names.values())
    signs = {code: _SIGN if code in finding.malignant else " " for code in finding.probabilities}
    rows = [
        f"  {signs[code]} {names[code]:<{longest}}  {percent(prob):>7}  {'#' * round(prob * _BAR_LENGTH)}".rstrip()
        for code, prob in sorted(finding.probabilities.items(), key=lambda item: -item[1])
    ]
    return [f"  probabilities ({_SIGN} {SIGN_CAPTION})" if finding.malignant else "  probabilities", *rows]
