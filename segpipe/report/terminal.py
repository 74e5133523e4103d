"""One finding as plain text for the terminal, in characters that every terminal and every log file can take."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from segpipe.diagnosis import full_name
from segpipe.inference.finding import Finding
from segpipe.io.images import display_path
from segpipe.report.wording import (
    DISCLAIMER,
    SIGN_CAPTION,
    answer_name,
    certainty_words,
    name_with_code,
    outline_words,
    percent,
    printable,
    reason_words,
    warning_sentences,
)

_LINE_LENGTH = 79
_LABEL_LENGTH = 14
_BAR_LENGTH = 18
_SIGN = "!"


def finding_table(name: str, finding: Finding, figure: Path | None) -> str:
    """Write a finding as a short table.

    Args:
        name: what to call the photograph, usually its file name; any characters.
        finding: what the pipeline says of it.
        figure: where the figure of it was written; None where none was.

    Returns:
        Several lines without a line break at the end; the last one says that this is no medical device.
    """
    place = finding.localization
    fields = [
        *_field("warning", warning_sentences(place.warnings)),
        *_field("diagnosis", [answer_name(name_with_code(finding.diagnosis), place.warnings)]),
        *_field("confidence", [percent(finding.confidence), *certainty_words(finding)]),
        *_field("lesion outline", [outline_words(place.source, place.area_fraction), *reason_words(place.reasons)]),
    ]
    # A path is never wrapped, so that it can be copied.
    where = [] if figure is None else [f"  {'figure':<{_LABEL_LENGTH}}  {display_path(figure)}"]
    return "\n".join([printable(name), *fields, *where, "", *_probability_rows(finding), "", DISCLAIMER])


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
