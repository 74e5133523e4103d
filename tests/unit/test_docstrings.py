"""Rules for the wording of docstrings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path
    for pattern in ("segpipe/**/*.py", "hydra_plugins/*.py", "benchmarks/*.py", "docs/*.py", "*.py")
    for path in ROOT.glob(pattern)
)
MOST_WORDS = 12  # of a summary
QUESTION_WORDS = {"what", "how", "which", "where", "whether", "when"}
# fmt: off
PREPOSITIONS = {
    "above", "after", "among", "as", "at", "before", "behind", "below", "beside", "between", "by", "for", "from", "in", "into",
    "of", "on", "onto", "over", "per", "than", "to", "under", "until", "with", "within", "without",
}
# fmt: on
RELATIVES = QUESTION_WORDS | {"that", "who", "whom", "whose", "why"}
# First words that an entry of a section may not have. "Raises" takes conditions, as in "ValueError: If the mask is empty."
FORBIDDEN = {
    "Args": PREPOSITIONS | RELATIVES | {"if"},
    "Attributes": PREPOSITIONS | RELATIVES | {"if"},
    "Returns": PREPOSITIONS | RELATIVES | {"if"},
    "Yields": PREPOSITIONS | RELATIVES | {"if"},
    "Raises": PREPOSITIONS | RELATIVES - {"when"},
}
NAMED = {"Args", "Attributes", "Raises"}  # sections whose entries are `name: text`

_SECTION = re.compile(r"([A-Z]\w+):$")
_SQUEEZED = re.compile(rf"\b({'|'.join(FORBIDDEN)}): ")
_ENTRY = re.compile(r"(?P<name>\*{0,2}`?[\w.]+`?)(?: \([^)]*\))?: *(?P<text>.*)")
_SENTENCE_END = re.compile(r"(?<=[\w`'\")\]])[.?!](?=\s|$)")


class Docstring(NamedTuple):
    owner: str  # name of the class or function, `module` for a module
    line: int
    text: str


def docstrings(source: str) -> Iterator[Docstring]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            text := ast.get_docstring(node)
        ):
            yield Docstring(getattr(node, "name", "module"), getattr(node, "lineno", 1), text)


def summary(text: str) -> str:
    """Return the first sentence of a docstring, on one line."""
    first = text.partition("\n\n")[0].replace("\n", " ")
    return _SENTENCE_END.split(first)[0]


def first_word(text: str) -> str:
    return re.split(r"[^\w'-]", text.strip(), maxsplit=1)[0].lower()


def entries(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield section, name and description of each entry."""
    section, indent = "", None
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if line and depth == 0:
            header = _SECTION.match(line)
            section, indent = (header[1] if header else ""), None
        elif line and section in FORBIDDEN:
            starts = indent is None or (depth == indent and section in NAMED)
            indent = depth if indent is None else indent
            match = _ENTRY.match(line.strip()) if section in NAMED else None
            if starts and match:
                yield section, match["name"], match["text"]
            elif starts:
                yield section, "", line.strip()


def offenses(source: str) -> list[str]:
    """List the offenses of a module, as `line, owner: rule`."""
    found = []
    for owner, line, text in docstrings(source):
        where = f"line {line}, {owner}"
        words = summary(text).split()
        if len(words) > MOST_WORDS:
            found.append(f"{where}: summary of {len(words)} words, at most {MOST_WORDS}: {' '.join(words)}")
        if owner == "module" and first_word(text) in QUESTION_WORDS:
            found.append(f"{where}: module docstring begins with {words[0]}")
        for squeezed in filter(_SQUEEZED.search, text.splitlines()):
            found.append(f"{where}: section on one line: {squeezed.strip()}")
        for section, name, entry in entries(text):
            if first_word(entry) in FORBIDDEN[section]:
                found.append(f"{where}: entry of {section} begins with {first_word(entry)!r}: {name}: {entry}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_follow_the_rules(path: Path) -> None:
    found = offenses(path.read_text(encoding="utf-8"))
    assert not found, "\n".join(["", *found])


def function(docstring: str) -> str:
    return f'def f():\n    """{docstring}"""\n'


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""Where a training starts."""', "begins with Where"),
        ('"""When: not a noun phrase."""', "begins with When"),
        (function("Compute one two three four five six seven eight nine ten eleven twelve."), "summary of 13 words"),
        (function("Compute one two three four five six\n    seven eight nine ten eleven twelve.\n    "), "summary of 13 words"),
        (function("Args: batch, float32."), "section on one line"),
        (function("Normalize. Returns: float32."), "section on one line"),
        (function("Cut.\n\n    Args:\n        box: of the lesion.\n    "), "entry of Args begins with 'of'"),
        (
            function("Cut.\n\n    Args:\n        a: Image.\n        box (Box): Of the lesion.\n    "),
            "entry of Args begins with 'of'",
        ),
        (function("Cut.\n\n    Args:\n        *paths: which are read.\n    "), "entry of Args begins with 'which'"),
        (
            'class A:\n    """Crop.\n\n    Attributes:\n        box: if it is known.\n    """',
            "entry of Attributes begins with 'if'",
        ),
        (function("Cut.\n\n    Returns:\n        whether it fits.\n    "), "entry of Returns begins with 'whether'"),
        (function("Cut.\n\n    Yields:\n        By name, the values.\n    "), "entry of Yields begins with 'by'"),
        (function("Cut.\n\n    Raises:\n        ValueError: of the first job.\n    "), "entry of Raises begins with 'of'"),
    ],
)
def test_each_offense_is_noticed(source: str, expected: str) -> None:
    (found,) = offenses(source)
    assert expected in found


@pytest.mark.parametrize(
    "source",
    [
        '"""Starting weights of a training."""',
        '"""Whatever a reader calls it."""',
        function("Compute one two three four five six seven eight nine ten eleven. Then one more sentence that is not counted."),
        function("Cut.\n\n    Args:\n        box: Lesion box,\n            in pixels.\n        offset: Asymmetric margin.\n    "),
        function("Cut.\n\n    Returns:\n        Crop of the image.\n        In original pixels.\n    "),
        function(
            "Cut.\n\n    Raises:\n        ValueError: If the box is empty.\n        TypeError: When `image` is a text.\n    "
        ),
        function("Cut.\n\n    Example:\n        of a call\n    "),
    ],
)
def test_plain_docstrings_pass(source: str) -> None:
    assert offenses(source) == []
