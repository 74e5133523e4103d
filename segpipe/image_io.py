"""Images in and out of files: a picture is read whole and right, or refused with one line that says why."""

import os
import re
import stat
import struct
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from segpipe.errors import ImageError, OutputError

RgbImage = NDArray[np.uint8]
BoolMask = NDArray[np.bool_]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
DEFAULT_MAX_PIXELS = 150_000_000
_END_OF_JPEG = b"\xff\xd9"


class _TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF whose size is judged by `max_pixels` alone; Pillow's own limit is one for the whole process, and warns."""

    def load_prepare(self) -> None:
        self.im = Image.new(self.mode, self._tile_size).im
        super().load_prepare()


# Built by their own classes, because Image.open brings in Pillow's process-wide limit and formats that nobody asked for.
_FORMATS: tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"BM"), BmpImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _TiffFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
)


def display_path(path: Path) -> str:
    r"""A path as messages and tables show it: POSIX, on one line; control characters and undecodable bytes as `\xNN`."""
    return "".join(_escape(char) for char in path.as_posix())


def _escape(char: str) -> str:
    # Blanks beyond ASCII are kept: macOS puts one into the name of each screenshot.
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    code = ord(char)
    is_raw_byte = 0xDC80 <= code <= 0xDCFF
    raw = bytes([code - 0xDC00]) if is_raw_byte else char.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in raw)


def read_image(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> RgbImage:
    """Read a photograph the way a viewer would show it.

    The orientation of the camera (EXIF) is applied, of several frames or pages the first is taken, transparent parts lie on
    white, and of 16 bits per channel the upper 8 are kept. Colour profiles are not applied.

    Args:
        path: a JPEG, PNG, BMP, TIFF or WebP file; its content decides, not its name.
        max_pixels: most pixels (height x width) that are accepted; checked from the header, before anything is decoded.

    Returns:
        RGB uint8, shape (H, W, 3), contiguous and writable.

    Raises:
        ImageError: the file is missing, no image, truncated, damaged or too large; the message starts with the path.
    """
    return np.array(_load(path, max_pixels, backdrop="white"))


def read_mask(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> BoolMask:
    """Read the mask of a lesion: grey 128 and above is lesion, below it and transparent is not.

    Args:
        path: an image file, as for `read_image`.
        max_pixels: as for `read_image`.

    Returns:
        bool, shape (H, W), true on the lesion.

    Raises:
        ImageError: as for `read_image`.
    """
    return np.asarray(_load(path, max_pixels, backdrop="black").convert("L")) >= 128


def read_thumbnail(path: Path, *, side: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a photograph small, grey and squeezed into a square.

    Of a JPEG only as much is decoded as the size needs, which takes a fraction of the time of `read_image`.

    Args:
        path: an image file, as for `read_image`.
        side: of the square, pixels.
        max_pixels: as for `read_image`.

    Returns:
        Grey uint8, shape (side, side).

    Raises:
        ImageError: as for `read_image`.
    """
    image = _load(path, max_pixels, backdrop="white", least_side=side).convert("L")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _load(path: Path, max_pixels: int, *, backdrop: str, least_side: int | None = None) -> Image.Image:
    try:
        reason = why_no_file(path)
        if reason:
            raise ImageError(reason)
        with path.open("rb") as file:
            return _to_rgb(_decode(file, max_pixels, least_side), backdrop)
    except OSError as error:
        raise ImageError(f"{display_path(path)}: cannot be read ({error.strerror})") from error
    except MemoryError as error:
        raise ImageError(f"{display_path(path)}: needs more memory than there is; lower max_pixels to refuse it") from error
    except ImageError as error:
        raise ImageError(f"{display_path(path)}: {error}") from error.__cause__


def why_no_file(path: Path) -> str | None:
    """Why there is nothing to read at `path`; None where a regular file with content lies."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "a broken link, its target does not exist" if path.is_symlink() else "no such file"
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(status.st_mode):
        return "a folder, not an image file"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return None if status.st_size else "an empty file (0 bytes)"


def _decode(file: IO[bytes], max_pixels: int, least_side: int | None) -> ImageFile.ImageFile:
    plugin = _plugin_for(file.read(16))
    file.seek(0)
    with _decoding_errors(plugin):
        image = plugin(file)
    _check_size(image, max_pixels)
    with _decoding_errors(plugin):
        _check_complete(image, file)
        if least_side is not None:
            image.draft("L", (least_side, least_side))
        image.load()
    # EXIF data that cannot be parsed says nothing about the pixels.
    with suppress(SyntaxError, LookupError, OSError, ValueError, TypeError, struct.error, Warning):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _plugin_for(header: bytes) -> type[ImageFile.ImageFile]:
    for signature, plugin in _FORMATS:
        if signature.match(header):
            return plugin
    raise ImageError("not an image: whatever its name, its content must be JPEG, PNG, BMP, TIFF or WebP")


@contextmanager
def _decoding_errors(plugin: type[ImageFile.ImageFile]) -> Iterator[None]:
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"has more pixels than max_pixels, or Pillow itself, allows ({error})") from error
    except Exception as error:  # on damaged bytes Pillow raises almost anything: SyntaxError, EOFError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"the {plugin.format} is truncated, damaged or of an unsupported kind ({reason})") from error


def _check_size(image: ImageFile.ImageFile, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageError(
            f"has {image.width} x {image.height} = {pixels} pixels, more than max_pixels={max_pixels}; "
            "make it smaller, or raise max_pixels"
        )


def _check_complete(image: ImageFile.ImageFile, file: IO[bytes]) -> None:
    """Refuse what Pillow would let pass: a JPEG without its end marker, a PNG with wrong checksums or without its last chunk."""
    # Here a JPEG stands just behind its header, so the end marker of an embedded thumbnail is not met.
    if isinstance(image, JpegImageFile) and _END_OF_JPEG not in file.read():
        raise ImageError("the JPEG is truncated (no end-of-image marker)")
    if isinstance(image, PngImageFile):
        file.seek(0)
        PngImageFile(file).verify()


def _to_rgb(image: Image.Image, backdrop: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _upper_byte(image).convert("RGB")
    if image.mode in {"I", "F", "LAB"}:
        raise ImageError(f"pixels of the kind {image.mode!r} are not supported; save it as RGB with 8 or 16 bits per channel")
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, backdrop)
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def _upper_byte(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, by the rule that Pillow itself follows for 16-bit RGB."""
    if isinstance(image, _TiffFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE)
        white_is_zero = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        if bits != (16,) or white_is_zero:
            raise ImageError("12-bit or inverted grey TIFF is not supported; save it with 8 or 16 bits, black as 0")
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def write_png(path: Path, array: NDArray[np.uint8] | BoolMask) -> None:
    """Write a picture or a mask as PNG, so that nobody ever sees a half-written file.

    Args:
        path: where to; missing parent folders are made, a file that is there is replaced.
        array: RGB uint8, shape (H, W, 3), grey uint8, shape (H, W), or bool mask, shape (H, W), written as 0 and 255.

    Raises:
        ValueError: `array` has another shape or dtype.
        OutputError: the file cannot be written.
    """
    is_mask = array.dtype == np.bool_ and array.ndim == 2
    is_picture = array.dtype == np.uint8 and (array.ndim == 2 or array.shape[2:] == (3,))
    if not (is_mask or is_picture) or array.size == 0:
        raise ValueError(f"array must be uint8 (H, W, 3), uint8 (H, W) or bool (H, W), got {array.dtype} {array.shape}")
    image = Image.fromarray(array.astype(np.uint8) * 255 if is_mask else array)
    # A name of its own length: the final name may already be as long as the file system allows.
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(temporary, format="PNG")
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{display_path(path)}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
