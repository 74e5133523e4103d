"""Image names with any slashes, suffixes and folders identify one image or none."""

import unicodedata
from pathlib import Path

import pytest

from segpipe.data.identity import KnownImages, image_ids, parse_name
from segpipe.errors import DatasetError

TREE = ("mel/0.jpg", "mel/1.jpg", "nv/0.jpg", "nv/2.png", "top.jpg")


def known(*paths: str, root: str = "/data/photos") -> KnownImages:
    return KnownImages({path: Path(root, path) for path in paths})


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("mel/0.jpg", "mel/0.jpg"),
        ("mel/0", "mel/0.jpg"),
        ("mel\\0.jpg", "mel/0.jpg"),
        ("./mel/0.JPG", "mel/0.jpg"),
        (" mel/0.jpg ", "mel/0.jpg"),
        ("photos/mel/0.jpg", "mel/0.jpg"),
        ("/data/photos/nv/0.jpg", "nv/0.jpg"),
        ("1", "mel/1.jpg"),
        ("1.png", "mel/1.jpg"),  # converted meanwhile
        ("C:\\pictures\\top.jpg", "top.jpg"),
        ("bcc/2", "nv/2.png"),
        ("nv/1", None),  # in another folder of the data set
        ("bcc/0", None),  # in an unknown folder
        ("3", None),
        ("", None),
    ],
)
def test_name_identifies_an_image(name: str, image: str | None) -> None:
    assert known(*TREE).find([name], what="labels") == ({name: (image,)} if image else {})


@pytest.mark.parametrize("name", ["0", "0.jpg"])
def test_ambiguous_name_is_refused_with_both_images(name: str) -> None:
    with pytest.raises(DatasetError, match=r"labels must say which .* may be mel/0\.jpg or nv/0\.jpg"):
        known(*TREE).find([name], what="labels")


def test_suffix_decides_between_images_of_one_stem() -> None:
    images = known("a.jpg", "a.png")
    assert images.find(["a.jpg", "a.PNG"], what="labels") == {"a.jpg": ("a.jpg",), "a.PNG": ("a.png",)}
    with pytest.raises(DatasetError, match=r"may be a\.jpg or a\.png"):
        images.find(["a"], what="labels")
    assert known("a.jpg").assign({"a.jpg": "mel", "a.png": "nv"}, what="labels") == {"a.jpg": "mel"}


def test_exact_path_takes_precedence_over_a_deeper_file_name() -> None:
    assert known("0.jpg", "mel/0.jpg").find(["0"], what="labels") == {"0": ("0.jpg",)}


def test_better_match_excludes_names_of_other_folders() -> None:
    images = known("0.jpg", "1.jpg", root="/data/photos/mel")
    values = {"mel/0.jpg": "mel", "nv/0.jpg": "nv", "mel/1": "mel"}
    assert images.assign(values, what="labels") == {"0.jpg": "mel", "1.jpg": "mel"}


def test_composed_and_decomposed_letters_match() -> None:
    decomposed = unicodedata.normalize("NFD", "mélanome/Ä.jpg")
    assert known(decomposed).find(["mélanome/Ä"], what="labels") == {"mélanome/Ä": (decomposed,)}
    assert parse_name(decomposed) == parse_name("mélanome/Ä.jpg")


def test_values_of_two_names_of_one_image_must_agree() -> None:
    images = known(*TREE)
    assert images.assign({"mel/1.jpg": "mel", "1": "mel"}, what="labels") == {"mel/1.jpg": "mel"}
    with pytest.raises(DatasetError, match=r"labels must agree, got mel and nv for mel/1\.jpg"):
        images.assign({"mel/1.jpg": "mel", "1": "nv"}, what="labels")
    with pytest.raises(DatasetError, match="must agree"):
        known("a.jpg").assign({"x/a": "mel", "y/a": "nv"}, what="labels")


def test_name_of_identical_copies_identifies_all_of_them(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("part_1/a.jpg", "part_2/a.jpg")}
    for file in files.values():
        file.parent.mkdir()
        file.write_bytes(b"same")
    assert KnownImages(files).find(["a"], what="labels") == {"a": tuple(files)}
    files["part_2/a.jpg"].write_bytes(b"else")
    with pytest.raises(DatasetError, match="which may be"):
        KnownImages(files).find(["a"], what="labels")


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        (["x/a.jpg", "y/b.png"], ["a", "b"]),
        (["mel/0.jpg", "nv/0.jpg", "nv/1.jpg"], ["mel/0", "nv/0", "1"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["0.jpg", "mel/0.jpg"], ["0", "mel/0"]),
        (["a.b.jpg", "a.c.jpg"], ["a.b", "a.c"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg", "a.png", "a.jpg.png"]),
        ([unicodedata.normalize("NFD", "é.jpg")], ["é"]),
    ],
)
def test_ids_are_the_shortest_unique_names(paths: list[str], ids: list[str]) -> None:
    assert image_ids([Path(path) for path in paths]) == ids


def test_search_among_many_equal_names_is_fast() -> None:
    images = known(*(f"patient_{number}/photo.jpg" for number in range(3000)))
    names = {f"patient_{number}/photo": str(number) for number in range(3000)}
    assert len(images.assign(names, what="labels")) == 3000
