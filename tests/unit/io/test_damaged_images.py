"""Damaged files are refused or read unchanged; undetectable damage is counted."""

import io
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from damage import FORMATS, JPEGS, RGB, Damaged, damage, encode, photo, png_chunk
from PIL import Image

from segpipe.errors import ImageError, MaskError
from segpipe.io.image_decoding import decode
from segpipe.io.images import decode_photograph, read_image, read_mask, read_thumbnail
from segpipe.types import RgbImage

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")

# Mean absolute pixel difference, of 255, up to which an image counts as undamaged.
SAME = 2
# Maximum number of damaged files that are read wrongly, because their format has no means to detect it.
UNDETECTED = {
    "JPEG flipped byte": 55,
    "JPEG hole of zeros": 2,  # arithmetic coding, like the next two
    "JPEG bytes lost": 1,
    "JPEG cut off with an end marker": 1,
    "JPEG bytes added": 5,  # rare sampling, like the next
    "JPEG wrong size in the header": 1,
    "TIFF flipped byte": 30,  # in LZW and fax strips
    "TIFF hole of zeros": 7,  # in fax and PackBits strips
    "TIFF hole of ones": 7,
    "TIFF strip of wrong length": 1,  # of fax
    "TIFF wrong size in the header": 5,  # fax, PackBits, LZW
    "TIFF strip of wrong offset": 1,  # the offset points to another part of the file
    "TIFF bytes added": 4,  # to uncompressed pixels, as in BMP
    "BMP bytes added": 10,
    "WebP flipped byte": 10,
    "WebP hole of ones": 1,
    "WebP hole of zeros": 3,
    "WebP bytes added": 1,
}


def read(data: bytes) -> RgbImage:
    """Read a file as a run does, at full size."""
    return decode_photograph(io.BytesIO(data), least_side=10_000).image


def outcome(case: Damaged, whole: RgbImage) -> str:
    """Classify a damaged file as `refused`, `read` correctly, or `undetected`."""
    try:
        image = read(case.data)
    except ImageError as error:
        assert "damaged" in str(error) or "pixels" in str(error), (case.case, str(error))
        return "refused"
    same = image.shape == whole.shape and np.abs(image.astype(int) - whole).mean() <= SAME
    return "read" if same else "undetected"


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_refused_or_read_like_undamaged_ones(name: str) -> None:
    tally: Counter[tuple[str, str]] = Counter()
    for kind, data in FORMATS[name].items():
        whole = read(data)
        tally.update((case.family, outcome(case, whole)) for case in damage(name, kind))
    undetected = {family: count for (family, verdict), count in tally.items() if verdict == "undetected"}
    assert all(count <= UNDETECTED.get(family, 0) for family, count in undetected.items()), undetected
    assert sum(tally.values()) >= 45


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in FORMATS.items() for kind in kinds])
def test_undamaged_files_are_read_by_all_functions(tmp_path: Path, name: str, kind: str) -> None:
    data = FORMATS[name][kind]
    with Image.open(io.BytesIO(data)) as image:
        expected = np.array(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB"))
    (tmp_path / "image").write_bytes(data)
    image = read_image(tmp_path / "image")
    np.testing.assert_array_equal(read(data), image)
    assert np.abs(image.astype(int) - expected).max() <= (1 if name == "WebP" or kind == "16 bits" else 0)
    if kind == "fax":  # two values
        assert read_mask(tmp_path / "image").shape == image.shape[:2]
    else:
        with pytest.raises(MaskError, match="must have two values"):  # decoded, but no mask
            read_mask(tmp_path / "image")
    assert read_thumbnail(tmp_path / "image", side=8).shape == (8, 8)


@pytest.mark.parametrize("path", ["read_image", "read_mask", "read_thumbnail", "decode_photograph", "reduced"])
def test_all_functions_refuse_the_same_damage(tmp_path: Path, path: str) -> None:
    cases = [next(case for case in damage("JPEG", "baseline") if case.family == "JPEG cut off with an end marker")]
    cases += [next(case for case in damage("PNG", "gray") if case.family == "PNG rows too short")]
    for case in cases:
        (tmp_path / "image").write_bytes(case.data)
        readers = {
            "read_image": lambda: read_image(tmp_path / "image"),
            "read_mask": lambda: read_mask(tmp_path / "image"),
            "read_thumbnail": lambda: read_thumbnail(tmp_path / "image", side=8),
            "decode_photograph": lambda data=case.data: read(data),
            "reduced": lambda data=case.data: decode_photograph(io.BytesIO(data), least_side=10),
        }
        with pytest.raises(ImageError, match="damaged"):
            readers[path]()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 2}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("side", [24, 25, 33, 64])
def test_jpeg_pixels_equal_those_of_pillow_at_each_size(mode: str, side: int, options: dict[str, object]) -> None:
    data = encode(Image.fromarray(photo(200, 216)).convert(mode), format="JPEG", quality=85, **options)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (side, side))
        expected = np.array(image.convert("RGB"))
    read = decode_photograph(io.BytesIO(data), least_side=side)
    np.testing.assert_array_equal(read.image, expected)
    assert (read.height, read.width) == (200, 216)


@pytest.mark.parametrize("size", [4096, 512])
def test_run_of_zeros_anywhere_in_a_large_jpeg_is_detected(size: int) -> None:
    for options in ({}, {"progressive": True}, {"optimize": True}):
        data = encode(Image.fromarray(photo(400, 600)), format="JPEG", quality=90, **options)
        for offset in np.linspace(len(data) // 8, len(data) - size - 2, 5, dtype=int):
            with pytest.raises(ImageError, match="damaged"):
                read(data[:offset] + bytes(size) + data[offset + size :])


@pytest.mark.parametrize("color", ["black", "white", (9, 99, 200)])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
def test_uniform_jpeg_with_zeros_as_data_is_read(color: str, options: dict[str, object]) -> None:
    assert np.ptp(read(encode(Image.new("RGB", (600, 400), color), format="JPEG", **options)), axis=(0, 1)).max() == 0


@pytest.mark.parametrize("color", ["black", "white", (9, 99, 200)])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (64, 64), (500, 400)])
@pytest.mark.parametrize(
    "options",
    [
        {"format": "WEBP"},
        {"format": "WEBP", "lossless": True},
        {"format": "TIFF", "compression": "tiff_lzw"},
        {"format": "TIFF", "compression": "packbits"},
        {"format": "TIFF", "compression": "lzma"},
        {"format": "TIFF", "compression": "zstd"},
        {"format": "TIFF", "compression": "tiff_lzw", "strip_size": 100},
    ],
)
def test_uniform_images_are_not_mistaken_for_damaged_ones(color: str, size: tuple[int, int], options: dict[str, object]) -> None:
    data = encode(Image.new("RGB", size, color), **options)  # type: ignore[arg-type]
    assert decode(io.BytesIO(data), max_pixels=10**6, backdrop="white").picture.size == size


def test_cmyk_jpeg_without_adobe_marker_is_refused() -> None:
    data = JPEGS["cmyk"]
    marker = data.index(b"Adobe") - 4
    length = struct.unpack(">H", data[marker + 2 : marker + 4])[0]
    with pytest.raises(ImageError, match=r"Adobe.*save it as RGB"):
        read(data[:marker] + data[marker + 2 + length :])


def test_ycck_jpeg_is_read() -> None:
    data = bytearray(JPEGS["cmyk"])
    data[data.index(b"Adobe") + 11] = 2
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(read(bytes(data)), np.array(image.convert("RGB")))


@pytest.mark.parametrize(
    ("name", "kind"), [("JPEG", "baseline"), ("JPEG", "progressive"), ("JPEG", "rare sampling"), ("PNG", "rgb")]
)
def test_huge_metadata_and_trailing_data_are_ignored(name: str, kind: str) -> None:
    data = FORMATS[name][kind]
    if name == "JPEG":
        segments = b"".join(b"\xff\xe5\xff\xff" + b"\xff\xda\xff\xd9" * 16383 + b"x" for _ in range(40))
        changed = data[:2] + segments + data[2:] + data[: len(data) // 2]
    else:
        changed = data[:33] + png_chunk(b"prVt", bytes(3_000_000)) + data[33:] + b"trailer"
    np.testing.assert_array_equal(read(changed), read(data))


def test_first_of_several_images_in_a_jpeg_is_read() -> None:
    pair = encode(RGB, format="MPO", save_all=True, append_images=[Image.fromarray(photo()[::-1])], quality=85)
    assert np.abs(read(pair).astype(int) - photo()).mean() < 10


@pytest.mark.parametrize("tag", [(254, 1), (50706, 0x00000401)])
def test_tiff_that_starts_with_a_preview_is_refused(tag: tuple[int, int]) -> None:
    data = encode(RGB, format="TIFF", tiffinfo={tag[0]: tag[1]})
    with pytest.raises(ImageError, match="preview"):
        read(data)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma", "zstd"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
def test_tiff_with_many_strips_and_pages_is_read(mode: str, compression: str) -> None:
    picture = RGB.convert(mode)
    pages = [Image.fromarray(photo(50, 60)).convert(mode)]
    data = encode(picture, format="TIFF", compression=compression, strip_size=3000, save_all=True, append_images=pages)
    assert np.abs(read(data)[..., 0].astype(int) - np.array(picture.convert("RGB"))[..., 0]).mean() < (
        12 if mode == "RGBA" else 8
    )
