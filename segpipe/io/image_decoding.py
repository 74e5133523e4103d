"""Decoding of image files: formats, damage, orientation, transparency and 16 bits."""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from segpipe.errors import ImageError
from segpipe.io.heif import open_heif
from segpipe.io.image_damage import palette_entries, require_complete
from segpipe.io.image_formats import HEAD_SIZE, HEIC, format_of, unread_reason
from segpipe.io.jpeg_decoding import decode_jpeg
from segpipe.io.mask_decoding import is_tinted

DEFAULT_MAX_PIXELS = 150_000_000
# Upper bound of the size of a compressed mask.
_BYTES_OF_MASK, _BYTES_PER_MASK_PIXEL = 4096, 0.05
# Errors of EXIF data, which do not affect the pixels.
_EXIF_ERRORS = (SyntaxError, LookupError, OSError, ValueError, TypeError, struct.error, Warning)


class _TiffFile(TiffImagePlugin.TiffImageFile):
    """TIFF limited by `max_pixels` alone; Pillow's own limit is process-wide and warns."""

    def load_prepare(self) -> None:
        self.im = Image.new(self.mode, self._tile_size).im
        super().load_prepare()


# Opened by their own classes, because Image.open applies Pillow's process-wide limit and accepts further formats.
_OPENERS: dict[str, Callable[[IO[bytes]], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "TIFF": _TiffFile,
    "WebP": WebPImageFile,
    HEIC: open_heif,
}
_COMPRESSED = frozenset({"JPEG", "PNG", "WebP", HEIC})


@dataclass(frozen=True)
class Decoded:
    """Decoded image.

    Attributes:
        picture: Upright image, mode RGB; in the mode of its file if no backdrop was given.
        height: Height of the upright original, pixels; that of `picture` unless it was decoded at a reduced size.
        width: Width of the upright original, pixels.
    """

    picture: Image.Image
    height: int
    width: int


def decode(file: IO[bytes], *, max_pixels: int, backdrop: str | None, draft: tuple[str, int] | None = None) -> Decoded:
    """Decode an image completely and correctly, or refuse it.

    Args:
        file: Binary file, open for reading.
        max_pixels: Maximum number of pixels (height x width), checked in the header before decoding.
        backdrop: Color behind transparent parts; None keeps the mode of the file.
        draft: Mode (`RGB` or `L`) and minimum side in pixels: a JPEG is decoded at a half, a quarter or an eighth of its size if
            both sides stay that long. Other formats keep their size.

    Raises:
        ImageError: The file is no image, truncated, damaged, of an unsupported kind or too large; the message does not name it.
    """
    image = _open(file)
    _check_size(image, max_pixels)
    with _decoding_errors(image.format):
        picture = _decode_jpeg(image, file, draft) if isinstance(image, JpegImageFile) else _decode_other(image, file)
    width, height = image.size
    if _turn_upright(picture):
        height, width = width, height
    if backdrop is not None:
        return Decoded(_to_rgb(picture, backdrop), height, width)
    _refuse_unusual_gray(picture)
    return Decoded(picture, height, width)


def convert_picture(image: Image.Image, *, max_pixels: int, backdrop: str) -> Image.Image:
    """Convert an image opened by Pillow to upright RGB, like `decode`.

    Args:
        image: Image of any mode, which is not changed; the current one of several frames counts.
        max_pixels: Maximum number of pixels (height x width).
        backdrop: Color behind transparent parts.

    Raises:
        ImageError: The image is too large, has an unsupported mode, or cannot be loaded by Pillow.
    """
    _check_size(image, max_pixels)
    try:
        image.load()
        upright = image
        with suppress(*_EXIF_ERRORS):
            upright = ImageOps.exif_transpose(image)
        return _to_rgb(upright, backdrop)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # on damaged bytes Pillow raises almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"Pillow cannot load the picture ({reason}); give the path or the bytes of its file") from error


def may_be_mask(file: IO[bytes]) -> bool:
    """Exclude files that cannot be masks, by size and tint.

    Args:
        file: Binary file, open for reading.

    Returns:
        False for an image with colors or too many bytes for its pixels; True if only decoding can tell.

    Raises:
        ImageError: The file is no image, as for `decode`; damage is not looked for.
    """
    size = file.seek(0, os.SEEK_END)
    image = _open(file)
    if image.format in _COMPRESSED and size > _BYTES_OF_MASK + _BYTES_PER_MASK_PIXEL * image.width * image.height:
        return False
    if not isinstance(image, JpegImageFile):
        return True
    with _decoding_errors(image.format):
        image.draft("RGB", (1, 1))  # an eighth of the sides
        return not is_tinted(image)


def _open(file: IO[bytes]) -> ImageFile.ImageFile:
    file.seek(0)
    name = format_of(file.read(HEAD_SIZE))
    file.seek(0)
    if name is None:
        raise ImageError("not an image: whatever its name, its content must be JPEG, PNG, BMP, TIFF, WebP or HEIC")
    if name not in _OPENERS:
        raise ImageError(unread_reason(name))
    with _decoding_errors(name):
        image = _OPENERS[name](file)
    image.format = name  # as in all messages
    return image


def _turn_upright(image: Image.Image) -> bool:
    """Apply the camera's orientation; return True if the sides swapped."""
    size = image.size
    with suppress(*_EXIF_ERRORS):
        ImageOps.exif_transpose(image, in_place=True)
    return image.size != size


@contextmanager
def _decoding_errors(name: str | None) -> Iterator[None]:
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"has more pixels than max_pixels, or Pillow itself, allows ({error})") from error
    except Exception as error:  # on damaged bytes Pillow raises almost anything: SyntaxError, EOFError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"the {name} is truncated, damaged or of an unsupported kind ({reason})") from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageError(
            f"has {image.width} x {image.height} = {pixels} pixels, more than max_pixels={max_pixels}; "
            "make it smaller, or raise max_pixels"
        )


def _decode_jpeg(image: JpegImageFile, file: IO[bytes], draft: tuple[str, int] | None) -> Image.Image:
    if image.mode == "CMYK" and "adobe" not in image.info:
        raise ImageError("the JPEG has four colors and no Adobe marker that says which; save it as RGB")
    mode, factor = image.mode, 1
    if draft is not None:
        mode = draft[0] if mode == "RGB" else mode
        factor = next((factor for factor in (8, 4, 2) if min(image.size) // factor >= draft[1]), 1)
    file.seek(0)
    pixels = decode_jpeg(file.read(), mode, image.size, factor=factor)
    # Adobe stores the inks of CMYK inverted.
    picture = (
        Image.fromarray(255 - pixels, mode) if mode == "CMYK" else Image.fromarray(pixels.squeeze(2) if mode == "L" else pixels)
    )
    picture.info = image.info
    return picture


def _decode_other(image: ImageFile.ImageFile, file: IO[bytes]) -> Image.Image:
    require_complete(image, file)
    colors = palette_entries(image)
    image.load()
    if colors is not None and np.asarray(image).max() >= colors:
        raise ImageError(f"the {image.format} is damaged (its palette has only {colors} colors)")
    return image


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
    """Convert 16-bit gray to 8 bits as Pillow converts RGB."""
    _refuse_unusual_gray(image)
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _refuse_unusual_gray(image: Image.Image) -> None:
    if isinstance(image, _TiffFile) and image.mode.startswith("I;16"):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE)
        white_is_zero = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        if bits != (16,) or white_is_zero:
            raise ImageError("12-bit or inverted gray TIFF is not supported; save it with 8 or 16 bits, black as 0")
