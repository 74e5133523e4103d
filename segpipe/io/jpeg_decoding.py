"""Strict JPEG decoding, with every warning of libjpeg-turbo as an error.

libjpeg-turbo fills in missing or unreadable data and mostly warns of it. Damage without a warning is checked here: missing scans,
runs of zeros, and arithmetic-coded data that end early, where trailing zeros may legally be omitted.
"""

import io
import re
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from segpipe.errors import ImageError

_COLOR_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
# Start-of-frame codes, without those in between of another meaning (Huffman tables, JPG, arithmetic conditioning).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ARITHMETIC = frozenset(range(0xC9, 0xD0)) - {0xCC}
_TABLES, _SCAN, _END = 0xC4, 0xDA, 0xD9
# A restart marker or an escaped 0xFF does not end a scan.
_END_OF_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_COEFFICIENTS = 64
# Longer than any valid block of zeros, 189 bits, whose code of zeros does not end it.
_HOLE = bytes(32)
# Zeros first, because they may be omitted at the end of arithmetic-coded data.
_STUFFING = bytes(32) + b"\x55" * 64


@dataclass(frozen=True)
class _Scan:
    """Scan of a JPEG.

    Attributes:
        components: Identifiers of its components.
        coefficients: Range of its coefficients.
        bits_left: Number of low bits left to later scans.
        coded: Position of its coded data.
        may_hold_zeros: True if its shortest codes, all zeros, stand for a flat block, so that long runs of zeros are valid.
    """

    components: bytes
    coefficients: slice
    bits_left: int
    coded: slice
    may_hold_zeros: bool


@dataclass(frozen=True)
class _Layout:
    """Marker code and components of the frame, with its scans."""

    frame: int
    components: bytes
    scans: tuple[_Scan, ...]


def decode_jpeg(data: bytes, mode: str, size: tuple[int, int], *, factor: int = 1) -> NDArray[np.uint8]:
    """Decode a JPEG that is complete and undamaged.

    Args:
        data: Content of the file; anything after its end marker is ignored.
        mode: `RGB`, `L`, or `CMYK` for four components, whose values are returned as stored.
        size: Width and height in the header, pixels.
        factor: 1, 2, 4 or 8: reduction of the decoded image, rounded up.

    Returns:
        uint8, shape (h, w, channels), with 3, 1 or 4 channels.

    Raises:
        ImageError: The data are damaged or incomplete, as far as the decoder can tell.
    """
    width, height = (-(-side // factor) for side in size)
    space = _COLOR_SPACES[mode]
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, space, min_height=height, min_width=width, min_factor=factor, strict=True
        )
    except ValueError as error:
        if "subsampling" not in str(error):
            raise _damaged(" ".join(str(error).split())) from error
        pixels = _decode_rare_sampling(data, mode, factor)
    layout = _layout(data)
    _require_all_scans(layout)
    if any(_HOLE in data[scan.coded] for scan in layout.scans if not scan.may_hold_zeros):
        raise _damaged("a run of zeros in its coded data")
    if layout.frame in _ARITHMETIC:
        _require_independence_of_later_bytes(data, layout)
    return pixels


def _damaged(reason: str) -> ImageError:
    return ImageError(f"the JPEG is truncated or damaged ({reason})")


def _layout(data: bytes) -> _Layout:
    """Read the markers of the first image in an accepted file."""
    position, frame, components, scans = 2, 0, b"", list[_Scan]()
    first_symbols: dict[int, int] = {}
    while True:
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if position + 4 > len(data) or data[position] != 0xFF or data[position + 1] == _END:
            return _Layout(frame, components, tuple(scans))
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        body, position = data[position + 4 : position + 2 + length], position + 2 + length
        if marker in _FRAMES:
            frame, components = marker, body[6::3]
        elif marker == _TABLES:
            first_symbols |= _first_symbols(body)
        elif marker == _SCAN:
            end = _END_OF_SCAN.search(data, position)
            coded = slice(position, end.start() if end else len(data))
            scans.append(_scan(body, coded, frame, first_symbols))
            position = coded.stop


def _first_symbols(tables: bytes) -> dict[int, int]:
    """Map each Huffman table to the meaning of its zero code."""
    found = {}
    while len(tables) > 17:
        found[tables[0]] = tables[17]
        tables = tables[17 + sum(tables[1:17]) :]
    return found


def _scan(header: bytes, coded: slice, frame: int, first_symbols: dict[int, int]) -> _Scan:
    first, last, bits = header[-3:]
    components, tables = header[1:-3:2], header[2:-3:2]
    if frame in _PROGRESSIVE:
        return _Scan(components, slice(first, last + 1), bits & 0x0F, coded, may_hold_zeros=True)
    codes = {first_symbols.get(number) for table in tables for number in (table >> 4, 0x10 | table & 0x0F)}
    return _Scan(components, slice(0, _COEFFICIENTS), 0, coded, may_hold_zeros=frame in _ARITHMETIC or codes == {0})


def _require_all_scans(layout: _Layout) -> None:
    """Refuse scans that do not define every bit of every coefficient."""
    complete = {component: np.zeros(_COEFFICIENTS, dtype=np.bool_) for component in layout.components}
    for scan in layout.scans:
        for component in scan.components:
            complete[component][scan.coefficients] = scan.bits_left == 0
    if not all(coefficients.all() for coefficients in complete.values()):
        raise _damaged(f"scans are missing after the first {len(layout.scans)}")


def _decode_rare_sampling(data: bytes, mode: str, factor: int) -> NDArray[np.uint8]:
    """Decode color sampling unknown to simplejpeg with Pillow, which misses some damage."""
    layout = _layout(data)
    _require_independence_of_later_bytes(data, layout)
    if layout.frame not in _PROGRESSIVE:
        _require_dependence_on_last_bytes(data, layout.scans[-1].coded)
    return _decode_by_pillow(data, mode, factor)


def _require_dependence_on_last_bytes(data: bytes, coded: slice) -> None:
    """Refuse data with leftover bytes, on which the image does not depend."""
    start = max(coded.start, coded.stop - max(64, (coded.stop - coded.start) // 10))
    start += data[start - 1] == 0xFF  # an escaped byte is not altered by half
    altered = bytes((byte ^ 0x55) % 0xFF for byte in data[start : coded.stop])
    with suppress(OSError):  # altered bytes may also cause an error
        changed = _decode_leniently(data[:start] + altered + data[coded.stop :])
        if np.array_equal(_decode_leniently(data), changed):
            raise _damaged("data are left over after its last row")


def _require_independence_of_later_bytes(data: bytes, layout: _Layout) -> None:
    """Refuse data that end early: the image depends on later bytes."""
    stuffed = data
    for scan in reversed(layout.scans):
        coded = _RESTART.sub(lambda marker: _STUFFING + marker[0], data[scan.coded]) + _STUFFING
        stuffed = stuffed[: scan.coded.start] + coded + stuffed[scan.coded.stop :]
    if not np.array_equal(_decode_leniently(data), _decode_leniently(stuffed)):
        raise _damaged("its coded data end early")


def _decode_leniently(data: bytes) -> NDArray[np.uint8]:
    """Decode the available data, as libjpeg-turbo does by default."""
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, strict=False)
    except ValueError:  # four components, or rare sampling
        pixels = _decode_by_pillow(data, "CMYK", 1)
    return pixels


def _decode_by_pillow(data: bytes, mode: str, factor: int) -> NDArray[np.uint8]:
    image = JpegImageFile(io.BytesIO(data))
    image.draft(None if mode == "CMYK" else mode, (image.width // factor, image.height // factor))
    return np.asarray(image).reshape(image.height, image.width, -1)
