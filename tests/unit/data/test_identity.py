"""Names mean one image or none, whatever slashes, endings and folders they are written with."""

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
        ("1.png", "mel/1.jpg"),  # converted since
        ("C:\\pictures\\top.jpg", "top.jpg"),
        ("bcc/2", "nv/2.png"),
        ("nv/1", None),  # of another folder of the data set
        ("bcc/0", None),  # of a folder that is not there
        ("3", None),
        ("", None),
    ],
)
def test_a_name_means_an_image(name: str, image: str | None) -> None:
    assert known(*TREE).find([name], what="labels") == ({name: (image,)} if image else {})


@pytest.mark.parametrize("name", ["0", "0.jpg"])
def test_a_name_that_may_mean_two_images_is_refused_with_both(name: str) -> None:
    with pytest.raises(DatasetError, match=r"labels must say which .* may be mel/0\.jpg or nv/0\.jpg"):
        known(*TREE).find([name], what="labels")


def test_the_ending_decides_where_it_alone_can() -> None:
    images = known("a.jpg", "a.png")
    assert images.find(["a.jpg", "a.PNG"], what="labels") == {"a.jpg": ("a.jpg",), "a.PNG": ("a.png",)}
    with pytest.raises(DatasetError, match=r"may be a\.jpg or a\.png"):
        images.find(["a"], what="labels")
    assert known("a.jpg").assign({"a.jpg": "mel", "a.png": "nv"}, what="labels") == {"a.jpg": "mel"}


def test_a_path_is_meant_before_a_file_name_deeper_down() -> None:
    assert known("0.jpg", "mel/0.jpg").find(["0"], what="labels") == {"0": ("0.jpg",)}


def test_names_of_other_folders_stay_out_of_a_folder_that_one_of_them_means() -> None:
    images = known("0.jpg", "1.jpg", root="/data/photos/mel")
    values = {"mel/0.jpg": "mel", "nv/0.jpg": "nv", "mel/1": "mel"}
    assert images.assign(values, what="labels") == {"0.jpg": "mel", "1.jpg": "mel"}


def test_composed_and_decomposed_letters_meet() -> None:
    decomposed = unicodedata.normalize("NFD", "mélanome/Ä.jpg")
    assert known(decomposed).find(["mélanome/Ä"], what="labels") == {"mélanome/Ä": (decomposed,)}
    assert parse_name(decomposed) == parse_name("mélanome/Ä.jpg")


def test_two_names_of_one_image_must_agree() -> None:
    images = known(*TREE)
    assert images.assign({"mel/1.jpg": "mel", "1": "mel"}, what="labels") == {"mel/1.jpg": "mel"}
    with pytest.raises(DatasetError, match=r"labels must agree, got mel and nv for mel/1\.jpg"):
        images.assign({"mel/1.jpg": "mel", "1": "nv"}, what="labels")
    with pytest.raises(DatasetError, match="must agree"):
        known("a.jpg").assign({"x/a": "mel", "y/a": "nv"}, what="labels")


def test_copies_of_one_content_are_meant_together(tmp_path: Path) -> None:
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
def test_ids_are_as_short_as_they_can_be(paths: list[str], ids: list[str]) -> None:
    assert image_ids([Path(path) for path in paths]) == ids


def test_many_images_of_one_name_are_found_in_no_time() -> None:
    images = known(*(f"patient_{number}/photo.jpg" for number in range(3000)))
    names = {f"patient_{number}/photo": str(number) for number in range(3000)}
    assert len(images.assign(names, what="labels")) == 3000
