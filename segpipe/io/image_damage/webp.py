"""WebP: no data are left over; libwebp itself checks only that none are missing."""

import io
import struct
from collections.abc import Mapping
from typing import IO

from PIL.WebPImagePlugin import WebPImageFile

from segpipe.io.image_damage.refusal import damaged

# Bytes; of what libwebp writes, fewer at the end say nothing. A cut picture may decode by chance, but not at several cuts.
_CUTS = (8, 9, 11)


def check_webp(image: WebPImageFile, file: IO[bytes]) -> None:
    """Refuse a WebP that decodes without its last bytes, because the decoder is out of step with the data."""
    parts = _parts(file)
    canvas = bytes((0x10, 0, 0, 0)) + b"".join(struct.pack("<I", side - 1)[:3] for side in image.size)
    whole = {b"VP8X": canvas, **parts} if b"ALPH" in parts else parts
    for kind, content in parts.items():
        if len(content) > 2 * max(_CUTS) and all(_decodes({**whole, kind: content[:-cut]}) for cut in _CUTS):
            raise damaged("WebP", "data are left over behind its last row")


def _parts(file: IO[bytes]) -> dict[bytes, bytes]:
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


def _decodes(parts: Mapping[bytes, bytes]) -> bool:
    chunks = b"".join(kind + struct.pack("<I", len(part)) + part + bytes(len(part) % 2) for kind, part in parts.items())
    try:
        WebPImageFile(io.BytesIO(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks)).load()
    except Exception:  # on damaged bytes Pillow raises almost anything
        return False
    return True
