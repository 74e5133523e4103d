"""Damaged image files of each format and kind of damage."""

import base64
import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from segpipe.types import RgbImage

FLIPS = 24


@dataclass(frozen=True)
class Damaged:
    """A damaged file.

    Attributes:
        family: Format and kind of damage; cases are counted by family.
        case: Name of the damage within its family.
        data: Content of the file.
    """

    family: str
    case: str
    data: bytes


def photo(height: int = 72, width: int = 104) -> RgbImage:
    """Return an image with texture everywhere, so that lost data are visible."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [120 + 60 * np.sin(columns / 7 + rows / 5), 110 + 50 * np.cos(rows / 6), 90 + columns % 90]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return (np.stack(waves, axis=-1) + noise).clip(0, 255).astype(np.uint8)


def encode(image: Image.Image, **options: Any) -> bytes:
    """Return the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(bits: int, color_type: int, rows: bytes, *, interlaced: bool = False, palette: bytes = b"") -> bytes:
    """Return a PNG with given rows and valid checksums."""
    header = struct.pack(">IIBBBBB", *RGB.size, bits, color_type, 0, 0, interlaced)
    parts = [png_chunk(b"IHDR", header), png_chunk(b"PLTE", palette) if palette else b""]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")])


def png_rows(pixels: NDArray[np.uint8]) -> bytes:
    """Return unfiltered rows of 8 bits per channel."""
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def interlaced_rows(pixels: NDArray[np.uint8]) -> bytes:
    """Return unfiltered rows of the seven passes."""
    starts = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return b"".join(png_rows(pixels[top::down, left::across]) for left, top, across, down in starts)


# Written by cjpeg: Pillow writes neither arithmetic coding nor chroma with a quarter of the width and half of the height.
ARITHMETIC_JPEG = base64.b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6ModmpQ&KWMT47pHU`kO^PygEhLjevB4i"
    "ga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPf!2J01*fPC;&JE0U`hb5di}c0sqVZ3IGrg1pyEd1^?Or3<Ci"
    "G0ucid06zfHXCn8U^M5Ab;J^TQs@%NANfZSa7sEEYn$fd}3V%J!vliIQM_`3-U?+Ve$%q~mvQ$c)1AX<vP%sptXkBk(KdF;UPRVL1`XP4r4>CmnWhNwpCyF_Jz"
    "BN;;O_98ZOOTAPfQa^5)2vgY(y-sA3WYJ3x6por6wDpR@rOa|_Iq7+PnM4n8N)lhLI%E<beIz5N5<7dvvHA@Gw&Qya^!FEpDfvoDGJwJb1qB1kAvA1=6YgSj)S"
    "to3&^S&VbM@*>S33%7vuc{QuU13IUl<J0Aakmci~tdn$1h)x7)8{b#`SqddnRG_TbcbNMt=88g$<1FVjjzFL<W9ns&<c|Je"
)
RARE_SAMPLING_JPEG = base64.b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6ModmpQ&KWMT47pHU`kO^PygEhLjevB4i"
    "ga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPf!2A01*fPC;&JE0YU%*5di}c0sq7R9{>OW1pxs80RaI30000"
    "0000010s{mE1_uZU3Jd?l0JRVR0s#X90t5pE1q1{D00Dgg0s{a95d{(<F+m0sQDFxnaTGFvk)a49Lb1UWQqk}vGh%Xr2?`b$7#SKRCMPH<Dl|1VH#j*uLqtVJM"
    "@UIZQ&d$}S6EqEV`OD!XJ~0^b98lfcX)YvgM@{Khlq)al9QB`mY0~BnxdnmrKYE-sj9NGw6(UkxVgH*!^FkL$H>Xb($mz{*4NnC+Tr5k<mKk)=;`Y5^7Hid_V@"
    "Vt`v1fL9{~UZ0RaI40RaI40RR91000010s{mE1_uZU3Jd?l0JRYS0s#U91Oo&I1q1{D0Rndb0RjUN1O*{61`<J02Vrp&A~Jyp6he`qvB3!=Gg9ysVsg<679=#`"
    "CGi&+85$-hC@Cs6Ha9pqIzvQ7Mn_0VN>fx-R##YAT4Q8oW@l(=YIAgTc6WGrdV+(5g@%WSiHeewl$Dm3n3<ZQqok##r>Lo_va__cwzs&sy28W6#m2|T$;#5x)Y"
    "aD4*xB0R<K*S$=jiF`^7Hid_V@Vt`v2Mh3<CiG0ucid06ze_tco&v(lyGiaB8fVK=GQ7&D~WbzW1unc+5{Zp=M@0nzIv=j8ntVvb!S@P1KhpO$dfa;;qMkJq="
    "1_RR^^dkdtE^^rdUSz3Q}=r1UgbeJU<yvZS!_OR0``vFK^(3o+y$#;!#H9l5E3?Hn3NtbMBDS%u`TF-|Z6oKzC0p~Z7TvXinpXv#F>&myzR-72fd&FhLqR&EUy"
    "aKu}Re0F8KeJb2m91bY2PMui69IAg<lV*sGRC-ffs*l2}$iU|{7Qn})6j4Qd{u{Z;jhniULU^s$xT|qMqnuQPC<clsqKfW=yVTl0yQaBM|Je"
)
RGB, GRAY = Image.fromarray(photo()), Image.fromarray(photo()).convert("L")
_PALETTE_PICTURE = RGB.quantize(200)
_PALETTE = bytes(_PALETTE_PICTURE.getpalette() or ())[:600]
_INDICES = np.asarray(_PALETTE_PICTURE)

JPEGS: dict[str, bytes] = {
    "baseline": encode(RGB, format="JPEG", quality=85),
    "progressive": encode(RGB, format="JPEG", quality=85, progressive=True),
    "full chroma": encode(RGB, format="JPEG", quality=92, subsampling=0, optimize=True),
    "restarts": encode(RGB, format="JPEG", quality=85, restart_marker_blocks=2),
    "gray": encode(GRAY, format="JPEG", quality=85),
    "cmyk": encode(RGB.convert("CMYK"), format="JPEG", quality=85),
    "arithmetic": ARITHMETIC_JPEG,
    "rare sampling": RARE_SAMPLING_JPEG,
}
PNGS: dict[str, bytes] = {
    "rgb": encode(RGB, format="PNG"),
    "gray": encode(GRAY, format="PNG"),
    "palette": png(8, 3, png_rows(_INDICES), palette=_PALETTE),
    "interlaced": png(8, 2, interlaced_rows(photo()), interlaced=True),
    "16 bits": png(16, 2, png_rows(np.repeat(photo(), 2, axis=1).reshape(72, 104, 6))),
}
TIFFS: dict[str, bytes] = {
    name: encode(image, format="TIFF", strip_size=8192, **options)
    for name, (image, options) in {
        "plain": (RGB, {}),
        "lzw": (RGB, {"compression": "tiff_lzw"}),
        "deflate": (RGB, {"compression": "tiff_adobe_deflate"}),
        "packbits": (RGB, {"compression": "packbits"}),
        "jpeg": (RGB, {"compression": "jpeg", "quality": 85}),
        "fax": (GRAY.convert("1"), {"compression": "group4"}),
    }.items()
}
WEBPS: dict[str, bytes] = {
    "lossy": encode(RGB, format="WEBP", quality=80),
    "lossless": encode(RGB, format="WEBP", lossless=True),
    "transparent": encode(Image.merge("RGBA", (*RGB.split(), GRAY)), format="WEBP", quality=80),
}
BMPS: dict[str, bytes] = {"rgb": encode(RGB, format="BMP"), "palette": encode(_PALETTE_PICTURE, format="BMP")}
FORMATS = {"JPEG": JPEGS, "PNG": PNGS, "TIFF": TIFFS, "WebP": WEBPS, "BMP": BMPS}


def damage(name: str, kind: str) -> Iterator[Damaged]:
    """Return all damaged files of one of `FORMATS`; deterministic."""
    data = FORMATS[name][kind]
    for make in (damage_anywhere, _OWN[name]):
        for case in make(data, np.random.default_rng(zlib.crc32(f"{name} {kind}".encode()))):
            yield Damaged(f"{name} {case.family}", f"{kind}: {case.case}", case.data)


def damage_anywhere(data: bytes, rng: np.random.Generator) -> Iterator[Damaged]:
    """Damage of any file: truncation, holes, changed, moved or lost bytes."""
    first = _first_of_pixels(data)
    offsets = np.linspace(first + 8, len(data) - 40, 6, dtype=int).tolist()
    for offset in offsets:
        hole = min(64, (len(data) - first) // 4)
        yield Damaged("cut off", f"at {offset}", data[:offset])
        yield Damaged("hole of zeros", f"at {offset}", _put(data, offset, bytes(hole)))
        yield Damaged("hole of ones", f"at {offset}", _put(data, offset, b"\xff" * hole))
        yield Damaged("bytes lost", f"{hole} at {offset}", data[:offset] + data[offset + hole :])
        yield Damaged("bytes added", f"{hole} at {offset}", data[:offset] + data[offset - hole : offset] + data[offset:])
    for offset in rng.integers(first, len(data) - 4, FLIPS):
        yield Damaged("flipped byte", f"at {offset}", _put(data, offset, bytes([data[offset] ^ int(rng.integers(1, 256))])))


def _first_of_pixels(data: bytes) -> int:
    """Return the approximate end of the header."""
    if data.startswith(b"\xff\xd8"):
        return data.index(b"\xff\xda") + 14
    if data.startswith(b"BM"):
        return 1100
    if data[4:8] == b"ftyp":
        return data.index(b"mdat") + 4
    name = next((name for name in (b"IDAT", b"VP8") if name in data), None)
    return 16 if name is None else data.index(name) + (4 if name == b"IDAT" else 18)


def _put(data: bytes, offset: int, new: bytes) -> bytes:
    return (data[:offset] + new + data[offset + len(new) :])[: len(data)]


def _jpeg(data: bytes, rng: np.random.Generator) -> Iterator[Damaged]:
    first, end = _first_of_pixels(data), b"\xff\xd9"
    for fraction in (0.1, 0.25, 0.5, 0.75, 0.9):
        yield Damaged("cut off with an end marker", f"at {fraction}", data[: first + int(fraction * (len(data) - first))] + end)
    size = re.search(rb"\xff[\xc0-\xc2\xc9]\0.\x08", data, re.DOTALL).end()  # type: ignore[union-attr]
    height, width = struct.unpack(">HH", data[size : size + 4])
    for sides in ((2 * height, width), (height // 2, width), (height, 2 * width), (height, width // 2), (8 * height, width)):
        yield Damaged("wrong size in the header", f"{sides}", _put(data, size, struct.pack(">HH", *sides)))
    scans = [match.start() for match in re.finditer(rb"\xff\xda", data)]
    for number, (start, stop) in enumerate(zip(scans, [*scans[1:], len(data) - 2], strict=True)):
        yield Damaged("scans lost", f"from {number}", data[:start] + end)
        yield Damaged("scans lost", f"only {number}", data[:start] + data[stop:])
    restarts = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    for start, stop in pairwise(restarts):
        yield Damaged("restart interval lost", f"at {start}", data[:start] + data[stop:])
        yield Damaged("restart interval empty", f"at {start}", data[: start + 2] + data[stop:])
    if len(restarts) > 8:
        yield Damaged("restart interval lost", "eight", data[: restarts[0]] + data[restarts[8] :])
        yield Damaged("restart interval lost", "last", data[: restarts[-1]] + end)


def _png(data: bytes, rng: np.random.Generator) -> Iterator[Damaged]:
    for offset in (18, 40, len(data) // 2, len(data) - 14):
        yield Damaged("wrong checksum", f"at {offset}", _put(data, offset, bytes([data[offset] ^ 1])))
    at = data.index(b"IDAT") - 4
    length = struct.unpack(">I", data[at : at + 4])[0]
    packed = data[at + 8 : at + 8 + length]
    rows = zlib.decompress(packed)
    tail = data[at + 12 + length :]
    for fraction in (0, 0.3, 0.5, 0.9, 0.999):
        short = zlib.compress(rows[: int(fraction * len(rows))])
        yield Damaged("rows too short", f"{fraction}", data[:at] + png_chunk(b"IDAT", short) + tail)
        early = packed[: int(fraction * len(packed))]
        yield Damaged("compressed data that end early", f"{fraction}", data[:at] + png_chunk(b"IDAT", early) + tail)
    width, height, *rest = struct.unpack(">IIBBBBB", data[16:29])
    for sides in ((width, 2 * height), (width, height // 2), (2 * width, height), (width // 2, height)):
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *sides, *rest))
        yield Damaged("wrong size in the header", f"{sides}", data[:8] + header + data[33:])
    if rest[1] == 3:
        for colors in (0, 1, 2, 100, 199):
            palette = png_chunk(b"PLTE", _PALETTE[: 3 * colors]) if colors else b""
            yield Damaged("palette too short", f"{colors}", data[:33] + palette + data[data.index(b"IDAT") - 4 :])


def _tiff(data: bytes, rng: np.random.Generator) -> Iterator[Damaged]:
    entries = _tiff_entries(data)
    for tag, name in ((273, "offset"), (279, "length")):
        at, count = entries[tag]
        for strip in range(count):
            values = {"zero": 0, "behind the end": len(data), "half": struct.unpack_from("<I", data, at + 4 * strip)[0] // 2}
            for case, value in values.items():
                yield Damaged(f"strip of wrong {name}", f"{strip} {case}", _put(data, at + 4 * strip, struct.pack("<I", value)))
    for tag in (256, 257):
        at, _ = entries[tag]
        old = struct.unpack_from("<I", data, at)[0] & 0xFFFF
        for side in (2 * old, old // 2):
            yield Damaged("wrong size in the header", f"{tag} {side}", _put(data, at, struct.pack("<H", side)))


def _tiff_entries(data: bytes) -> dict[int, tuple[int, int]]:
    """Return offset and number of the values of each tag."""
    start = struct.unpack_from("<I", data, 4)[0]
    found = {}
    for number in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * number
        tag, kind, count = struct.unpack_from("<HHI", data, at)
        is_inside = TiffImagePlugin.ImageFileDirectory_v2._load_dispatch[kind][0] * count <= 4
        found[tag] = (at + 8 if is_inside else struct.unpack_from("<I", data, at + 8)[0], count)
    return found


def _webp(data: bytes, rng: np.random.Generator) -> Iterator[Damaged]:
    at = data.index(b"VP8", 16 if data[12:16] == b"VP8X" else 12)
    length = struct.unpack("<I", data[at + 4 : at + 8])[0]
    for fraction in (0.3, 0.6, 0.95):
        kept = int(fraction * length) & ~1
        body = b"WEBP" + data[12:at] + data[at : at + 4] + struct.pack("<I", kept) + data[at + 8 : at + 8 + kept]
        yield Damaged("cut off with right lengths", f"{fraction}", b"RIFF" + struct.pack("<I", len(body)) + body)


def _bmp(data: bytes, rng: np.random.Generator) -> Iterator[Damaged]:
    width, height = struct.unpack("<ii", data[18:26])
    for sides in ((width, 2 * height), (width, height // 2), (2 * width, height), (width // 2, height)):
        yield Damaged("wrong size in the header", f"{sides}", _put(data, 18, struct.pack("<ii", *sides)))
    if struct.unpack("<H", data[28:30])[0] == 8:
        start = struct.unpack("<I", data[10:14])[0]
        for colors in (1, 100, 199):
            cut = _put(data[: 54 + 4 * colors] + data[start:], 46, struct.pack("<I", colors))
            yield Damaged("palette too short", f"{colors}", _put(cut, 10, struct.pack("<I", 54 + 4 * colors)))


_OWN: dict[str, Callable[[bytes, np.random.Generator], Iterator[Damaged]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "TIFF": _tiff,
    "WebP": _webp,
    "BMP": _bmp,
}
