"""Damages that Pillow passes over without an error: each format is checked against its own sizes and checksums."""

from typing import IO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from segpipe.io.image_damage.bmp import check_bmp
from segpipe.io.image_damage.png import check_png
from segpipe.io.image_damage.tiff import check_tiff
from segpipe.io.image_damage.webp import check_webp


def require_complete(image: ImageFile, file: IO[bytes]) -> None:
    """Refuse a file that is damaged in a way that its decoder does not tell.

    Args:
        image: its header, as Pillow read it; JPEG files are left to `decode_jpeg`.
        file: the whole file; its position is kept.

    Raises:
        ImageError: it is damaged, or its first page is only the preview of another picture.
    """
    position = file.tell()
    if isinstance(image, PngImageFile):
        check_png(file)
    elif isinstance(image, TiffImageFile):
        check_tiff(image, file)
    elif isinstance(image, BmpImageFile):
        check_bmp(file)
    elif isinstance(image, WebPImageFile):
        check_webp(image, file)
    file.seek(position)


def palette_entries(image: ImageFile) -> int | None:
    """Number of colors in the palette of a picture that is not loaded yet; None where it has none."""
    if image.mode != "P":
        return None
    if image.palette is None:
        return 0
    layout, colors = image.palette.getdata()
    return len(colors) // len(layout.split(";")[0])
