"""PNG: checksums of the chunks, and as many bytes of pixels as the header promises."""

import struct
import zlib
from collections.abc import Iterator
from typing import IO

from segpipe.io.image_damage.inflating import inflated_size
from segpipe.io.image_damage.refusal import damaged

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column, first row, and steps of the seven passes of an interlaced PNG.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def check_png(file: IO[bytes]) -> None:
    """Refuse a PNG whose checksums, rows or end are wrong."""
    file.seek(8)
    expected, inflated = 0, 0
    inflater = zlib.decompressobj()
    for kind, content in _png_chunks(file):
        if kind == b"IHDR":
            expected = _png_size(*struct.unpack(">IIBBxxB", content))
        elif kind == b"IDAT" and inflated <= expected:
            inflated += inflated_size(inflater, content)
    if inflated != expected or not inflater.eof:
        raise damaged("PNG", f"its rows must have {expected} bytes, got {inflated}")


def _png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    kind = b""
    while kind != b"IEND":
        header = file.read(8)
        if len(header) < 8:
            raise damaged("PNG", "no end chunk")
        length, kind = struct.unpack(">I4s", header)
        content, checksum = file.read(length), file.read(4)
        if checksum != struct.pack(">I", zlib.crc32(kind + content)):
            raise damaged("PNG", f"wrong checksum of chunk {kind!r}")
        yield kind, content


def _png_size(width: int, height: int, bits: int, color_type: int, interlaced: int) -> int:
    """Bytes of all rows, each with the byte that names its filter."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes)
    bits_per_pixel = bits * _PNG_CHANNELS[color_type]
    return sum(rows * (1 + -(-columns * bits_per_pixel // 8)) for columns, rows in sizes if columns > 0 and rows > 0)
