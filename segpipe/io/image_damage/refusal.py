"""Error for damaged image files."""

from segpipe.errors import ImageError


def damaged(name: str, reason: str) -> ImageError:
    """Build the error for a damaged file of the format `name`."""
    return ImageError(f"the {name} is truncated or damaged ({reason})")
