"""Titles of runs and bundles, and their file names."""

from pathlib import Path

import pytest

from segpipe.comparison.table import file_name, name_folders
from segpipe.errors import ConfigError


def test_titles_name_the_folders_in_their_order() -> None:
    named = name_folders(["runs/a b", "c=d"], ["ResNet-18", "β"])
    assert named == {"ResNet-18": Path("runs/a b"), "β": Path("c=d")}
    assert list(named) == ["ResNet-18", "β"]


def test_default_titles_are_the_names_of_folders_or_trainings() -> None:
    assert list(name_folders(["runs/resnet18/bundle", "runs/b0/test", "other/", "deep/own"])) == [
        "resnet18",
        "b0",
        "other",
        "own",
    ]


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
def test_title_is_converted_to_a_file_name(title: str, name: str) -> None:
    assert file_name(title) == name


@pytest.mark.parametrize("title", ["", "?", " "])
def test_title_without_letter_or_digit_is_refused(title: str) -> None:
    with pytest.raises(ConfigError, match="titles must hold a letter or digit"):
        name_folders(["x", "y"], ["b", title])


def test_number_of_titles_is_that_of_folders() -> None:
    with pytest.raises(ConfigError, match="titles must be as many as there are folders, 2, got 1"):
        name_folders(["x", "y"], ["b"])


@pytest.mark.parametrize("other", ["a b", "A  b", "a/b", "a_b"])
def test_titles_with_the_same_file_name_are_refused(other: str) -> None:
    with pytest.raises(ConfigError, match=f"titles must give different file names, got 'a b' and '{other}', both 'a_b'"):
        name_folders(["x", "y"], ["a b", other])


def test_folders_of_the_same_name_need_titles() -> None:
    with pytest.raises(ConfigError, match=r"both 'a'; set titles="):
        name_folders(["x/a", "y/a"])
