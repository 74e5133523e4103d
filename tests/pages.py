"""Code blocks and command lines in README and docs."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "data/README.md", *(f"docs/{path.name}" for path in sorted(ROOT.glob("docs/*.md")))]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+")
_WRONG_CALL = re.compile(r"^\| `(.+?)` \| (.+) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: Path of the page in the repository.
        language: Word behind the fence; `indented` for a block without a fence.
        text: Content.
    """

    page: str
    language: str
    text: str


def read_page(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> Iterator[Block]:
    text = read_page(page)
    for language, content in _FENCED.findall(text):
        yield Block(page, language, content)
    for content in _INDENTED.findall(_FENCED.sub("", text)):
        yield Block(page, "indented", re.sub("^    ", "", content, flags=re.MULTILINE))


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


def command_lines(block: Block) -> Iterator[list[str]]:
    """Split a shell block into the words of its commands."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words[: words.index(">")] if ">" in words else words


def wrong_calls(page: str) -> list[tuple[str, list[str]]]:
    """Read a table of wrong calls and quoted parts of messages."""
    table = read_page(page).partition("## Wrong calls")[2]
    return [(call, re.findall("`(.+?)`", message)) for call, message in _WRONG_CALL.findall(table)]
