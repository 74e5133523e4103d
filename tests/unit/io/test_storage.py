"""Folders given by URL yield the same files as by path."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from segpipe.config.composing import quote_paths
from segpipe.config.prediction import RunPipelineConfig
from segpipe.errors import ConfigError, ImageError
from segpipe.io.storage import content_hash, is_url, list_files, open_source
from segpipe.runs.source import choose_images, images_of_folder

NAMES = (
    *("b.JPG", "a b.webp", "sub/a[1]*.png", "sub/ä#?%20.jpg", "notes.txt", ".hidden.png"),
    *("masks/b.png", "sub/a_segmentation.png", "run/results.jsonl", "run/figures/b.png", "run/photo.png"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "my photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "my photos"


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("s3://bucket/a", True), ("file:///a b", True), ("photos", False), ("C:/photos", False), ("a:b", False)],
)
def test_url_is_recognized_by_its_protocol(folder: str, expected: bool) -> None:
    assert is_url(folder) is expected


def test_url_argument_is_taken_literally() -> None:
    for url in ("file:///a b/c", "s3://bucket/a,b=[c]", "file:///${HOME}/'x'"):
        assert quote_paths([f"folder={url}"])[0].startswith("folder='")


def test_hash_of_a_file_equals_that_of_its_url(folder: Path) -> None:
    expected = hashlib.sha256(b"b.JPG").hexdigest()
    assert content_hash(folder / "b.JPG") == content_hash(f"file://{folder / 'b.JPG'}") == expected
    assert content_hash(folder / "absent") is content_hash(f"file://{folder}/absent") is None


@pytest.mark.parametrize("end", ["", "/"])
def test_folder_has_the_same_images_by_url_and_by_path(folder: Path, end: str) -> None:
    by_path, by_url = images_of_folder(folder), images_of_folder(f"file://{folder}{end}")
    assert [relative for _, relative in by_url.files] == [relative for _, relative in by_path.files]
    assert len(by_path.files) == 4
    assert by_url.ignored == by_path.ignored
    for url, relative in by_url.files:
        assert isinstance(url, str)
        with open_source(url) as file:
            assert file.read() == (folder / relative).read_bytes()


def test_objects_without_suffix_are_identified_by_content(memory: Any) -> None:
    contents = {
        "a": b"\xff\xd8\xff",
        "b.avif": b"",
        "c": bytes(128) + b"DICM",
        "d": b"text",
        "e.csv": b"\xff\xd8\xff",
        "f.jpe": b"",
    }
    for name, content in contents.items():
        memory.pipe(f"/bucket/sub/{name}", content)
    source = images_of_folder("memory://bucket")
    assert [relative.as_posix() for _, relative in source.files] == ["sub/a", "sub/f.jpe"]
    assert [path for path, _ in source.failures] == ["sub/b.avif", "sub/c"]
    assert source.ignored == 2


def test_objects_are_listed_and_read(memory: Any) -> None:
    for name in NAMES:
        memory.pipe(f"/bucket/{name}", name.encode())
    source = images_of_folder("memory://bucket")
    assert [relative.as_posix() for _, relative in source.files] == sorted(NAMES[:4])
    for url, relative in source.files:
        with open_source(url) as file:
            assert file.read().decode() == relative.as_posix()
            file.seek(0)
            assert file.read(1)


@pytest.mark.parametrize("name", ["../../etc/a.jpg", "sub/../../a.jpg", "/etc/a.jpg"])
def test_object_names_that_leave_the_folder_are_ignored(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("segpipe.runs.source.list_files", lambda _: ["a.jpg", name])
    source = images_of_folder("s3://bucket")
    assert source.files == (("s3://bucket/a.jpg", Path("a.jpg")),)
    assert source.ignored == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense://bucket", r"nonsense://bucket: cannot be listed \(Protocol not known: nonsense\)"),
        ("memory://absent", "memory://absent: no such folder"),
        ("file:///no/such folder", "file:///no/such folder: no such folder"),
        ("memory://bucket/a.jpg", r"memory://bucket/a\.jpg: a file, not a folder"),
    ],
)
def test_unlistable_folder_is_a_one_line_error(memory: Any, url: str, reason: str) -> None:
    memory.pipe("/bucket/a.jpg", b"x")
    with pytest.raises(ImageError, match=f"^{reason}$"):
        list_files(url)


def test_missing_store_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise ImportError("Install s3fs\n to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(ImageError, match=r"^s3://bucket: cannot be listed \(Install s3fs to access S3\)$"):
        list_files("s3://bucket")


def test_url_without_images_is_refused_like_a_folder(memory: Any) -> None:
    memory.pipe("/bucket/notes.txt", b"x")
    config = RunPipelineConfig(folder="memory://bucket")
    with pytest.raises(ConfigError, match=r"no image to process in folder=memory://bucket \(1 other file\)"):
        choose_images(config)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memory://bucket/absent.jpg", r"cannot be read \(.*absent\.jpg.*\)"),
        ("memory://bucket/empty.jpg", r"an empty file \(0 bytes\)"),
        ("nonsense://a.jpg", r"cannot be read \(Protocol not known: nonsense\)"),
    ],
)
def test_unreadable_object_is_a_one_line_error(memory: Any, url: str, reason: str) -> None:
    memory.pipe("/bucket/empty.jpg", b"")
    with pytest.raises(ImageError, match=f"^{url}: {reason}$"), open_source(url):
        pass


def test_image_errors_name_the_url_and_bugs_pass_through(memory: Any) -> None:
    memory.pipe("/bucket/a.jpg", b"x")
    with pytest.raises(ImageError, match=r"^memory://bucket/a\.jpg: not an image$"), open_source("memory://bucket/a.jpg"):
        raise ImageError("not an image")
    with pytest.raises(ImageError, match=r"^memory://bucket/a\.jpg: needs more memory"), open_source("memory://bucket/a.jpg"):
        raise MemoryError
    with pytest.raises(ZeroDivisionError, match="a bug"), open_source("memory://bucket/a.jpg"):
        raise ZeroDivisionError("a bug")
