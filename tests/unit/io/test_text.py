"""Counts, paths and foreign text in messages."""

import os
from pathlib import Path

import pytest

from segpipe.io.files import counted, display_path, one_line


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1982, "1,982 images"), (1_000_000, "1,000,000 images")],
)
def test_noun_agrees_with_its_number(number: int, words: str) -> None:
    assert counted(number, "image") == words


def test_irregular_plural_is_used() -> None:
    assert (counted(1, "class", "classes"), counted(3, "class", "classes")) == ("1 class", "3 classes")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain/a b.jpg", "plain/a b.jpg"),
        ("naïve皮.jpg", "naïve皮.jpg"),
        ("a\u202fPM.jpg", "a\u202fPM.jpg"),
        ("a\nb\t\x1b[31m.jpg", r"a\x0ab\x09\x1b[31m.jpg"),
        ("a\u202eb\x85.jpg", r"a\xe2\x80\xaeb\xc2\x85.jpg"),
        (os.fsdecode(b"\xff\xc3.jpg"), r"\xff\xc3.jpg"),
        ("\ud800.jpg", r"\xed\xa0\x80.jpg"),
    ],
)
def test_display_path_escapes_unprintable_characters(name: str, shown: str) -> None:
    assert display_path(Path(name)) == shown
    shown.encode()


def test_one_line_joins_lines_and_escapes_control_characters() -> None:
    assert one_line("a\n  b\x1b[31m") == r"a b\x1b[31m"
    assert one_line("abcdef", 3) == "abc"
