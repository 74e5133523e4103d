"""Detection of damage that Pillow does not report.

Each format is checked against its own sizes and checksums.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import IO, NamedTuple

from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from segpipe.errors import ImageError
from segpipe.io.heif_damage import require_complete_heic
from segpipe.io.image_formats import HEIC
from segpipe.io.jpeg_decoding import decode_jpeg

_INFLATED_AT_ONCE = 1 << 20  # bytes
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column, first row, column step and row step of the seven passes of an interlaced PNG.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# Compressions and photometric interpretations of TIFF.
_UNCOMPRESSED, _OLD_JPEG, _JPEG, _DEFLATE = 1, 6, 7, (8, 32946)
_PALETTE, _YCBCR = 3, 6
# Bytes to cut off; fewer are inconclusive with libwebp. A cut image may decode by chance, but not at several cuts.
_CUTS = (8, 9, 11)


class _Tag(IntEnum):
    NEW_SUBFILE_TYPE = 254
    WIDTH = 256
    LENGTH = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_SIZES = 279
    PLANAR = 284
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_SIZES = 325
    JPEG_TABLES = 347
    DNG_VERSION = 50706


class _Block(NamedTuple):
    """Strip or tile: data position and size in bytes, area in pixels."""

    offset: int
    size: int
    width: int
    height: int


def require_complete(image: ImageFile, file: IO[bytes]) -> None:
    """Refuse a file with damage that its decoder does not report.

    Args:
        image: Header, as Pillow read it; JPEG files are left to `decode_jpeg`.
        file: Whole file; its position is kept.

    Raises:
        ImageError: The file is damaged, or its first page is only a preview of another image.
    """
    position = file.tell()
    if isinstance(image, PngImageFile):
        _check_png(file)
    elif isinstance(image, TiffImageFile):
        _check_tiff(image, file)
    elif isinstance(image, BmpImageFile):
        _check_bmp(file)
    elif isinstance(image, WebPImageFile):
        _check_webp(image, file)
    elif image.format == HEIC:
        require_complete_heic(file)
    file.seek(position)


def palette_entries(image: ImageFile) -> int | None:
    """Count the palette colors of an unloaded image; None without a palette."""
    if image.mode != "P":
        return None
    if image.palette is None:
        return 0
    layout, colors = image.palette.getdata()
    return len(colors) // len(layout.split(";")[0])


def _check_bmp(file: IO[bytes]) -> None:
    """Refuse a BMP whose row sizes contradict its header."""
    file.seek(14)
    size, width, height, _, bits, compression, pixels = struct.unpack("<IiiHHII", file.read(24))
    row = -(-width * bits // 32) * 4
    if size >= 40 and compression in (0, 3) and pixels and abs(pixels - abs(height) * row) >= row:
        raise _damaged("BMP", f"its rows must have {abs(height) * row} bytes, got {pixels}")


def _check_png(file: IO[bytes]) -> None:
    """Refuse a PNG with wrong checksums, row sizes or end."""
    file.seek(8)
    expected, inflated = 0, 0
    inflater = zlib.decompressobj()
    for kind, content in _png_chunks(file):
        if kind == b"IHDR":
            expected = _png_size(*struct.unpack(">IIBBxxB", content))
        elif kind == b"IDAT" and inflated <= expected:
            inflated += _inflated_size(inflater, content)
    if inflated != expected or not inflater.eof:
        raise _damaged("PNG", f"its rows must have {expected} bytes, got {inflated}")


def _png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    kind = b""
    while kind != b"IEND":
        header = file.read(8)
        if len(header) < 8:
            raise _damaged("PNG", "no end chunk")
        length, kind = struct.unpack(">I4s", header)
        content, checksum = file.read(length), file.read(4)
        if checksum != struct.pack(">I", zlib.crc32(kind + content)):
            raise _damaged("PNG", f"wrong checksum of chunk {kind!r}")
        yield kind, content


def _png_size(width: int, height: int, bits: int, color_type: int, interlaced: int) -> int:
    """Count the bytes of all rows, each with its filter byte."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes)
    bits_per_pixel = bits * _PNG_CHANNELS[color_type]
    return sum(rows * (1 + -(-columns * bits_per_pixel // 8)) for columns, rows in sizes if columns > 0 and rows > 0)


def _check_tiff(image: TiffImageFile, file: IO[bytes]) -> None:
    """Refuse a TIFF that starts with a preview or lacks data."""
    tags = image.tag_v2
    if tags.get(_Tag.NEW_SUBFILE_TYPE, 0) & 1 or _Tag.DNG_VERSION in tags:
        raise ImageError("its first page is a preview, as in raw photographs, which are not supported; save it as JPEG or PNG")
    if tags.get(_Tag.COMPRESSION) == _OLD_JPEG:
        raise ImageError("old-style JPEG compression in TIFF is not supported; save it as JPEG or PNG")
    colors = 1 << tags.get(_Tag.BITS_PER_SAMPLE, (1,))[0]
    if tags.get(_Tag.PHOTOMETRIC) == _PALETTE and len(tags.get(_Tag.COLOR_MAP, ())) != 3 * colors:
        raise _damaged("TIFF", f"its palette must have {colors} colors")
    length, end = file.seek(0, io.SEEK_END), 8
    blocks = sorted(_tiff_blocks(image))
    for block in blocks:
        if block.offset < end or block.size == 0 or block.offset + block.size > length:
            raise _damaged("TIFF", f"no data of its own at {block.offset}, {block.size} bytes, in a file of {length}")
        end = block.offset + block.size
    for block in blocks:
        file.seek(block.offset)
        _check_tiff_block(image, block, file)


def _tiff_blocks(image: TiffImageFile) -> list[_Block]:
    tags = image.tag_v2
    width, height = tags[_Tag.WIDTH], tags[_Tag.LENGTH]  # stored size, before the orientation of the camera is applied
    offsets, sizes = tags.get(_Tag.STRIP_OFFSETS, ()), tags.get(_Tag.STRIP_SIZES, ())
    wide, tall = width, min(height, tags.get(_Tag.ROWS_PER_STRIP, height))
    is_tiled = _Tag.TILE_OFFSETS in tags
    if is_tiled:
        offsets, sizes = tags[_Tag.TILE_OFFSETS], tags.get(_Tag.TILE_SIZES, ())
        wide, tall = tags[_Tag.TILE_WIDTH], tags[_Tag.TILE_LENGTH]
    planes = tags.get(_Tag.SAMPLES_PER_PIXEL, 1) if tags.get(_Tag.PLANAR) == 2 else 1
    heights = [tall if is_tiled else min(tall, height - top) for top in range(0, height, tall) for _ in range(0, width, wide)]
    if not len(offsets) == len(sizes) == len(heights) * planes:
        raise _damaged("TIFF", f"it must have {len(heights) * planes} strips or tiles, got {len(offsets)}")
    return [_Block(offset, size, wide, rows) for offset, size, rows in zip(offsets, sizes, heights * planes, strict=True)]


def _check_tiff_block(image: TiffImageFile, block: _Block, file: IO[bytes]) -> None:
    tags = image.tag_v2
    compression = tags.get(_Tag.COMPRESSION, _UNCOMPRESSED)
    samples = 1 if tags.get(_Tag.PLANAR) == 2 else tags.get(_Tag.SAMPLES_PER_PIXEL, 1)
    row = -(-block.width * samples * tags.get(_Tag.BITS_PER_SAMPLE, (1,))[0] // 8)
    content = b"" if compression == _UNCOMPRESSED else file.read(block.size)
    if compression == _JPEG:
        _check_tiff_jpeg(tags.get(_Tag.JPEG_TABLES, b"")[:-2], content, block)
    elif compression in (_UNCOMPRESSED, *_DEFLATE) and tags.get(_Tag.PHOTOMETRIC) != _YCBCR and tags.get(_Tag.FILL_ORDER, 1) == 1:
        inflater = zlib.decompressobj()
        size = _inflated_size(inflater, content) if content else block.size
        if not 0 <= size - block.height * row < row or (content and not inflater.eof):
            raise _damaged("TIFF", f"a strip or tile must hold {block.height * row} bytes, got {size}")


def _check_tiff_jpeg(tables: bytes, content: bytes, block: _Block) -> None:
    stream = tables + content[2:] if tables else content
    header = JpegImageFile(io.BytesIO(stream))
    if header.width != block.width or header.height < block.height:
        raise _damaged("TIFF", f"a strip or tile of {block.width} x {block.height} pixels has {header.width} x {header.height}")
    decode_jpeg(stream, header.mode, header.size, factor=8)


def _check_webp(image: WebPImageFile, file: IO[bytes]) -> None:
    """Refuse a WebP whose last bytes are not needed for decoding.

    Its decoder is then out of step with the data.
    """
    parts = _webp_parts(file)
    canvas = bytes((0x10, 0, 0, 0)) + b"".join(struct.pack("<I", side - 1)[:3] for side in image.size)
    whole = {b"VP8X": canvas, **parts} if b"ALPH" in parts else parts
    for kind, content in parts.items():
        if len(content) > 2 * max(_CUTS) and all(_webp_decodes({**whole, kind: content[:-cut]}) for cut in _CUTS):
            raise _damaged("WebP", "data are left over after its last row")


def _webp_parts(file: IO[bytes]) -> dict[bytes, bytes]:
    """Read the chunks of the first frame: transparency, then colors."""
    file.seek(12)
    parts: dict[bytes, bytes] = {}
    while len(header := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", header)
        if kind in (b"ALPH", b"VP8 ", b"VP8L"):
            parts[kind] = file.read(length)
            if kind != b"ALPH":
                return parts
            file.seek(length % 2, io.SEEK_CUR)
        else:
            file.seek(16 if kind == b"ANMF" else length + length % 2, io.SEEK_CUR)
    raise _damaged("WebP", "no image data")


def _webp_decodes(parts: Mapping[bytes, bytes]) -> bool:
    chunks = b"".join(kind + struct.pack("<I", len(part)) + part + bytes(len(part) % 2) for kind, part in parts.items())
    try:
        WebPImageFile(io.BytesIO(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks)).load()
    except Exception:  # Pillow raises almost anything on damaged bytes
        return False
    return True


def _inflated_size(inflater: "zlib._Decompress", content: bytes) -> int:
    """Count the bytes that compressed data expand to, without holding them all."""
    size, produced = 0, _INFLATED_AT_ONCE
    while content or produced == _INFLATED_AT_ONCE:
        produced = len(inflater.decompress(content, _INFLATED_AT_ONCE))
        content = inflater.unconsumed_tail
        size += produced
    return size


def _damaged(name: str, reason: str) -> ImageError:
    """Build the error for a damaged file of the format `name`."""
    return ImageError(f"the {name} is truncated or damaged ({reason})")
