"""Messages that the troubleshooting page quotes, compared with the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUOTED = re.findall(r"^\*\*`(.+?)`\.?\*\*", (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
NOT_OURS = {"segpipe: command not found"}
# Parts of a message that differ between calls: numbers, quoted names, lists.
_VARYING = re.compile(
    r"\.\.\.|\bmust be\b|'[^']*'|[\d,]*\d\b|\bJPEG\b|\bdevice=cuda\b|\bclassifier\b|\bsegmenter\b|\btta\b|\bk$|\bx\b|\bval\b|="
)


def texts() -> str:
    """Return all text constants; line breaks stand for inserted values."""
    found = []
    for path in ROOT.glob("segpipe/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "\n" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


@pytest.fixture(scope="module")
def messages() -> str:
    return texts()


@pytest.mark.parametrize("message", sorted({*QUOTED} - NOT_OURS))
def test_quoted_message_is_in_the_code(message: str, messages: str) -> None:
    parts = [part.strip(" ,;") for part in _VARYING.split(message)]
    assert any(len(part) > 5 for part in parts)
    assert [part for part in parts if len(part) > 5 and part not in messages] == []


def test_page_quotes_messages() -> None:
    assert len(QUOTED) > 20
