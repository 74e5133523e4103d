"""WebP: no data are left over; libwebp itself checks only that none are missing."""

import io
import struct
from typing import IO

from PIL.WebPImagePlugin import WebPImageFile

from segpipe.image_damage.refusal import damaged

# Bytes; of what libwebp writes, fewer at the end say nothing.
_CUT = 8


def check_webp(image: WebPImageFile, file: IO[bytes]) -> None:
    """Refuse a WebP whose decoder does not need all of the data."""
    parts = _webp_picture(file)
    canvas = bytes((0x10, 0, 0, 0)) + b"".join(struct.pack("<I", side - 1)[:3] for side in image.size)
    for kind, content in parts.items():
        if len(content) > 2 * _CUT:
            cut = {**({b"VP8X": canvas} if b"ALPH" in parts else {}), **parts, kind: content[:-_CUT]}
            chunks = b"".join(name + struct.pack("<I", len(part)) + part + bytes(len(part) % 2) for name, part in cut.items())
            riff = b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks
            _require_failure(riff)


def _webp_picture(file: IO[bytes]) -> dict[bytes, bytes]:
    """The chunks that hold the picture, or the first one of an animation: its transparency, then its colors."""
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
    raise damaged("WebP", "no picture")


def _require_failure(cut: bytes) -> None:
    """Decode data whose last bytes were cut off, which must fail, unless the decoder is out of step with them."""
    try:
        WebPImageFile(io.BytesIO(cut)).load()
    except Exception:  # whatever Pillow makes of it
        return
    raise damaged("WebP", "data are left over behind its last row")
