"""Singular for one, plural for everything else."""

import pytest

from segpipe.io.numerals import counted


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1982, "1,982 images"), (1_000_000, "1,000,000 images")],
)
def test_noun_follows_its_number(number: int, words: str) -> None:
    assert counted(number, "image") == words


def test_plural_may_be_given() -> None:
    assert (counted(1, "class", "classes"), counted(3, "class", "classes")) == ("1 class", "3 classes")
