"""The journal: whole lines, also after interrupted writes."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from segpipe.errors import OutputError
from segpipe.runs.journal import Journal, run_key


def row(path: str, sha256: str = "0" * 64) -> dict[str, Any]:
    return {"path": path, "sha256": sha256, "p_mel": 0.25, "flagged": None}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, "key")


def test_rows_are_read_with_their_run_key(journal: Journal) -> None:
    assert journal.read() == {}
    rows = [row("b.jpg"), row('a, "ü" 写真.jpg')]
    journal.append(rows[:1])
    journal.append(rows[1:])
    assert journal.read() == {one["path"]: one | {"run": "key"} for one in rows}
    lines = journal.path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["path"] for line in lines] == [one["path"] for one in rows]


def test_last_row_of_a_path_is_returned(journal: Journal) -> None:
    journal.append([row("a.jpg", "1" * 64)])
    journal.append([row("b.jpg"), row("a.jpg", "2" * 64)])
    assert journal.read()["a.jpg"]["sha256"] == "2" * 64


@pytest.mark.parametrize("torn", [1, 40, -1])
def test_incomplete_last_line_is_removed(journal: Journal, torn: int) -> None:
    journal.append([row("a.jpg")])
    whole = journal.path.read_bytes()
    journal.append([row("b.jpg")])
    journal.path.write_bytes(whole + journal.path.read_bytes()[len(whole) :][:torn])
    assert list(journal.read()) == ["a.jpg"]
    assert journal.path.read_bytes() == whole
    journal.append([row("c.jpg")])
    assert list(journal.read()) == ["a.jpg", "c.jpg"]


@pytest.mark.parametrize("damage", [b"\0" * 30 + b"\n", b"{}\n", b"[1]\n", b'{"path": "x"}\n', b"\xff\xfe\n"])
def test_foreign_line_is_removed(journal: Journal, damage: bytes) -> None:
    journal.append([row("a.jpg")])
    with journal.path.open("ab") as file:
        file.write(damage)
    journal.append([row("b.jpg")])
    assert list(journal.read()) == ["a.jpg", "b.jpg"]
    assert damage not in journal.path.read_bytes()


def test_rows_are_on_the_disk_before_the_call_returns(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    journal.append([row("a.jpg"), row("b.jpg")])
    assert sizes == [journal.path.stat().st_size]


def test_failed_write_leaves_the_journal_unchanged(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append([row("a.jpg")])
    before = journal.path.read_bytes()
    write = os.write

    def write_a_part(descriptor: int, content: memoryview) -> int:
        if len(content) < 100:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:50])

    monkeypatch.setattr(os, "write", write_a_part)
    with pytest.raises(OutputError, match=r"results\.jsonl: cannot be written \(No space left on device\)"):
        journal.append([row("b.jpg"), row("c.jpg")])
    assert journal.path.read_bytes() == before


def test_journal_that_cannot_be_read_is_an_output_error(journal: Journal) -> None:
    journal.path.mkdir()
    with pytest.raises(OutputError, match="cannot be read"):
        journal.read()


def test_key_depends_on_values_but_not_on_their_order() -> None:
    identity = {"tta": "d4", "crops": False}
    assert run_key(identity) == run_key(dict(reversed(identity.items())))
    assert len({run_key(identity | change) for change in ({}, {"tta": "none"}, {"crops": True}, {"new": 1})}) == 4
