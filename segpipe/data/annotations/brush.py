"""Run-length code of Label Studio's brush.

A brush stroke is an RGBA picture, whose opacity is the mask. Its bytes are packed into a stream of bits: a header, then blocks
of equal or of different values. Label Studio gives the bytes of the stream as a list of numbers.

Reference:
    https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack, as used by the package label-studio-converter.
"""

from collections.abc import Sequence
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from segpipe.types import BoolMask

_CHANNELS = 4
_WORD_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)  # of the length of a block, by its two-bit number
_LONGEST_BLOCK = 2 ** _LENGTH_BITS[-1]
_POWERS = 2 ** np.arange(31, -1, -1)


def decode_brush(code: Sequence[int], height: int, width: int) -> BoolMask:
    """Decode the mask of a brush.

    Args:
        code: Bytes of the stream, each 0 to 255.
        height: Height of the image, pixels.
        width: Width of the image, pixels.

    Returns:
        Bool, shape (H, W), true where the opacity is above half of its maximum.

    Raises:
        ValueError: The stream is damaged, or of an image of another size.
    """
    values = unpack(code, height * width * _CHANNELS)
    opacity = values.reshape(height, width, _CHANNELS)[..., -1]
    return np.asarray(opacity > opacity.max() / 2)


def unpack(code: Sequence[int], number: int) -> NDArray[np.uint8]:
    """Unpack a stream.

    Args:
        code: Bytes of the stream, each 0 to 255.
        number: Number of values that it must hold.

    Returns:
        uint8 (number,).

    Raises:
        ValueError: The stream is damaged, or holds another number of values.
    """
    stream = _Bits(np.array(code, np.uint8))
    held = stream.read(32)
    if held != number:
        raise ValueError(f"the code of a brush must hold {number} values, {_CHANNELS} for each pixel of its image, got {held}")
    word_bits = stream.read(5) + 1
    length_bits = [stream.read(4) + 1 for _ in _LENGTH_BITS]
    values = np.zeros(number, np.uint8)
    start = 0
    while start < number:
        is_run = stream.read(1)
        end = start + 1 + stream.read(length_bits[stream.read(2)])
        if end > number:
            raise ValueError(f"the code of a brush must end with the last of {number} values, got one for value {end}")
        values[start:end] = stream.words(1 if is_run else end - start, word_bits)
        start = end
    return values


def encode_brush(mask: BoolMask) -> list[int]:
    """Encode a mask as the stream of a brush.

    Args:
        mask: Bool, shape (H, W).

    Returns:
        Bytes of the stream; the lesion is white and opaque, the skin black and transparent.
    """
    flat = mask.ravel()
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    lengths = _CHANNELS * np.diff(edges)
    runs = chain.from_iterable(_blocks(int(length), bool(flat[edge])) for length, edge in zip(lengths, edges, strict=False))
    header = f"{_CHANNELS * flat.size:032b}{_WORD_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in _LENGTH_BITS)
    stream = "".join(chain([header], runs))
    return np.packbits(np.frombuffer(stream.encode(), np.uint8) - ord("0")).tolist()


def _blocks(length: int, is_lesion: bool) -> list[str]:
    """Write the blocks of a run."""
    whole, rest = divmod(length, _LONGEST_BLOCK)
    return [_block(size, 255 * is_lesion) for size in (*repeat(_LONGEST_BLOCK, whole), *([rest] if rest else []))]


def _block(length: int, value: int) -> str:
    number, bits = next(item for item in enumerate(_LENGTH_BITS) if length <= 2 ** item[1])
    return f"1{number:02b}{length - 1:0{bits}b}{value:0{_WORD_BITS}b}"


class _Bits:
    """Reader of a stream of bits."""

    def __init__(self, code: NDArray[np.uint8]) -> None:
        self._bits = np.unpackbits(code)
        self._position = 0

    def read(self, size: int) -> int:
        """Read a number of `size` bits, the highest first."""
        return int(self._take(size) @ _POWERS[-size:])

    def words(self, number: int, size: int) -> NDArray[np.uint8]:
        """Read numbers of `size` bits each, modulo 256."""
        return np.asarray((self._take(number * size).reshape(number, size) @ _POWERS[-size:]) & 255, np.uint8)

    def _take(self, size: int) -> NDArray[np.uint8]:
        end = self._position + size
        if end > self._bits.size:
            raise ValueError(f"the code of a brush must not end within a value, got {self._bits.size // 8} bytes")
        taken, self._position = self._bits[self._position : end], end
        return taken
