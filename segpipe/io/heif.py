"""HEIC images, read by pillow-heif where the extra heif is installed."""

from typing import IO

from PIL.ImageFile import ImageFile

from segpipe.errors import ImageError, MissingExtraError, require_extra
from segpipe.io.image_formats import heic_reason

EXTRA = "heif"


def open_heif(file: IO[bytes]) -> ImageFile:
    """Open a HEIC image without decoding its pixels.

    Size and pixels are those of the upright image: its container holds the orientation, and the EXIF tag has no effect.

    Args:
        file: Binary file, open for reading at its start.

    Raises:
        ImageError: pillow-heif is not installed; its cause is a MissingExtraError.
    """
    try:
        require_extra(EXTRA, "which")
    except MissingExtraError as error:
        raise ImageError(heic_reason(str(error))) from error
    from pillow_heif import HeifImageFile

    opened: ImageFile = HeifImageFile(file)  # type: ignore[no-untyped-call, unused-ignore]
    return opened
