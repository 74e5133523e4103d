"""Search of folders for images, masks and other files."""

import os
from pathlib import Path

import numpy as np
import pytest

from segpipe.errors import ImageError
from segpipe.io.folders import FoundImages, find_files, find_images, image_of_mask
from segpipe.io.images import write_png


def _tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _names(root: Path, found: FoundImages) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found.images]


def test_images_are_found_by_suffix_and_sorted_by_posix_path(tmp_path: Path) -> None:
    images = ["B.JPG", "a-b/x.png", "a.Tiff", "a/deep/er/x.webp", "a/x.jpeg", "b.bmp", "c.TIF", "z.tif"]
    others = ["a.txt", "a/metadata.csv", "noimage", "x.jpg.part", "Thumbs.db", "png"]
    _tree(tmp_path, *images, *others)
    found = find_images(tmp_path)
    assert _names(tmp_path, found) == sorted(images)
    assert found.unreadable == ()
    assert found.ignored == len(others)


@pytest.mark.parametrize(
    "name",
    [
        "ISIC_1_segmentation.png",
        "a/ISIC_1_SEGMENTATION.PNG",
        "ISIC_1_superpixels.png",
        "masks/ISIC_1.png",
        "Mask/ISIC_1.png",
        "masks/deeper/ISIC_1.png",
        "HAM10000_segmentations_lesion_tschandl/ISIC_1.png",
        "ISIC2018_Task1_Training_GroundTruth/ISIC_1.png",
        "groundtruth/ISIC_1.png",
        ".DS_Store",
        "._ISIC_1.jpg",
        ".jpg",
        ".thumbnails/ISIC_1.jpg",
    ],
)
def test_masks_and_hidden_files_are_ignored(tmp_path: Path, name: str) -> None:
    _tree(tmp_path, "ISIC_1.jpg", name)
    found = find_images(tmp_path)
    assert (_names(tmp_path, found), found.unreadable, found.ignored) == (["ISIC_1.jpg"], (), 1)


@pytest.mark.parametrize(
    "name", ["masks.jpg", "unmasked/a.jpg", "segmentation.png", "a_segmentation_b.png", "a_segmentation/b.png"]
)
def test_names_that_only_resemble_masks_are_images(tmp_path: Path, name: str) -> None:
    _tree(tmp_path, name)
    assert _names(tmp_path, find_images(tmp_path)) == [name]


def test_name_of_the_searched_folder_does_not_matter(tmp_path: Path) -> None:
    root = tmp_path / ".hidden" / "masks"
    _tree(root, "a.png")
    assert _names(root, find_images(root)) == ["a.png"]


def test_each_real_folder_is_listed_once_under_its_own_name(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    _tree(root, "real/a.png")
    _tree(outside, "b.png")
    (root / "real" / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "again").symlink_to(root / "real")
    (root / "linked").symlink_to(outside)
    (root / "linked_twice").symlink_to(outside)
    (outside / "back").symlink_to(root)
    found = find_images(root)
    assert _names(root, found) == ["linked/b.png", "real/a.png"]
    assert (found.unreadable, found.ignored) == ((), 1)  # the link to itself


def test_linked_files_and_a_linked_root_are_followed(tmp_path: Path) -> None:
    _tree(tmp_path, "root/a.png")
    (tmp_path / "root" / "b.png").symlink_to(tmp_path / "root" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    assert _names(tmp_path / "link", find_images(tmp_path / "link")) == ["a.png", "b.png"]


def test_folders_and_broken_links_with_image_names_are_reported(tmp_path: Path) -> None:
    _tree(tmp_path, "folder.jpg/inside.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "x_segmentation.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "a_pipe.bmp")
    found = find_images(tmp_path)
    assert _names(tmp_path, found) == ["folder.jpg/inside.png"]
    assert found.unreadable == (
        (tmp_path / "a_pipe.bmp", "not a regular file"),
        (tmp_path / "broken.png", "a broken link, its target does not exist"),
        (tmp_path / "folder.jpg", "a folder, not an image file"),
    )
    assert found.ignored == 2


def test_unlistable_folder_is_reported_if_it_may_hold_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path, "a.png", "closed/b.png", "masks/closed/c.png", ".Trashes/closed/d.png")
    listing = Path.iterdir

    def deny(path: Path) -> object:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", deny)
    found = find_images(tmp_path)
    assert _names(tmp_path, found) == ["a.png"]
    assert found.unreadable == ((tmp_path / "closed", "a folder that cannot be listed (Permission denied)"),)
    with pytest.raises(ImageError, match=r"closed: a folder that cannot be listed"):
        find_images(tmp_path / "closed")


def test_root_must_be_a_folder(tmp_path: Path) -> None:
    _tree(tmp_path, "a.png")
    with pytest.raises(ImageError, match=r"a\.png: a file, not a folder"):
        find_images(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"none: no such folder"):
        find_images(tmp_path / "none")


def test_empty_folder_has_no_images(tmp_path: Path) -> None:
    assert find_images(tmp_path) == FoundImages(images=(), unreadable=(), ignored=0)


@pytest.mark.parametrize("name", ["with blank.png", "a=b.png", "[1].png", "naïve.png", "\N{SNOWMAN}.png", "line\nbreak.png"])
def test_image_of_any_name_is_found(tmp_path: Path, name: str) -> None:
    _tree(tmp_path, name)
    assert find_images(tmp_path).images == (tmp_path / name,)


def test_all_files_are_listed_once(tmp_path: Path) -> None:
    _tree(tmp_path, "masks/a_segmentation.png", "table.csv", ".hidden")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert find_files(tmp_path) == [tmp_path / ".hidden", tmp_path / "masks/a_segmentation.png", tmp_path / "table.csv"]


JPEG, PNG, TIFF = b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"II*\0\x08\0\0\0"


@pytest.mark.parametrize("ending", ["jfif", "jpe", "JFI", "mpo", "apng", "dib", "TIFF", "webp", "HEIC", "heif", "hif"])
def test_rare_image_suffixes_are_known(tmp_path: Path, ending: str) -> None:
    _tree(tmp_path, f"a.{ending}")
    assert _names(tmp_path, find_images(tmp_path)) == [f"a.{ending}"]


@pytest.mark.parametrize("name", ["ISIC_0024306", "image.20210101", "a.b c", "photo.dat", "scan.avif", "x.gif"])
@pytest.mark.parametrize("head", [JPEG, PNG, b"RIFF\0\0\0\0WEBP", b"\0\0\0\x18ftypmif1", b"\0\0\0\x18ftypheic"])
def test_content_decides_if_the_suffix_is_inconclusive(tmp_path: Path, name: str, head: bytes) -> None:
    (tmp_path / name).write_bytes(head)
    assert _names(tmp_path, find_images(tmp_path)) == [name]


UNREAD = {
    "b": (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
    "c.avif": (b"x", "AVIF"),
    "c.dat": (b"\0\0\0\x20ftypavif", "AVIF"),
    "d.gif": (b"GIF89a", "GIF"),
    "e.dng": (TIFF, "camera raw"),
    "e.nef": (TIFF, "camera raw"),
    "e.iiq": (TIFF, "camera raw"),
    "e.livp": (b"PK\3\4", "Apple Live Photo"),
    "f": (b"II*\0\x10\0\0\0CR\x02\0", "Canon raw"),
    "g.jp2": (b"", "JPEG 2000"),
    "g": (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    "h.jxl": (b"", "JPEG XL"),
    "h": (b"\xff\x0a", "JPEG XL"),
    "i.psd": (b"8BPS", "Photoshop"),
    "i": (b"8BPS", "Photoshop"),
    "k": (b"SIMPLE  =                    T", "FITS"),
    "l": (b"#?RADIANCE\n", "Radiance"),
    "IM0001": (bytes(128) + b"DICM", "DICOM"),
    "j.dcm": (b"", "DICOM"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_images_of_unsupported_formats_are_reported(tmp_path: Path, name: str) -> None:
    head, kind = UNREAD[name]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / name).write_bytes(head)
    found = find_images(tmp_path)
    assert (found.images, found.ignored) == ((), 0)
    ((path, reason),) = found.unreadable
    assert path == tmp_path / "sub" / name
    assert kind in reason and "JPEG" in reason


@pytest.mark.parametrize("name", ["README", "Makefile", "notes.txt", "table.csv", "Thumbs.db", "film.mp4", "a.pdf", "x.jpg.tmp"])
@pytest.mark.parametrize("head", [b"", b"BM is short", b"P1 is no image", b"%PDF-1.7", b"\0\0\0\x18ftypisom", bytes(200)])
def test_other_files_are_only_counted(tmp_path: Path, name: str, head: bytes) -> None:
    (tmp_path / name).write_bytes(head)
    assert find_images(tmp_path) == FoundImages(images=(), unreadable=(), ignored=1)


def test_known_other_files_pipes_and_folders_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path, "a.jpg", "b.csv", "c.txt", "scan.heic/x.csv", "masks/mask", ".hidden")
    os.mkfifo(tmp_path / "pipe")

    def refuse(path: Path, *_: object) -> object:
        raise AssertionError(path)

    monkeypatch.setattr(Path, "open", refuse)
    assert _names(tmp_path, find_images(tmp_path)) == ["a.jpg"]


@pytest.mark.realdata
def test_search_of_a_data_set_finds_all_images_and_no_masks(ham10000: Path) -> None:
    found = find_images(ham10000)
    assert len({path.stem for path in found.images}) == len(found.images) == 10_015
    assert not found.unreadable


@pytest.mark.parametrize(
    "signs",
    [
        ["results.jsonl"],
        ["job.json"],
        ["checkpoints/last.ckpt"],
        ["bundle/card.json", "bundle/model.safetensors"],
        ["config.yaml", "split.csv"],
    ],
)
def test_results_of_segpipe_are_skipped(tmp_path: Path, signs: list[str]) -> None:
    pictures = ["masks/a.png", "figures/a.png", "found_masks/a.png", "test/predictions.png", "deep/er/a.jpg", "out_of_fold.csv"]
    _tree(tmp_path, "part/a.jpg", *(f"ham/exp/{name}" for name in (*signs, *pictures)))
    found = find_images(tmp_path)
    assert (_names(tmp_path, found), found.masks, found.outputs) == (["part/a.jpg"], (), (tmp_path / "ham/exp",))
    assert find_files(tmp_path) == [tmp_path / "part/a.jpg"]


def test_results_next_to_photographs_are_skipped_by_name(tmp_path: Path) -> None:
    _tree(tmp_path, "results.jsonl", "a.jpg", "deep/b.jpg", *(f"{name}/a.png" for name in ("masks", "crops", "figures")))
    found = find_images(tmp_path)
    assert (_names(tmp_path, found), found.masks, found.outputs) == (["a.jpg", "deep/b.jpg"], (), ())


def test_folders_that_only_resemble_results_are_searched(tmp_path: Path) -> None:
    names = ["bundle/a.jpg", "checkpoints/b.jpg", "x/config.yaml", "x/c.jpg", "y/card.json", "y/d.jpg"]
    _tree(tmp_path, *names)
    assert _names(tmp_path, find_images(tmp_path)) == [name for name in names if name.endswith("jpg")]


@pytest.mark.parametrize(
    ("mask", "image"),
    [
        ("x_mask.png", "x.png"),
        ("X-Mask.PNG", "X.PNG"),
        ("x_seg.bmp", "x.bmp"),
        ("x_gt.tif", "x.tif"),
        ("x.segmentation.png", "x.png"),
        ("x_ground_truth.jpg", "x.jpg"),
        ("x_annotation.png", "x.png"),
        ("mask_x.png", "x.png"),
        ("GT/x.png", "x.png"),
        ("mel/gt/x.png", "mel/x.png"),
        ("ground_truth/x.png", "x.png"),
        ("Ground Truth/x.png", "x.png"),
        ("annotations/x.png", "x.png"),
        ("lesion_masks/x.png", "x.png"),
        ("masks_train/x.png", "x.png"),
        ("SegmentationClass/x.png", "x.png"),
    ],
)
def test_masks_and_their_images_are_identified_by_name(tmp_path: Path, mask: str, image: str) -> None:
    _tree(tmp_path, "Imgs/x.jpg", mask)
    found = find_images(tmp_path)
    assert (_names(tmp_path, found), found.masks) == (["Imgs/x.jpg"], (tmp_path / mask,))
    assert image_of_mask(Path(mask)) == Path(image)


def test_masks_without_a_mask_name_are_identified_by_content(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("A/x.png", "A/y.png"):
        write_png(tmp_path / name, rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    write_png(tmp_path / "B" / "x.png", np.eye(20, 30, dtype=bool))
    found = find_images(tmp_path)
    assert (_names(tmp_path, found), found.mask_pictures, found.ignored) == (["A/x.png", "A/y.png"], (tmp_path / "B/x.png",), 1)
