"""TITLE=FOLDER: titles are for people, and each has a file name of its own."""

from pathlib import Path

import pytest

from segpipe.errors import ConfigError
from segpipe.evaluation.titles import file_name, read_titles


def test_titles_and_folders_come_apart_at_the_first_sign() -> None:
    arguments = ["ResNet-18 = runs/a b", "β=c=d"]
    assert read_titles(arguments) == {"ResNet-18": Path("runs/a b"), "β": Path("c=d")}
    assert list(read_titles(arguments)) == ["ResNet-18", "β"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("ResNet-18", "resnet-18"),
        ("a/b: C", "a_b_c"),
        ("margin -0.5", "margin_-0.5"),
        ("Über", "über"),
        ("../x", "x"),
        ("?!", ""),
    ],
)
def test_a_title_becomes_a_file_name(title: str, name: str) -> None:
    assert file_name(title) == name


@pytest.mark.parametrize("argument", ["a", "a=", "=a", "?=a", " =a"])
def test_what_has_no_title_or_no_folder_is_refused(argument: str) -> None:
    with pytest.raises(ConfigError, match="each must be given as TITLE=FOLDER"):
        read_titles(["b=c", argument])


@pytest.mark.parametrize("other", ["a b", "A  b", "a/b", "a_b"])
def test_titles_of_one_file_name_are_refused(other: str) -> None:
    with pytest.raises(ConfigError, match=f"titles must give file names of their own, got 'a b' and '{other}', both 'a_b'"):
        read_titles(["a b=c", f"{other}=d"])
