"""TIFF: each strip or tile has data of its own, and as many as its part of the picture needs."""

import io
import zlib
from enum import IntEnum
from typing import IO, NamedTuple

from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from segpipe.errors import ImageError
from segpipe.io.image_damage.inflating import inflated_size
from segpipe.io.image_damage.refusal import damaged
from segpipe.io.jpeg_decoding import decode_jpeg


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


_UNCOMPRESSED, _OLD_JPEG, _JPEG, _DEFLATE = 1, 6, 7, (8, 32946)
_PALETTE, _YCBCR = 3, 6


class _Block(NamedTuple):
    """A strip or a tile: where its data lie in the file, bytes, and the part of the picture that it holds, pixels."""

    offset: int
    size: int
    width: int
    height: int


def check_tiff(image: TiffImageFile, file: IO[bytes]) -> None:
    """Refuse a TIFF whose first page is a preview, or lacks strips, tiles, rows or colors."""
    tags = image.tag_v2
    if tags.get(_Tag.NEW_SUBFILE_TYPE, 0) & 1 or _Tag.DNG_VERSION in tags:
        raise ImageError("its first page is a preview, as in raw photographs, which are not supported; save it as JPEG or PNG")
    if tags.get(_Tag.COMPRESSION) == _OLD_JPEG:
        raise ImageError("old-style JPEG compression in TIFF is not supported; save it as JPEG or PNG")
    colors = 1 << tags.get(_Tag.BITS_PER_SAMPLE, (1,))[0]
    if tags.get(_Tag.PHOTOMETRIC) == _PALETTE and len(tags.get(_Tag.COLOR_MAP, ())) != 3 * colors:
        raise damaged("TIFF", f"its palette must have {colors} colors")
    length, end = file.seek(0, io.SEEK_END), 8
    blocks = sorted(_tiff_blocks(image))
    for block in blocks:
        if block.offset < end or block.size == 0 or block.offset + block.size > length:
            raise damaged("TIFF", f"no data of its own at {block.offset}, {block.size} bytes, in a file of {length}")
        end = block.offset + block.size
    for block in blocks:
        file.seek(block.offset)
        _check_tiff_block(image, block, file)


def _tiff_blocks(image: TiffImageFile) -> list[_Block]:
    tags = image.tag_v2
    width, height = tags[_Tag.WIDTH], tags[_Tag.LENGTH]  # not the size that the camera's orientation gives
    offsets, sizes = tags.get(_Tag.STRIP_OFFSETS, ()), tags.get(_Tag.STRIP_SIZES, ())
    wide, tall = width, min(height, tags.get(_Tag.ROWS_PER_STRIP, height))
    is_tiled = _Tag.TILE_OFFSETS in tags
    if is_tiled:
        offsets, sizes = tags[_Tag.TILE_OFFSETS], tags.get(_Tag.TILE_SIZES, ())
        wide, tall = tags[_Tag.TILE_WIDTH], tags[_Tag.TILE_LENGTH]
    planes = tags.get(_Tag.SAMPLES_PER_PIXEL, 1) if tags.get(_Tag.PLANAR) == 2 else 1
    heights = [tall if is_tiled else min(tall, height - top) for top in range(0, height, tall) for _ in range(0, width, wide)]
    if not len(offsets) == len(sizes) == len(heights) * planes:
        raise damaged("TIFF", f"it must have {len(heights) * planes} strips or tiles, got {len(offsets)}")
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
        size = inflated_size(inflater, content) if content else block.size
        if not 0 <= size - block.height * row < row or (content and not inflater.eof):
            raise damaged("TIFF", f"a strip or tile must hold {block.height * row} bytes, got {size}")


def _check_tiff_jpeg(tables: bytes, content: bytes, block: _Block) -> None:
    stream = tables + content[2:] if tables else content
    header = JpegImageFile(io.BytesIO(stream))
    if header.width != block.width or header.height < block.height:
        raise damaged("TIFF", f"a strip or tile of {block.width} x {block.height} pixels has {header.width} x {header.height}")
    decode_jpeg(stream, header.mode, header.size, factor=8)
