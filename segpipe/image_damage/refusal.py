"""Error for damaged files, and the test by which a decoder out of step is found."""

import io

from PIL.ImageFile import ImageFile

from segpipe.errors import ImageError

# Bytes; of what encoders write, fewer at the end say nothing.
CUT = 8


def damaged(name: str, reason: str) -> ImageError:
    """Build the error for a damaged file of the format `name`."""
    return ImageError(f"the {name} is truncated or damaged ({reason})")


def require_failure(plugin: type[ImageFile], cut: bytes) -> None:
    """Decode data whose last bytes were cut off, which must fail, unless the decoder is out of step with them."""
    try:
        plugin(io.BytesIO(cut)).load()
    except Exception:  # whatever Pillow makes of it
        return
    raise damaged(str(plugin.format), "data are left over behind its last row")
