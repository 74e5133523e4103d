"""From the bytes of a file to the pixels of a picture: the formats, their damages, the orientation, transparency, 16 bits."""

import os
import re
import struct
from collections.abc import Iterator
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
from segpipe.mask_decoding import is_tinted

_END_OF_JPEG = b"\xff\xd9"
# More than a mask takes where its pixels are compressed.
_BYTES_OF_MASK, _BYTES_PER_MASK_PIXEL = 4096, 0.05


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


@dataclass(frozen=True)
class Decoded:
    """A picture that was decoded.

    Attributes:
        picture: upright, mode RGB; in the mode of its file where there was no backdrop.
        height: of the original, upright, pixels; that of `picture` unless it was drafted.
        width: likewise.
    """

    picture: Image.Image
    height: int
    width: int


def decode(file: IO[bytes], *, max_pixels: int, backdrop: str | None, draft: tuple[str, int] | None = None) -> Decoded:
    """Decode a picture whole and right, or refuse it.

    Args:
        file: open for reading in binary.
        max_pixels: most pixels (height x width) that are accepted; checked from the header, before anything is decoded.
        backdrop: colour that shows through transparent parts; None leaves the picture in the mode of its file.
        draft: mode (`RGB` or `L`) and least side in pixels: a JPEG is decoded at a half, a quarter or an eighth of its size where
            both sides stay as long as that. Other formats come in their own size.

    Raises:
        ImageError: no image, truncated, damaged, of an unsupported kind or too large; the message does not name the file.
    """
    plugin = _plugin_at_start(file)
    with _decoding_errors(plugin):
        image = plugin(file)
    _check_size(image, max_pixels)
    width, height = image.size
    with _decoding_errors(plugin):
        _check_complete(image, file)
        if draft is not None:
            image.draft(draft[0], (draft[1], draft[1]))
        image.load()
    if _turn_upright(image):
        height, width = width, height
    if backdrop is not None:
        return Decoded(_to_rgb(image, backdrop), height, width)
    _refuse_odd_grey(image)
    return Decoded(image, height, width)


def may_be_mask(file: IO[bytes]) -> bool:
    """Whether a first look, which costs little, leaves it possible that a picture is a mask: few bytes for its pixels, no colors.

    Args:
        file: open for reading in binary.

    Raises:
        ImageError: as for `decode`; damage is not looked for.
    """
    size = file.seek(0, os.SEEK_END)
    plugin = _plugin_at_start(file)
    with _decoding_errors(plugin):
        image = plugin(file)
        is_compressed = plugin in (JpegImageFile, PngImageFile, WebPImageFile)
        if is_compressed and size > _BYTES_OF_MASK + _BYTES_PER_MASK_PIXEL * image.width * image.height:
            return False
        image.draft("RGB", (1, 1))  # an eighth of a JPEG
        return not isinstance(image, JpegImageFile) or not is_tinted(image)


def _plugin_at_start(file: IO[bytes]) -> type[ImageFile.ImageFile]:
    file.seek(0)
    plugin = _plugin_for(file.read(16))
    file.seek(0)
    return plugin


def _turn_upright(image: Image.Image) -> bool:
    """Apply the orientation of the camera; tells whether height and width change places, as far as one can see."""
    size = image.size
    # EXIF data that cannot be parsed says nothing about the pixels.
    with suppress(SyntaxError, LookupError, OSError, ValueError, TypeError, struct.error, Warning):
        ImageOps.exif_transpose(image, in_place=True)
    return image.size != size


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
    _refuse_odd_grey(image)
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _refuse_odd_grey(image: Image.Image) -> None:
    if isinstance(image, _TiffFile) and image.mode.startswith("I;16"):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE)
        white_is_zero = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        if bits != (16,) or white_is_zero:
            raise ImageError("12-bit or inverted grey TIFF is not supported; save it with 8 or 16 bits, black as 0")
