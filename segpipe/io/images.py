"""Images in and out of files: a picture is read whole and right, or refused with one line that says why."""

import os
import stat
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segpipe.errors import ImageError, MaskError, WriteError
from segpipe.io.image_decoding import Decoded, decode, may_be_mask
from segpipe.io.mask_decoding import decode_mask, looks_like_mask
from segpipe.types import BoolMask, RgbImage

IMAGE_SUFFIXES = frozenset(
    {".apng", ".bmp", ".dib", ".jfi", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)
DEFAULT_MAX_PIXELS = 150_000_000
# Pixels of the shorter side of a photograph; no lesion can be judged on fewer.
MIN_SIDE = 8


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


def read_image(source: str | Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> RgbImage:
    """Read a photograph the way a viewer would show it.

    The orientation of the camera (EXIF) is applied, of several frames or pages the first is taken, transparent parts lie on
    white, and of 16 bits per channel the upper 8 are kept. Colour profiles are not applied.

    Args:
        source: a JPEG, PNG, BMP, TIFF or WebP file, or the bytes of one; its content decides, not its name.
        max_pixels: most pixels (height x width) that are accepted; checked from the header, before anything is decoded.

    Returns:
        RGB uint8, shape (H, W, 3), contiguous and writable.

    Raises:
        ImageError: the file is missing, no image, truncated, damaged or too large; the message starts with its path.
        ValueError: `source` is neither a path nor bytes.
    """
    if isinstance(source, bytes):
        return np.array(decode(BytesIO(source), max_pixels=max_pixels, backdrop="white").picture)
    if not isinstance(source, str | Path):
        raise ValueError(f"source must be a path or the bytes of an image file, got {type(source).__name__}; check the argument")
    return np.array(_load(Path(source), max_pixels, backdrop="white").picture)


def read_mask(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> BoolMask:
    """Read the mask of a lesion, whatever its two values are, see `segpipe.io.mask_decoding.decode_mask`.

    Args:
        path: an image file, as for `read_image`.
        max_pixels: as for `read_image`.

    Returns:
        bool, shape (H, W), true on the lesion.

    Raises:
        MaskError: the picture is no mask.
        ImageError: as for `read_image`.
    """
    picture = _load(path, max_pixels, backdrop=None).picture
    if picture.mode in ("RGB", "RGBA") and not np.asarray(picture.convert("RGB")).any():
        picture = _in_16_bits(path) or picture  # of which Pillow keeps the upper 8
    try:
        return decode_mask(picture)
    except ValueError as error:
        raise MaskError(f"{display_path(path)}: {error}") from error


def _in_16_bits(path: Path) -> Image.Image | None:
    """The brightest channel of a color picture of 16 bits; None of any other."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return Image.fromarray(pixels[..., :3].max(axis=-1)) if pixels is not None and pixels.dtype == np.uint16 else None


def is_mask_picture(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> bool:
    """Whether a file is a mask by its content, see `segpipe.io.mask_decoding.looks_like_mask`.

    Args:
        path: an image file, as for `read_image`; one that cannot be read is no mask.
        max_pixels: as for `read_image`.
    """
    try:
        with open_image(path) as file:
            if not may_be_mask(file):
                return False
            return looks_like_mask(decode(file, max_pixels=max_pixels, backdrop=None).picture)
    except (ImageError, OSError, ValueError):  # ValueError: pixels of a kind that Pillow cannot convert
        return False


@dataclass(frozen=True)
class Photograph:
    """A photograph that was decoded no larger than its use needs.

    Attributes:
        image: RGB uint8, shape (h, w, 3), contiguous: the original, or it reduced to a half, a quarter or an eighth.
        height: of the original as a viewer would show it, pixels.
        width: likewise.
    """

    image: RgbImage
    height: int
    width: int


def decode_photograph(file: IO[bytes], *, least_side: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> Photograph:
    """Read a photograph as `read_image` does, but reduced as far as both sides stay at least `least_side`.

    Of a JPEG only as much is decoded as that needs, which takes a fraction of the time.

    Args:
        file: open for reading in binary, at its start.
        least_side: pixels; an image with a side of less than twice that comes in its own size.
        max_pixels: as for `read_image`; counted in the original.

    Raises:
        ImageError: as for `read_image`, but the message does not name the file; or a side has less than `MIN_SIDE` pixels.
    """
    decoded = decode(file, max_pixels=max_pixels, backdrop="white", draft=("RGB", least_side))
    if min(decoded.height, decoded.width) < MIN_SIDE:
        raise ImageError(f"has {decoded.width} x {decoded.height} pixels; both sides must have at least {MIN_SIDE}")
    if decoded.picture.size != (decoded.width, decoded.height):
        return Photograph(np.array(decoded.picture), decoded.height, decoded.width)
    # Of other formats than JPEG all pixels were decoded; what is not needed is let go at once.
    return reduce_photograph(decoded.picture, least_side=least_side)


def reduce_photograph(picture: Image.Image, *, least_side: int) -> Photograph:
    """Reduce a picture to a half, a quarter or an eighth, as far as both sides stay at least `least_side` pixels.

    Args:
        picture: upright, mode RGB.
        least_side: pixels; a picture with a side of less than twice that stays as it is.
    """
    factor = next((factor for factor in (8, 4, 2) if min(picture.size) // factor >= least_side), 1)
    return Photograph(np.array(picture.reduce(factor) if factor > 1 else picture), picture.height, picture.width)


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
    image = _load(path, max_pixels, backdrop="white", draft=("L", side)).picture.convert("L")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _load(path: Path, max_pixels: int, *, backdrop: str | None, draft: tuple[str, int] | None = None) -> Decoded:
    with open_image(path) as file:
        return decode(file, max_pixels=max_pixels, backdrop=backdrop, draft=draft)


@contextmanager
def open_image(path: Path) -> Iterator[BufferedReader]:
    """Open the file of a picture; what goes wrong with it inside the block becomes an ImageError that names it.

    Raises:
        ImageError: there is no file with content, or it cannot be read or decoded; the message starts with the path.
    """
    try:
        reason = why_no_file(path)
        if reason:
            raise ImageError(reason)
        with path.open("rb") as file:
            yield file
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


def encode_png(array: NDArray[np.uint8] | BoolMask) -> bytes:
    """A picture or a mask as the bytes of a PNG file.

    Args:
        array: RGB uint8, shape (H, W, 3), grey uint8, shape (H, W), or bool mask, shape (H, W), which becomes 0 and 255.

    Raises:
        ValueError: `array` has another shape or dtype.
    """
    is_mask = array.dtype == np.bool_ and array.ndim == 2
    is_picture = array.dtype == np.uint8 and (array.ndim == 2 or array.shape[2:] == (3,))
    if not (is_mask or is_picture) or array.size == 0:
        raise ValueError(f"array must be uint8 (H, W, 3), uint8 (H, W) or bool (H, W), got {array.dtype} {array.shape}")
    import cv2  # here, because little else in this module needs its import time

    grey_or_rgb = array.astype(np.uint8) * 255 if is_mask else array.astype(np.uint8, copy=False)
    # OpenCV takes a third of Pillow's time; its colours are the other way round.
    return bytes(cv2.imencode(".png", grey_or_rgb if array.ndim == 2 else grey_or_rgb[..., ::-1])[1])


def write_png(path: Path, array: NDArray[np.uint8] | BoolMask) -> None:
    """Write a picture or a mask as PNG, see `encode_png` and `write_file`."""
    write_file(path, encode_png(array))


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees it half written.

    Args:
        path: where to; missing parent folders are made, a file that is there is replaced.
        content: of the file.

    Raises:
        WriteError: the file cannot be written; its cause is the OSError.
    """
    # A name of its own length: the final name may already be as long as the file system allows.
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error}); make room or name another folder"
        raise WriteError(f"{display_path(path)}: {reason}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
