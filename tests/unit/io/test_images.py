"""Images are decoded completely or refused with a one-line reason."""

import io
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from segpipe.errors import ImageError
from segpipe.io.files import display_path
from segpipe.io.images import decode_photograph, read_image, read_mask, read_thumbnail, write_png
from segpipe.types import BoolMask, RgbImage

# Pillow warns of damaged TIFF directories on top of raising.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")

LOSSLESS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "bmp": {"format": "BMP"},
    "tiff": {"format": "TIFF"},
    "tiff_lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "tiff_deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "tiff_strips": {"format": "TIFF", "strip_size": 512},
    "bigtiff": {"format": "TIFF", "big_tiff": True},
    "webp": {"format": "WEBP", "lossless": True},
}
LOSSY: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "jpeg_progressive": {"format": "JPEG", "quality": 95, "subsampling": 0, "progressive": True},
    "webp_lossy": {"format": "WEBP", "quality": 95},
    "tiff_jpeg": {"format": "TIFF", "compression": "jpeg", "quality": 95},
}
FORMATS = {**LOSSLESS, **LOSSY}


def ramp(height: int = 24, width: int = 32) -> RgbImage:
    """Draw a smooth image without symmetry."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 10, columns * 7, (rows + columns) * 4], axis=-1).astype(np.uint8)


def u8(values: object) -> NDArray[np.uint8]:
    """Build a uint8 array from literals."""
    return np.array(values, dtype=np.uint8)


def encode(image: Image.Image, **options: Any) -> bytes:
    """Encode an image file."""
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def read_bytes(folder: Path, data: bytes, *, max_pixels: int = 10**6) -> RgbImage:
    """Write bytes to a file and read it as an image."""
    path = folder / "picture.jpg"
    path.write_bytes(data)
    return read_image(path, max_pixels=max_pixels)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Build a PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, color_type: int, rows: bytes) -> bytes:
    """Build a PNG of a kind that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def tiff(*tags: tuple[int, int], bits: int) -> bytes:
    """Build a gray TIFF of 2 x 1 pixels with the given tags and four bytes of pixels."""
    fields = {256: 2, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 4, **dict(tags)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
    return b"II*\0" + struct.pack("<I", 12) + b"\0\0\xff\xff" + struct.pack("<H", len(fields)) + directory + bytes(4)


# ---------------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_keep_all_pixels(tmp_path: Path, kind: str) -> None:
    image = read_bytes(tmp_path, encode(Image.fromarray(ramp()), **LOSSLESS[kind]))
    np.testing.assert_array_equal(image, ramp())
    assert image.dtype == np.uint8 and image.flags.c_contiguous and image.flags.writeable


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_formats_nearly_keep_the_pixels(tmp_path: Path, kind: str) -> None:
    image = read_bytes(tmp_path, encode(Image.fromarray(ramp()), **LOSSY[kind]))
    assert image.shape == ramp().shape
    assert np.abs(image.astype(int) - ramp()).mean() < 4


GRAY = np.arange(0, 256, 5, dtype=np.uint8).reshape(4, 13)
WIDE = np.arange(0, 65536, 1285, dtype=np.uint16).reshape(4, 13)  # each value is 257 times that of GRAY


def _palette() -> Image.Image:
    image = Image.fromarray(u8([[0, 1], [2, 1]]))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return image


def _rgba(alpha: int) -> Image.Image:
    return Image.new("RGBA", (2, 2), (200, 100, 0, alpha))


def _wide_rgb() -> bytes:
    samples = np.repeat(WIDE[..., None], 3, axis=2).astype(">u2")
    return png(13, 4, 16, 2, b"".join(b"\0" + row.tobytes() for row in samples))


def _solid(rgb: tuple[int, int, int]) -> RgbImage:
    return np.full((2, 2, 3), rgb, dtype=np.uint8)


def _stack(gray: NDArray[np.uint8]) -> RgbImage:
    return np.repeat(gray[..., None], 3, axis=2)


KINDS: dict[str, tuple[Callable[[], bytes], RgbImage]] = {
    "gray": (lambda: encode(Image.fromarray(GRAY), format="PNG"), _stack(GRAY)),
    "black_and_white": (
        lambda: encode(Image.fromarray(GRAY > 99).convert("1"), format="PNG"),
        _stack((GRAY > 99) * u8(255)),
    ),
    "gray_16_png": (lambda: encode(Image.fromarray(WIDE), format="PNG"), _stack(GRAY)),
    "gray_16_tiff": (lambda: encode(Image.fromarray(WIDE), format="TIFF"), _stack(GRAY)),
    "gray_16_tiff_lzw": (lambda: encode(Image.fromarray(WIDE), format="TIFF", compression="tiff_lzw"), _stack(GRAY)),
    "gray_16_tiff_big_endian": (lambda: encode(Image.fromarray(WIDE.astype(">u2")), format="TIFF"), _stack(GRAY)),
    "rgb_16_png": (_wide_rgb, _stack(GRAY)),
    "palette_png": (
        lambda: encode(_palette(), format="PNG"),
        u8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]),
    ),
    "palette_bmp": (
        lambda: encode(_palette(), format="BMP"),
        u8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]),
    ),
    "palette_with_transparency": (
        lambda: encode(_palette(), format="PNG", transparency=2),
        u8([[[255, 0, 0], [0, 255, 0]], [[255, 255, 255], [0, 255, 0]]]),
    ),
    "opaque_alpha": (lambda: encode(_rgba(255), format="PNG"), _solid((200, 100, 0))),
    "transparent_is_white": (lambda: encode(_rgba(0), format="PNG"), _solid((255, 255, 255))),
    "transparent_webp_is_white": (lambda: encode(_rgba(0), format="WEBP", lossless=True), _solid((255, 255, 255))),
    "transparent_tiff_is_white": (lambda: encode(_rgba(0), format="TIFF"), _solid((255, 255, 255))),
    "transparent_gray_is_white": (lambda: encode(Image.new("LA", (2, 2), (9, 0)), format="PNG"), _solid((255, 255, 255))),
    "one_pixel": (lambda: encode(Image.new("RGB", (1, 1), (1, 2, 3)), format="PNG"), u8([[[1, 2, 3]]])),
    "all_black": (lambda: encode(Image.new("RGB", (2, 2)), format="JPEG"), _solid((0, 0, 0))),
    "black_cmyk_jpeg": (lambda: encode(Image.new("CMYK", (2, 2), (0, 0, 0, 255)), format="JPEG"), _solid((0, 0, 0))),
    "white_cmyk_jpeg": (lambda: encode(Image.new("CMYK", (2, 2), (0, 0, 0, 0)), format="JPEG"), _solid((255, 255, 255))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_pixel_formats_become_rgb(tmp_path: Path, kind: str) -> None:
    build, expected = KINDS[kind]
    np.testing.assert_array_equal(read_bytes(tmp_path, build()), expected)


def test_half_transparent_is_halfway_to_white(tmp_path: Path) -> None:
    image = read_bytes(tmp_path, encode(_rgba(128), format="PNG"))
    assert np.abs(image.astype(int) - (228, 178, 127)).max() <= 1


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_first_of_several_frames_is_read(tmp_path: Path, file_format: str) -> None:
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    data = encode(first, format=file_format, save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(read_bytes(tmp_path, data), np.array(first))


TURNS: dict[int, Callable[[RgbImage], RgbImage]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["png", "tiff", "tiff_lzw", "webp", "jpeg"])
def test_camera_orientation_is_applied(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    image = read_bytes(tmp_path, encode(Image.fromarray(ramp()), exif=exif, **FORMATS[kind]))
    expected = TURNS[orientation](ramp())
    assert image.shape == expected.shape and image.flags.c_contiguous
    assert np.abs(image.astype(int) - expected).mean() < (2 if kind == "jpeg" else 1e-9)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["jpeg", "jpeg_progressive", "png"])
def test_thumbnail_is_the_reduced_gray_image(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    smooth = Image.fromarray(ramp(8, 8)).resize((320, 240), Image.Resampling.BICUBIC)
    (tmp_path / "image").write_bytes(encode(smooth, exif=exif, **FORMATS[kind]))
    thumbnail = read_thumbnail(tmp_path / "image", side=16)
    assert thumbnail.shape == (16, 16) and thumbnail.dtype == np.uint8
    whole = Image.fromarray(read_image(tmp_path / "image")).convert("L").resize((16, 16), Image.Resampling.BOX)
    assert np.abs(thumbnail.astype(int) - np.asarray(whole)).max() <= 3


def test_thumbnail_of_a_truncated_file_is_refused(tmp_path: Path) -> None:
    data = encode(Image.fromarray(ramp(240, 320)), format="JPEG")
    (tmp_path / "image").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="truncated"):
        read_thumbnail(tmp_path / "image", side=16)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12", b"Exif\0\0"])
@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "JPEG"])
def test_damaged_exif_does_not_affect_decoding(tmp_path: Path, file_format: str, exif: bytes) -> None:
    image = read_bytes(tmp_path, encode(Image.fromarray(ramp()), format=file_format, exif=exif))
    assert image.shape == ramp().shape


@pytest.mark.parametrize("suffix", [".jpg", ".PNG", ""])
def test_content_decides_the_format_not_the_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(encode(Image.fromarray(ramp()), format="BMP"))
    np.testing.assert_array_equal(read_image(path), ramp())


# -------------------------------------------------------------------------------------------------------------- refusals


def _refusal(tmp_path: Path, name: str, data: bytes | None = None) -> str:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ImageError, match="^" + re.escape(str(tmp_path))) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{display_path(path)}: ") and message.isprintable()
    return message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello\nworld", "not an image"),
        (b"%PDF-1.7 ...", "not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
        (b"GIF89a......", "format GIF, which is not read"),
        (b"RIFF\0\0\0\0WAVEfmt ", "not an image"),
        (bytes(2000), "not an image"),
        (b"BMI,age\n21,40\n", "not an image"),
        (b"\xff\xd8\xff", "JPEG is truncated, damaged"),
        (b"\x89PNG\r\n\x1a\n", "PNG is truncated, damaged"),
        (b"II*\0", "TIFF is truncated, damaged"),
        (b"RIFF\0\0\0\0WEBP", "WebP is truncated, damaged"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason in _refusal(tmp_path, "picture.jpg", data)


def test_missing_files_folders_and_broken_links_are_distinguished(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "file").touch()
    assert "no such file" in _refusal(tmp_path, "missing.jpg")
    assert "no such file" in _refusal(tmp_path, "file/below.jpg")
    assert "a folder" in _refusal(tmp_path, "folder.jpg")
    assert "broken link" in _refusal(tmp_path, "link.jpg")
    assert "not a regular file" in _refusal(tmp_path, "pipe.jpg")
    assert "File name too long" in _refusal(tmp_path, "x" * 300)
    assert "null byte" in _refusal(tmp_path, "a\0b.jpg")


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "secret.jpg").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", deny)
    assert "cannot be read (Permission denied)" in _refusal(tmp_path, "secret.jpg")


def test_lack_of_memory_is_an_image_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert "needs more memory" in _refusal(tmp_path, "picture.bmp", encode(Image.fromarray(ramp()), format="BMP"))


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_without_a_defined_rgb_value_are_refused(tmp_path: Path, mode: str) -> None:
    data = encode(Image.new(mode, (2, 2)), format="TIFF")
    assert f"pixels of the kind '{mode}' are not supported; save it as RGB" in _refusal(tmp_path, "picture.tif", data)


@pytest.mark.parametrize(("photometric", "bits"), [(0, 16), (1, 12)])
def test_unusual_gray_tiff_is_refused(tmp_path: Path, photometric: int, bits: int) -> None:
    assert "12-bit or inverted gray TIFF" in _refusal(tmp_path, "picture.tif", tiff((262, photometric), bits=bits))
    np.testing.assert_array_equal(read_bytes(tmp_path, tiff(bits=16))[0, :, 0], (0, 255))


TRUNCATABLE: dict[str, dict[str, Any]] = {
    **FORMATS,
    "webp_animated": {"format": "WEBP", "save_all": True, "append_images": [Image.fromarray(ramp()[::-1])]},
    "png_animated": {"format": "PNG", "save_all": True, "append_images": [Image.fromarray(ramp()[::-1])]},
}


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", TRUNCATABLE)
def test_file_truncated_anywhere_is_refused(tmp_path: Path, kind: str, mode: str) -> None:
    data = encode(Image.fromarray(ramp()).convert(mode), **TRUNCATABLE[kind])
    # The last four bytes hold no pixels in a PNG (checksum of an empty chunk) and in some TIFFs (offset of
    # the next page, which is 0).
    last = len(data) - (5 if "png" in kind or "tiff" in kind else 1)
    for length in {*np.linspace(1, last, 40, dtype=int).tolist(), *range(last - 8, last + 1)}:
        with pytest.raises(ImageError, match=r"truncated|not an image"):
            read_bytes(tmp_path, data[:length])


@pytest.mark.parametrize("kind", [kind for kind in TRUNCATABLE if "png" in kind or "tiff" in kind])
def test_file_without_its_last_bytes_is_read_completely_or_refused(tmp_path: Path, kind: str) -> None:
    data = encode(Image.fromarray(ramp()).convert("L"), **TRUNCATABLE[kind])
    whole = read_bytes(tmp_path, data)
    for length in range(len(data) - 4, len(data)):
        with suppress(ImageError):
            np.testing.assert_array_equal(read_bytes(tmp_path, data[:length]), whole)


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff_strips", "webp", "bmp"])
def test_truncated_file_larger_than_the_read_buffer_is_refused(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (260, 300, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), **FORMATS[kind])
    assert len(data) > 2**16
    for length in (2**16 - 1, 2**16, 2**16 + 1, len(data) * 9 // 10, len(data) - 5):
        with pytest.raises(ImageError, match="truncated"):
            read_bytes(tmp_path, data[:length])


@pytest.mark.parametrize("kind", ["jpeg", "jpeg_progressive", "png", "tiff_lzw"])
def test_file_with_zeroed_tail_is_refused(tmp_path: Path, kind: str) -> None:
    data = encode(Image.fromarray(ramp()), **FORMATS[kind])
    half = len(data) // 2
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        read_bytes(tmp_path, data[:half] + bytes(len(data) - half))


@pytest.mark.parametrize("side", [9, 16, 17, 24, 48, 64])
def test_end_marker_of_the_thumbnail_does_not_end_a_jpeg(tmp_path: Path, side: int) -> None:
    thumbnail = encode(Image.fromarray(ramp(8, 8)), format="JPEG")
    for mode, quality in ((mode, quality) for mode in ("L", "RGB") for quality in (50, 75, 90, 95)):
        picture = Image.fromarray(ramp(side, side)).convert(mode)
        data = encode(picture, format="JPEG", quality=quality, exif=b"Exif\0\0" + thumbnail)
        assert read_bytes(tmp_path, data).shape == (side, side, 3)
        with pytest.raises(ImageError, match="the JPEG is truncated"):
            read_bytes(tmp_path, data[:-2])


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "webp"])
def test_trailing_bytes_are_ignored(tmp_path: Path, kind: str) -> None:
    data = encode(Image.fromarray(ramp()), **FORMATS[kind])
    np.testing.assert_array_equal(read_bytes(tmp_path, data + b"\0trailer"), read_bytes(tmp_path, data))


def test_flipped_bits_raise_only_image_errors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for options in TRUNCATABLE.values():
        data = encode(Image.fromarray(ramp()), **options)
        for _ in range(10):
            damaged = bytearray(data)
            for position in rng.integers(0, min(len(data), 300), 3):
                damaged[position] ^= 1 << int(rng.integers(8))
            try:
                assert read_bytes(tmp_path, bytes(damaged)).shape[2] == 3
            except ImageError as error:
                refused += 1
                assert str(error).isprintable()
    assert refused > 20


# ------------------------------------------------------------------------------------------------------------------ size


def _header(kind: str, side: int) -> bytes:
    """Build the header of an image of side x side pixels, without pixels."""
    if kind == "png":
        return png(side, side, 8, 2, b"")
    if kind == "bmp":
        return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    if kind == "tiff":
        return tiff((256, side), (257, side), bits=8)
    if kind == "webp":
        body = b"WEBPVP8L" + struct.pack("<I", 20) + b"\x2f" + struct.pack("<I", (side - 1) | (side - 1) << 14) + bytes(15)
        return b"RIFF" + struct.pack("<I", len(body)) + body
    data = encode(Image.fromarray(ramp()), format="JPEG")
    size = data.index(b"\xff\xc0") + 5
    return data[:size] + struct.pack(">HH", side, side) + data[size + 4 :]


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "webp", "jpeg"])
@pytest.mark.parametrize("side", [13_000, 16_000])
def test_decompression_bomb_is_refused_by_its_header(tmp_path: Path, kind: str, side: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "max_pixels" in _refusal(tmp_path, "picture.jpg", _header(kind, side))


@pytest.mark.parametrize("kind", FORMATS)
def test_max_pixels_is_inclusive(tmp_path: Path, kind: str) -> None:
    data = encode(Image.fromarray(ramp()), **FORMATS[kind])
    assert read_bytes(tmp_path, data, max_pixels=24 * 32).shape == (24, 32, 3)
    with pytest.raises(ImageError, match=r"32 x 24 = 768 pixels, more than max_pixels=767; make it smaller, or raise max_pixels"):
        read_bytes(tmp_path, data, max_pixels=24 * 32 - 1)


@pytest.mark.parametrize("kind", FORMATS)
def test_pixel_limit_of_pillow_does_not_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    # Pillow warns above its limit and refuses above twice that; for WebP it always refuses above the limit.
    limit = 700 if "webp" in kind else 300
    data = encode(Image.fromarray(ramp()), **FORMATS[kind])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_bytes(tmp_path, data).shape == (24, 32, 3)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.slow
def test_huge_image_within_the_limit_is_read(tmp_path: Path) -> None:
    data = encode(Image.new("RGB", (12_000, 9_000), (8, 200, 3)), format="PNG", compress_level=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "huge.png").write_bytes(data)
        image = read_image(tmp_path / "huge.png")
    assert image.shape == (9_000, 12_000, 3)
    assert tuple(image[-1, -1]) == (8, 200, 3)


def test_threads_read_the_same_as_one_thread(tmp_path: Path) -> None:
    paths = []
    for kind, options in FORMATS.items():
        paths += [tmp_path / f"{kind}.jpg", tmp_path / f"{kind}_cut.jpg"]
        data = encode(Image.fromarray(ramp()), **options)
        paths[-2].write_bytes(data)
        paths[-1].write_bytes(data[: len(data) // 2])

    def outcome(path: Path) -> bytes | str:
        try:
            return read_image(path).tobytes()
        except ImageError as error:
            return str(error)

    expected = [outcome(path) for path in paths]
    assert sum(isinstance(item, str) for item in expected) == len(paths) // 2
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, paths * 10)) == expected * 10
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_import_loads_no_heavy_libraries() -> None:
    code = "import sys, segpipe.io.images; print(sorted({'cv2', 'torch', 'pandas', 'skimage'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# ----------------------------------------------------------------------------------------------------------------- names

NAMES = [
    "a b.png",
    "a=b,c.png",
    "[a](b){c}.png",
    "naïve_ß_皮.png",
    "e\u0301.png",
    "#%$'\".png",
    "line\nbreak.png",
    os.fsdecode(b"\xff\xfe.png"),
]


@pytest.mark.parametrize("name", NAMES)
def test_image_of_any_name_can_be_written_and_read(tmp_path: Path, name: str) -> None:
    write_png(tmp_path / name, ramp())
    np.testing.assert_array_equal(read_image(tmp_path / name), ramp())


@pytest.mark.parametrize("name", NAMES)
def test_message_is_one_printable_line_for_any_name(tmp_path: Path, name: str) -> None:
    assert "no such file" in _refusal(tmp_path, name)


# --------------------------------------------------------------------------------------------------------- masks, writing


def test_mask_is_true_from_gray_128(tmp_path: Path) -> None:
    write_png(tmp_path / "mask.png", u8([[0, 127, 128, 255]]))
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[False, False, True, True]]


def test_mask_is_false_where_transparent(tmp_path: Path) -> None:
    Image.fromarray(u8([[[255, 255, 255, 255], [255, 255, 255, 0]]])).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[True, False]]


def test_mask_files_are_refused_like_image_files(tmp_path: Path) -> None:
    write_png(tmp_path / "mask.png", ramp())
    with pytest.raises(ImageError, match=r"mask\.png: has .* more than max_pixels=5"):
        read_mask(tmp_path / "mask.png", max_pixels=5)
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        read_mask(tmp_path / "none.png")


@pytest.mark.parametrize(
    "array",
    [ramp(), ramp()[..., 0], ramp()[::-2, ::3], ramp().swapaxes(0, 1), np.zeros((1, 1), np.uint8)],
    ids=["rgb", "gray", "strided", "swapped", "pixel"],
)
def test_written_image_is_read_unchanged(tmp_path: Path, array: NDArray[np.uint8]) -> None:
    path = tmp_path / "new" / "deep" / "picture.png"
    write_png(path, array)
    np.testing.assert_array_equal(read_image(path), array if array.ndim == 3 else _stack(array))
    with Image.open(path) as image:
        assert image.mode == ("RGB" if array.ndim == 3 else "L")


def test_written_mask_is_read_unchanged(tmp_path: Path) -> None:
    mask: BoolMask = ramp()[..., 0] > 100
    write_png(tmp_path / "mask.png", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), mask)
    with Image.open(tmp_path / "mask.png") as image:
        assert (image.mode, image.getextrema()) == ("L", (0, 255))


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2), np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), np.bool_), np.zeros((0, 2), np.uint8)],
)
def test_other_arrays_are_refused(tmp_path: Path, array: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"array must be uint8 \(H, W, 3\), uint8 \(H, W\) or bool \(H, W\), got"):
        write_png(tmp_path / "new" / "picture.png", array)
    assert not (tmp_path / "new").exists()


REDUCED = [((199, 260), 1), ((200, 300), 2), ((399, 500), 2), ((400, 404), 4), ((960, 900), 8)]


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize(("size", "factor"), REDUCED)
def test_photograph_is_reduced_down_to_the_minimum_side(tmp_path: Path, ending: str, size: tuple[int, int], factor: int) -> None:
    height, width = size
    smooth = np.linspace(0, 250, height)[:, None, None] * 0.5 + np.linspace(0, 250, width)[None, :, None] * 0.5
    path = tmp_path / f"photo.{ending}"
    Image.fromarray(np.repeat(smooth, 3, axis=2).astype(np.uint8)).save(path)
    with path.open("rb") as file:
        photograph = decode_photograph(file, least_side=100)
    assert (photograph.height, photograph.width) == size
    assert photograph.image.shape[:2] == (-(-height // factor), -(-width // factor))
    assert min(photograph.image.shape[:2]) >= 100
    whole = Image.fromarray(read_image(path)).resize(photograph.image.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(photograph.image.astype(int) - np.asarray(whole)).mean() < 2


def test_size_of_a_rotated_photograph_is_that_of_the_viewer(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((400, 900, 3), np.uint8)).save(tmp_path / "photo.jpg", exif=exif)
    with (tmp_path / "photo.jpg").open("rb") as file:
        photograph = decode_photograph(file, least_side=100)
    assert (photograph.height, photograph.width) == (900, 400)
    assert photograph.image.shape == (225, 100, 3)


def test_max_pixels_applies_to_the_original(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((400, 900, 3), np.uint8)).save(tmp_path / "photo.jpg")
    with (tmp_path / "photo.jpg").open("rb") as file, pytest.raises(ImageError, match="more than max_pixels=359999"):
        decode_photograph(file, least_side=100, max_pixels=359_999)
