"""Paths among the arguments of a call, which are taken literally whatever their characters."""

import re
from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString

_PATH_ARGUMENT = re.compile(
    r"(\+{0,2}(?:image|folder|output|results|labels|masks|split|ckpt_path|bundles|runs|bundle\.\w+|distill\.teacher|data\.(?:root|cache|table)"
    r"|(?:segmenter|classifier)\.init)=)(.+)",
    re.DOTALL,
)


def quote_paths(overrides: Sequence[str]) -> list[str]:
    """Quote the values of path keys for Hydra's grammar, so that they are taken literally whatever their characters.

    Args:
        overrides: `key=value` arguments as the shell hands them over; a `[list]`, `null` and an empty value stay as they are.
    """
    return [_quote_path(override) for override in overrides]


def quote_text(text: str) -> str:
    """Quote a text for Hydra's grammar, whatever its characters."""
    uninterpolated = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return str(QuotedString(uninterpolated, Quote.single).with_quotes())


def _quote_path(override: str) -> str:
    match = _PATH_ARGUMENT.fullmatch(override)
    if match is None or match[2] == "null" or (match[2][0], match[2][-1]) == ("[", "]"):
        return override
    return match[1] + quote_text(match[2])
