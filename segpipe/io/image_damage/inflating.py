"""Size of compressed data, of which few are held at once."""

import zlib

_INFLATED_AT_ONCE = 1 << 20


def inflated_size(inflater: "zlib._Decompress", content: bytes) -> int:
    """Bytes that come out of compressed ones, of which few are held at once."""
    size, produced = 0, _INFLATED_AT_ONCE
    while content or produced == _INFLATED_AT_ONCE:
        produced = len(inflater.decompress(content, _INFLATED_AT_ONCE))
        content = inflater.unconsumed_tail
        size += produced
    return size
