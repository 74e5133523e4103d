"""Reading and writing of images and masks.

An image is either decoded completely or refused with a one-line reason.
"""

from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segpipe.errors import ImageError, MaskError
from segpipe.io.files import display_path, open_image, write_file
from segpipe.io.image_decoding import DEFAULT_MAX_PIXELS, Decoded, decode
from segpipe.io.mask_decoding import decode_mask
from segpipe.types import MIN_SIDE, BoolMask, Photograph, RgbImage


def read_image(source: str | Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> RgbImage:
    """Read a photograph as a viewer would show it.

    The orientation of the camera is applied, the first of several frames or pages is taken (in HEIC the primary one),
    transparent parts are shown on white, and 16 bits per channel are reduced to the upper 8. Color profiles are not applied.

    Args:
        source: JPEG, PNG, BMP, TIFF, WebP or (with the extra heif) HEIC file, or its bytes; content decides, not the name.
        max_pixels: Maximum number of pixels (height x width), checked in the header before decoding.

    Returns:
        RGB uint8, shape (H, W, 3), contiguous and writable.

    Raises:
        ImageError: The file is missing, no image, truncated, damaged or too large; the message starts with its path.
        ValueError: `source` is neither a path nor bytes.
    """
    if isinstance(source, bytes):
        return np.array(decode(BytesIO(source), max_pixels=max_pixels, backdrop="white").picture)
    if not isinstance(source, str | Path):
        raise ValueError(f"source must be a path or the bytes of an image file, got {type(source).__name__}; check the argument")
    return np.array(_load(Path(source), max_pixels, backdrop="white").picture)


def read_mask(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> BoolMask:
    """Read the mask of a lesion in any encoding, see `segpipe.io.mask_decoding.decode_mask`.

    Args:
        path: Image file, as for `read_image`.
        max_pixels: Maximum number of pixels, as for `read_image`.

    Returns:
        Bool, shape (H, W), true on the lesion.

    Raises:
        MaskError: The image is no mask.
        ImageError: The file cannot be read, as for `read_image`.
    """
    picture = _load(path, max_pixels, backdrop=None).picture
    if picture.mode in ("RGB", "RGBA") and not np.asarray(picture.convert("RGB")).any():
        picture = _in_16_bits(path) or picture  # Pillow keeps the upper 8 bits only
    try:
        return decode_mask(picture)
    except ValueError as error:
        raise MaskError(f"{display_path(path)}: {error}") from error


def _in_16_bits(path: Path) -> Image.Image | None:
    """Read the brightest channel of a 16-bit color image; else None."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return Image.fromarray(pixels[..., :3].max(axis=-1)) if pixels is not None and pixels.dtype == np.uint16 else None


def decode_photograph(file: IO[bytes], *, least_side: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> Photograph:
    """Decode a photograph at the smallest size with sides of `least_side`.

    A JPEG is decoded only as far as needed, which takes a fraction of the time of `read_image`.

    Args:
        file: Binary file, open for reading at its start.
        least_side: Minimum of both sides, pixels; an image with a side of less than twice that keeps its size.
        max_pixels: Maximum number of pixels of the original, as for `read_image`.

    Raises:
        ImageError: The file cannot be read, or a side has less than `MIN_SIDE` pixels; the message does not name the file.
    """
    decoded = decode(file, max_pixels=max_pixels, backdrop="white", draft=("RGB", least_side))
    if min(decoded.height, decoded.width) < MIN_SIDE:
        raise ImageError(f"has {decoded.width} x {decoded.height} pixels; both sides must have at least {MIN_SIDE}")
    if decoded.picture.size != (decoded.width, decoded.height):
        return Photograph(np.array(decoded.picture), decoded.height, decoded.width)
    # Formats other than JPEG were decoded in full; unneeded pixels are released at once.
    return reduce_photograph(decoded.picture, least_side=least_side)


def reduce_photograph(picture: Image.Image, *, least_side: int) -> Photograph:
    """Reduce an image to a half, a quarter or an eighth.

    Args:
        picture: Upright image, mode RGB.
        least_side: Minimum of both sides, pixels; an image with a side of less than twice that keeps its size.
    """
    factor = next((factor for factor in (8, 4, 2) if min(picture.size) // factor >= least_side), 1)
    return Photograph(np.array(picture.reduce(factor) if factor > 1 else picture), picture.height, picture.width)


def read_thumbnail(path: Path, *, side: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a photograph as a small gray square.

    A JPEG is decoded only as far as needed, which takes a fraction of the time of `read_image`.

    Args:
        path: Image file, as for `read_image`.
        side: Side of the square, pixels.
        max_pixels: Maximum number of pixels, as for `read_image`.

    Returns:
        Gray uint8, shape (side, side).

    Raises:
        ImageError: The file cannot be read, as for `read_image`.
    """
    image = _load(path, max_pixels, backdrop="white", draft=("L", side)).picture.convert("L")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _load(path: Path, max_pixels: int, *, backdrop: str | None, draft: tuple[str, int] | None = None) -> Decoded:
    with open_image(path) as file:
        return decode(file, max_pixels=max_pixels, backdrop=backdrop, draft=draft)


def encode_png(array: NDArray[np.uint8] | BoolMask) -> bytes:
    """Encode an image or a mask as PNG.

    Args:
        array: RGB uint8, shape (H, W, 3), gray uint8, shape (H, W), or bool mask, shape (H, W), which becomes 0 and 255.

    Raises:
        ValueError: `array` has another shape or dtype.
    """
    is_mask = array.dtype == np.bool_ and array.ndim == 2
    is_picture = array.dtype == np.uint8 and (array.ndim == 2 or array.shape[2:] == (3,))
    if not (is_mask or is_picture) or array.size == 0:
        raise ValueError(f"array must be uint8 (H, W, 3), uint8 (H, W) or bool (H, W), got {array.dtype} {array.shape}")
    import cv2  # imported late: little else in this module needs it

    gray_or_rgb = array.astype(np.uint8) * 255 if is_mask else array.astype(np.uint8, copy=False)
    # OpenCV takes a third of Pillow's time; it expects BGR.
    return bytes(cv2.imencode(".png", gray_or_rgb if array.ndim == 2 else gray_or_rgb[..., ::-1])[1])


def write_png(path: Path, array: NDArray[np.uint8] | BoolMask) -> None:
    """Write an image or a mask as PNG, see `encode_png` and `write_file`."""
    write_file(path, encode_png(array))
