"""Choice of the images of a run, and names of their results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from segpipe.config.prediction import RunPipelineConfig
from segpipe.errors import ConfigError, DatasetError, ImageError
from segpipe.inference.networks import batched
from segpipe.runs.source import choose_images, images_of_files, images_of_folder, result_names


def call(**values: Any) -> RunPipelineConfig:
    return RunPipelineConfig(**values)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def relatives(folder: Path, **filters: Any) -> list[str]:
    return [relative.as_posix() for _, relative in images_of_folder(folder, **filters).files]


def test_image_may_be_a_file_or_a_list_of_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/b c=[1].png")
    first, second = tmp_path / "a.jpg", tmp_path / "sub" / "b c=[1].png"
    assert choose_images(call(image=str(first))).files == ((first, Path("a.jpg")),)
    both = choose_images(call(image=[str(first), str(second)]))
    assert both.files == ((first, Path("a.jpg")), (second, Path("b c=[1].png")))


def test_numeric_image_name_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path, "12"))
    assert choose_images(call(image=12)).files == ((Path("12"), Path("12")),)


@pytest.mark.parametrize("values", [{}, {"image": "a.jpg", "folder": "."}])
def test_exactly_one_of_image_and_folder_is_given(values: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="give exactly one of image=FILE and folder=DIR"):
        choose_images(call(**values))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.jpg", r"absent\.jpg: no such file; check the path"),
        ("*.jpg", r"\*\.jpg: no such file; a \* is not expanded, use folder=DIR"),
        ("a" * 5000, "a: no such file; check the path"),
        ("dir.jpg", r"dir\.jpg: is a folder; use folder=dir\.jpg for all images in it"),
        ("", r"\.: is a folder; use folder=\."),
        ("my dir.jpg", r"my dir\.jpg: is a folder; use 'folder=my dir\.jpg' for all images in it"),
    ],
)
def test_missing_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str) -> None:
    for folder in ("dir.jpg", "my dir.jpg"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=reason):
        choose_images(call(image=name))


def test_empty_list_of_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="must hold at least one file, got an empty list"):
        choose_images(call(image=[]))


def test_files_of_equal_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/a.jpg")
    with pytest.raises(ConfigError, match=r"must hold files of different names, got a\.jpg twice; use folder="):
        images_of_files([tmp_path / "a.jpg", tmp_path / "sub" / "a.jpg"])


def test_data_set_root_gives_images_without_masks(tmp_path: Path) -> None:
    images = ["HAM10000_images_part_1/ISIC_1.jpg", "HAM10000_images_part_2/ISIC_2.jpg"]
    others = ["HAM10000_segmentations_lesion_tschandl/ISIC_1_segmentation.png", "masks/ISIC_2.png", "HAM10000_metadata.csv"]
    found = images_of_folder(touch(tmp_path, *images, *others))
    assert [relative.as_posix() for _, relative in found.files] == images
    assert found.ignored == 3


def test_paths_are_relative_and_sorted_and_broken_images_are_failures(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "sub/a.tiff", "a b.webp", "notes.txt")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    found = choose_images(call(folder=str(tmp_path)))
    assert [relative.as_posix() for _, relative in found.files] == ["a b.webp", "b.JPG", "sub/a.tiff"]
    assert [path for path, _ in found.files] == [tmp_path / relative for _, relative in found.files]
    assert [path for path, _ in found.failures] == ["folder.png", "link.jpg"]
    assert found.ignored == 1


def test_folder_must_be_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(ConfigError, match=r"folder must be an existing folder, got .*a\.jpg; image= takes a single file"):
        choose_images(call(folder=str(tmp_path / "a.jpg")))


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(ConfigError, match=r"no image to process in folder=.* \(1 other file\)"):
        images_of_folder(tmp_path)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    path = tmp_path / "split.csv"
    path.write_text("image_id,lesion_id,part\na,L1,train\nb,L2,val\nc,L3,test\nd,L3,test\nabsent,L4,test\n")
    return path


@pytest.mark.parametrize(
    ("part", "kept"),
    [(None, ["a.jpg", "b.png", "sub/c.jpg", "sub/d.jpg"]), ("train", ["a.jpg"]), ("test", ["sub/c.jpg", "sub/d.jpg"])],
)
def test_split_keeps_the_images_that_it_lists(tmp_path: Path, split: Path, part: str | None, kept: list[str]) -> None:
    folder = touch(tmp_path / "images", "a.jpg", "b.png", "sub/c.jpg", "sub/d.jpg", "unlisted.jpg")
    assert relatives(folder, split=split, part=part) == kept
    config = call(folder=str(folder), split=str(split), part=part)
    assert [relative.as_posix() for _, relative in choose_images(config).files] == kept


def test_part_needs_a_split(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(ConfigError, match="part=test needs split=CSV"):
        images_of_folder(tmp_path, part="test")


def test_split_without_any_of_the_images_is_refused(tmp_path: Path, split: Path) -> None:
    folder = touch(tmp_path / "images", "unlisted.jpg")
    with pytest.raises(ConfigError, match=r"no image to process in .*; check folder, split and part"):
        images_of_folder(folder, split=split)


def test_damaged_split_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "split.csv").write_text("image,label\na,mel\n")
    with pytest.raises(DatasetError, match="split"):
        images_of_folder(tmp_path, split=tmp_path / "split.csv")


@pytest.mark.parametrize(
    ("relative_paths", "names"),
    [
        (["a.jpg", "b.jpg"], ["a.png", "b.png"]),
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"]),
        (["a.jpg", "A.png"], ["a.jpg.png", "A.png.png"]),
        (["a.jpg", "sub/a.jpg", "sub/a.png"], ["a.png", "sub/a.jpg.png", "sub/a.png.png"]),
        (["a.b.jpg", "a.c.jpg"], ["a.b.png", "a.c.png"]),
        (["a.jpg", "a.png", "a.jpg.bmp"], ["a.jpg.png", "a.png.png", "a.jpg.bmp.png"]),
        (["a.jpg", "A.JPG.bmp"], ["a.png", "A.JPG.bmp.png"]),
        (["sub.jpg/a.jpg", "sub.png/a.jpg"], ["sub.jpg/a.png", "sub.png/a.png"]),
        (["a=1 [b], 'c' #.jpg"], ["a=1 [b], 'c' #.png"]),
    ],
)
def test_result_names_drop_the_ending_unless_shared(relative_paths: Sequence[str], names: Sequence[str]) -> None:
    found = result_names([Path(relative) for relative in relative_paths])
    assert found == {Path(relative): Path(name) for relative, name in zip(relative_paths, names, strict=True)}
    assert len({str(name).casefold() for name in found.values()}) == len(names)


def test_batches_keep_all_items_in_order() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batched([], 3)) == []


@pytest.mark.parametrize("given", [{"split": "split.csv"}, {"part": "test"}, {"shard": "0/2"}])
def test_split_and_part_need_a_folder(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="split, part and shard choose among the images of a folder"):
        choose_images(call(image="a.jpg", **given))


def test_split_matches_paths_and_reports_unlisted_images(tmp_path: Path) -> None:
    folder = touch(tmp_path / "photos", "mel/0.jpg", "nv/0.jpg", "nv/1.jpg", "nv/2.jpg")
    (tmp_path / "split.csv").write_text("image_id;lesion_id;part\nmel\\0.jpg;L1;train\nnv/0.jpg;L2;test\n")
    source = images_of_folder(folder, split=tmp_path / "split.csv", part="test")
    assert [relative.as_posix() for _, relative in source.files] == ["nv/0.jpg"]
    assert any("2 of 4" in remark and "nv/1.jpg" in remark for remark in source.remarks)


def test_result_folders_are_skipped_and_reported(tmp_path: Path) -> None:
    folder = touch(tmp_path / "photos", "a.jpg", "old/results.jsonl", "old/masks/a.png", "old/figures/a.png")
    source = images_of_folder(folder)
    assert [relative.as_posix() for _, relative in source.files] == ["a.jpg"]
    assert any("old" in remark for remark in source.remarks)


def test_a_folder_of_masks_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no image to process .*masks by their names: 2, such as GT/b\.png"):
        images_of_folder(touch(tmp_path, "a_mask.png", "GT/b.png"))
