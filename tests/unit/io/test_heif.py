"""HEIC images: read with the extra heif, named without it."""

import importlib.util
import io
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from damage import damage_anywhere, photo
from PIL import ExifTags, Image, ImageOps

from segpipe.data.identity import image_ids
from segpipe.data.loaders import load_folders
from segpipe.errors import DatasetError, ImageError
from segpipe.inference.image_sources import read_source
from segpipe.io.folders import find_images
from segpipe.io.image_formats import count_unread, heic_reason, unread_reason
from segpipe.io.images import decode_photograph, read_image, read_thumbnail
from segpipe.io.passes import keeping_results
from segpipe.types import RgbImage

needs_heif = pytest.mark.skipif(
    importlib.util.find_spec("pillow_heif") is None, reason="needs pillow-heif: pip install -e .[heif]"
)
HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
PHOTO = photo(144, 208)
# Mean difference of undamaged images, and largest number of damaged files that no decoder can recognize, as for JPEG.
SAME = 2
UNDETECTED = {"flipped byte": 90, "hole of ones": 22, "bytes added": 20}


def heic(image: Image.Image, **options: object) -> bytes:
    """Encode an image as HEIC."""
    from pillow_heif import from_pillow

    buffer = io.BytesIO()
    from_pillow(image).save(buffer, **{"quality": 95, "chroma": "444", **options})
    return buffer.getvalue()


def difference(image: RgbImage, other: RgbImage) -> float:
    """Return the mean absolute difference of two images of one shape."""
    assert image.shape == other.shape
    return float(np.abs(image.astype(int) - other).mean())


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


@needs_heif
@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.jpg", "a"])
def test_photograph_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(heic(Image.fromarray(PHOTO)))
    assert find_images(tmp_path).images == (tmp_path / name,)
    image = read_image(tmp_path / name)
    assert difference(image, PHOTO) < 4
    assert image.flags.c_contiguous and image.flags.writeable
    np.testing.assert_array_equal(read_source(tmp_path / name, least_side=1000, max_pixels=10**6).photograph.image, image)
    reduced = decode_photograph(io.BytesIO((tmp_path / name).read_bytes()), least_side=50)
    assert (reduced.image.shape[:2], reduced.height, reduced.width) == ((72, 104), 144, 208)
    assert read_thumbnail(tmp_path / name, side=8).shape == (8, 8)


@needs_heif
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_a_viewer(orientation: int) -> None:
    image, exif = Image.fromarray(PHOTO), Image.Exif()
    exif[ExifTags.Base.Orientation] = image.getexif()[ExifTags.Base.Orientation] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    data = heic(Image.fromarray(PHOTO), exif=exif.tobytes())
    assert difference(read_image(data), upright) < 4
    photograph = decode_photograph(io.BytesIO(data), least_side=1000)
    assert (photograph.height, photograph.width) == upright.shape[:2]


@needs_heif
def test_gray_transparent_and_deep_images_are_read() -> None:
    gray = np.asarray(Image.fromarray(PHOTO).convert("L"))
    assert difference(read_image(heic(Image.fromarray(gray))), np.stack([gray] * 3, axis=-1)) < 4
    clear = Image.fromarray(PHOTO)
    clear.putalpha(Image.new("L", clear.size, 0))
    assert difference(read_image(heic(clear)), np.full_like(PHOTO, 255)) < 4
    deep = Image.fromarray((gray.astype(np.uint16) << 8) + 5)
    assert difference(read_image(heic(deep)), np.stack([gray] * 3, axis=-1)) < 4


@needs_heif
def test_the_primary_image_of_several_is_read() -> None:
    from pillow_heif import HeifFile

    file, buffer = HeifFile(), io.BytesIO()
    file.add_from_pillow(Image.new("RGB", (64, 64), "white"))
    file.add_from_pillow(Image.fromarray(PHOTO))
    file.save(buffer, quality=95, chroma="444", primary_index=1)
    assert difference(read_image(buffer.getvalue()), PHOTO) < 4


@needs_heif
def test_too_many_pixels_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    from pillow_heif import HeifImageFile

    def decode(_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(HeifImageFile, "load", decode)
    with pytest.raises(ImageError, match="208 x 144 = 29952 pixels, more than max_pixels=29951"):
        read_image(heic(Image.fromarray(PHOTO)), max_pixels=29_951)


@needs_heif
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_truncated_files_are_refused(fraction: float) -> None:
    data = heic(Image.fromarray(PHOTO))
    with pytest.raises(ImageError, match="the HEIC is truncated"):
        read_image(data[: int(fraction * len(data))])
    with pytest.raises(ImageError, match="the HEIC is truncated"):
        read_image(HEAD)


@needs_heif
def test_lost_data_are_detected_although_the_decoder_conceals_them() -> None:
    kinds = {
        "full chroma": heic(Image.fromarray(photo())),
        "phone": heic(Image.fromarray(photo()), quality=80, chroma="420"),
        "tiles": heic(Image.fromarray(photo(300, 520)), quality=80, tile_size=256),
        "gray": heic(Image.fromarray(photo()).convert("L"), quality=80),
    }
    tally: Counter[tuple[str, str]] = Counter()
    for number, data in enumerate(kinds.values()):
        whole = read_image(data)
        for case in damage_anywhere(data, np.random.default_rng(number)):
            try:
                image = read_image(case.data)
            except ImageError as error:
                assert "the HEIC is truncated" in str(error)
                tally[case.family, "refused"] += 1
            else:
                same = image.shape == whole.shape and difference(image, whole) <= SAME
                tally[case.family, "read" if same else "undetected"] += 1
    for family in ("cut off", "hole of zeros", "bytes lost"):
        assert {verdict: tally[family, verdict] for verdict in ("refused", "read", "undetected")} == {
            "refused": 24,
            "read": 0,
            "undetected": 0,
        }
    undetected = {family: count for (family, verdict), count in tally.items() if verdict == "undetected"}
    assert all(count <= UNDETECTED[family] for family, count in undetected.items()), undetected


@needs_heif
def test_data_set_of_heic_images_is_used(tmp_path: Path) -> None:
    for name in ("one/IMG_1.HEIC", "one/IMG_2.heic", "two/IMG_3.HEIC"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(heic(Image.fromarray(PHOTO)))
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert dict(zip(dataset.table["image_id"], dataset.table["dx"], strict=True)) == {
        "IMG_1": "one",
        "IMG_2": "one",
        "IMG_3": "two",
    }


def test_names_in_tables_may_have_the_suffix() -> None:
    assert image_ids([Path("a/IMG_1.HEIC"), Path("a/IMG_2.jpg")]) == ["IMG_1", "IMG_2"]
    assert image_ids([Path("a/IMG_1.HEIC"), Path("a/IMG_1.JPG")]) == ["a/IMG_1.heic", "a/IMG_1.jpg"]


@pytest.mark.parametrize("name", ["a.heic", "a.jpg", "a"])
def test_without_the_library_the_extra_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_library(monkeypatch)
    (tmp_path / name).write_bytes(HEAD)
    assert find_images(tmp_path).images == (tmp_path / name,)
    with pytest.raises(ImageError, match=rf"{name}: .*HEIC.*segpipe\[heif\]"):
        read_image(tmp_path / name)


def test_data_set_names_the_extra_and_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_library(monkeypatch)
    for name in ("one/a.png", "two/b.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(PHOTO).save(tmp_path / name)
    for name in ("one/c.heic", "two/d"):
        (tmp_path / name).write_bytes(HEAD)
    dataset = load_folders(str(tmp_path), without_lesion_ids=True)
    assert [problem.image_ids for problem in dataset.problems if "segpipe[heif]" in problem.defect] == [("c", "d")]
    (tmp_path / "one" / "a.png").unlink()
    (tmp_path / "two" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"segpipe\[heif\]"):
        load_folders(str(tmp_path), without_lesion_ids=True)


@needs_heif
def test_check_reads_images_again_after_the_extra_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one/a.heic", "two/b.heic"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        (tmp_path / "photos" / name).write_bytes(heic(Image.fromarray(PHOTO)))
    with keeping_results(str(tmp_path / "cache")):
        with monkeypatch.context() as missing, pytest.raises(DatasetError, match=r"segpipe\[heif\]"):
            without_library(missing)
            load_folders(str(tmp_path / "photos"), without_lesion_ids=True)
        assert len(load_folders(str(tmp_path / "photos"), without_lesion_ids=True).table) == 2


def test_files_that_are_not_read_are_counted_by_format() -> None:
    reasons = [unread_reason("camera raw"), unread_reason("DICOM"), unread_reason("DICOM"), "the PNG is damaged"]
    reasons += [heic_reason("which needs x"), f"{heic_reason('y')} (the same content as a.heic)"]
    assert count_unread(reasons) == {"camera raw": 1, "DICOM": 2, "HEIC": 2}
