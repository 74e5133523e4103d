"""BMP: as many bytes of pixels as the header promises."""

import struct
from typing import IO

from segpipe.io.image_damage.refusal import damaged


def check_bmp(file: IO[bytes]) -> None:
    """Compare the size of the pixels in the header, where it is given, with that of the rows; Pillow misses no bytes of them."""
    file.seek(14)
    size, width, height, _, bits, compression, pixels = struct.unpack("<IiiHHII", file.read(24))
    row = -(-width * bits // 32) * 4
    if size >= 40 and compression in (0, 3) and pixels and abs(pixels - abs(height) * row) >= row:
        raise damaged("BMP", f"its rows must have {abs(height) * row} bytes, got {pixels}")
