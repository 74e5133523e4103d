"""Detection of damage in HEIC images that their decoder conceals.

Reference:
    ISO/IEC 23008-12 (HEIF) and 14496-12 (boxes), ITU-T H.265 (HEVC).
"""

import struct
from collections.abc import Iterator, Mapping
from typing import IO, NamedTuple

from segpipe.errors import ImageError

_CODED = b"hvc1"  # type of the items that hold HEVC, whole images or tiles
_LENGTH_BYTES = 4  # before each unit of HEVC
# H.265 inserts a byte into each unit that would hold one of these; a part of a file that was not copied holds the first.
_NEVER_IN_A_UNIT = (b"\0\0\0", b"\0\0\1", b"\0\0\2")
Boxes = Mapping[bytes, bytes]


class _Location(NamedTuple):
    """Position of an item's data, bytes."""

    in_meta: bool
    extents: tuple[tuple[int, int], ...]


def require_complete_heic(file: IO[bytes]) -> None:
    """Refuse a HEIC image whose coded data have holes or end early.

    Args:
        file: Whole file; its position changes.

    Raises:
        ImageError: The file is damaged.
        struct.error, IndexError: Its boxes are shorter than they say.
    """
    file.seek(0)
    data = file.read()
    meta = _boxes(_boxes(data).get(b"meta", b"")[4:])
    if not {b"iinf", b"iloc"} <= meta.keys() or _length_bytes(meta) != _LENGTH_BYTES:
        return  # a sequence, or units of another kind
    locations = dict(_locations(meta[b"iloc"]))
    for item, kind in _items(meta[b"iinf"]):
        if kind == _CODED and item in locations:
            source = meta.get(b"idat", b"") if locations[item].in_meta else data
            _check_units(b"".join(source[start : start + size] for start, size in locations[item].extents))


def _boxes(data: bytes) -> dict[bytes, bytes]:
    """Return the content of the first box of each type."""
    found: dict[bytes, bytes] = {}
    for kind, content in _all_boxes(data):
        found.setdefault(kind, content)
    return found


def _all_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, position + 8)[0], 16
        end = position + size if size else len(data)
        if end < position + head:
            return
        yield kind, data[position + head : end]
        position = end


def _length_bytes(meta: Boxes) -> int | None:
    """Return the size of the lengths before units; None if unknown."""
    properties = _boxes(_boxes(meta.get(b"iprp", b"")).get(b"ipco", b""))
    return properties[b"hvcC"][21] % 4 + 1 if b"hvcC" in properties else None


def _items(iinf: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield id and type of each item."""
    for kind, content in _all_boxes(iinf[6 if iinf[0] == 0 else 8 :]):
        if kind == b"infe" and content[0] >= 2:
            yield struct.unpack_from(">4xH2x4s" if content[0] == 2 else ">4xI2x4s", content)


def _locations(iloc: bytes) -> Iterator[tuple[int, _Location]]:
    """Yield id and position of each item."""
    version, offset_bytes, length_bytes = iloc[0], iloc[4] >> 4, iloc[4] % 16
    base_bytes, index_bytes = iloc[5] >> 4, iloc[5] % 16 if version else 0
    position = 6

    def number(size: int) -> int:
        nonlocal position
        position += size
        return int.from_bytes(iloc[position - size : position])

    id_bytes = 4 if version == 2 else 2
    for _ in range(number(id_bytes)):
        item, method, _, base = number(id_bytes), number(2) % 16 if version else 0, number(2), number(base_bytes)
        extents = []
        for _ in range(number(2)):
            number(index_bytes)
            extents.append((base + number(offset_bytes), number(length_bytes)))
        if method in (0, 1):
            yield item, _Location(method == 1, tuple(extents))


def _check_units(coded: bytes) -> None:
    position = 0
    while position < len(coded):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(coded[position:start])
        unit = coded[start:position]
        if not unit or position > len(coded) or any(sign in unit for sign in _NEVER_IN_A_UNIT):
            raise ImageError("the HEIC is truncated or damaged (a part of its coded data is missing)")
