"""Outlines as runs and polygons, and the code of Label Studio's brush."""

from itertools import groupby

import numpy as np
import pytest
from pycocotools import mask as coco

from segpipe.data.annotations.brush import decode_brush, encode_brush, unpack
from segpipe.data.annotations.outlines import Outline
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.metrics.segmentation import dice
from segpipe.types import BoolMask

MASKS = {
    "noise": np.random.default_rng(0).random((13, 7)) > 0.5,
    "empty": np.zeros((5, 9), bool),
    "full": np.ones((5, 9), bool),
    "corner": np.pad(np.ones((1, 1), bool), ((0, 4), (0, 8))),
    "hole": np.pad(np.pad(np.zeros((3, 3), bool), 3, constant_values=True), 2),
    "long runs": np.pad(np.ones((200, 300), bool), ((100, 1), (0, 0))),
    "drawn": make_image("mel", np.random.default_rng(1), (90, 120))[1],
}
EVERY = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def lengths_of(mask: BoolMask) -> list[int]:
    """Return COCO's uncompressed runs: skin first, along the columns."""
    groups = [(value, len(list(run))) for value, run in groupby(mask.ravel(order="F").tolist())]
    return [*([0] if groups[0][0] else []), *(length for _, length in groups)]


@EVERY
def test_runs_keep_every_pixel(mask: BoolMask) -> None:
    outline = Outline.of_mask(mask)
    assert np.array_equal(outline.mask(), mask)
    assert outline.area == mask.sum()
    assert Outline.of_counts(lengths_of(mask), *mask.shape) == outline
    assert Outline.of_counts(coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode(), *mask.shape) == outline


@EVERY
def test_brush_keeps_every_pixel(mask: BoolMask) -> None:
    assert np.array_equal(decode_brush(encode_brush(mask), *mask.shape), mask)


def pack(values: list[int]) -> list[int]:
    """Pack values as Label Studio's editor does: runs, and blocks of different values."""
    sizes, longest = (3, 4, 8, 16), 2**16
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)

    def block(flag: str, length: int, words: list[int]) -> str:
        number = next(number for number, size in enumerate(sizes) if length <= 2**size)
        return f"{flag}{number:02b}{length - 1:0{sizes[number]}b}" + "".join(f"{word:08b}" for word in words)

    def blocks(words: list[int]) -> str:
        chunks = [words[start : start + longest] for start in range(0, len(words), longest)]
        return "".join(block("0", len(chunk), chunk) for chunk in chunks)

    different: list[int] = []
    for value, run in groupby(values):
        length = len(list(run))
        if length == 1:
            different.append(value)
            continue
        bits, different = bits + blocks(different), []
        bits += "".join(block("1", min(longest, length - start), [value]) for start in range(0, length, longest))
    bits += blocks(different)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


@EVERY
def test_brush_of_the_editor_is_decoded_by_its_opacity(mask: BoolMask) -> None:
    """The editor stores the color of the label; only the fourth channel is the mask."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask] = (216, 33, 90, 178)
    code = pack(pixels.ravel().tolist())
    assert np.array_equal(decode_brush(code, *mask.shape), mask)


def test_soft_border_of_a_brush_belongs_to_the_lesion_above_half_of_the_opacity() -> None:
    opacity = np.array([[0, 40, 60, 100]])
    pixels = np.repeat(opacity[..., None], 4, axis=-1)
    assert decode_brush(pack(pixels.ravel().tolist()), 1, 4).tolist() == [[False, False, True, True]]


def test_published_stream_is_unpacked() -> None:
    """The values and the stream of a test of label-studio-converter 0.0.59."""
    stream = [0, 0, 0, 18, 57, 27, 252, 96, 32, 1, 0, 6, 0, 40, 0, 192, 3, 128, 17, 56, 32]
    assert unpack(stream, 18).tolist() == [1, 1, 1, 1, 2, 3, 5, 6, 7, 8, 4, 4, 4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (encode_brush(MASKS["noise"])[:-2], "must not end within a value"),
        (encode_brush(MASKS["drawn"]), "must hold 364 values, .* got 43200"),
        ([], "must not end within a value, got 0 bytes"),
        ([0, 0, 1, 108, 57, 27, 255, 255, 255, 255, 255], "must end with the last of 364 values"),
    ],
)
def test_damaged_brush_is_refused(code: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_brush(code, 13, 7)


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("code", CODES)
def test_polygons_are_close_to_the_mask(code: str, scale: int) -> None:
    mask = make_image(code, np.random.default_rng(2), (150 * scale, 200 * scale))[1]
    outline = Outline.of_mask(mask)
    polygons = outline.polygons()
    filled = Outline.of_polygons(polygons, *mask.shape).mask()
    assert dice(filled, mask) > 0.985
    assert sum(map(len, polygons)) < 150
    assert 0.98 < filled.sum() / mask.sum() < 1.02


def test_each_part_of_a_lesion_has_a_polygon_without_holes() -> None:
    mask = np.zeros((40, 60), bool)
    mask[5:25, 5:25] = True
    mask[10:15, 10:15] = False
    mask[30:38, 40:58] = True
    filled = Outline.of_polygons(Outline.of_mask(mask).polygons(), 40, 60).mask()
    assert len(Outline.of_mask(mask).polygons()) == 2
    assert filled[12, 12]
    assert filled[34, 50]
    assert not filled[27, 30]
    assert Outline.of_mask(MASKS["empty"]).polygons() == []


def test_polygon_covers_the_pixels_between_its_edges() -> None:
    square = np.array([[2.0, 1.0], [6.0, 1.0], [6.0, 4.0], [2.0, 4.0]])
    expected = np.zeros((8, 9), bool)
    expected[1:4, 2:6] = True
    assert np.array_equal(Outline.of_polygons([square], 8, 9).mask(), expected)
    beyond = Outline.of_polygons([square * 1e9], 8, 9)
    assert (beyond.height, beyond.width) == (8, 9)


def test_outlines_are_united() -> None:
    first, second = np.zeros((6, 8), bool), np.zeros((6, 8), bool)
    first[1:3, 1:5], second[2:5, 3:7] = True, True
    united = Outline.unite([Outline.of_mask(first), Outline.of_mask(second)])
    assert np.array_equal(united.mask(), first | second)
    with pytest.raises(ValueError, match="got 6 x 8 and 8 x 6 pixels"):
        Outline.unite([Outline.of_mask(first), Outline.of_mask(first.T)])


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 4], r"must fill its image of 5 x 9 pixels, got 7 pixels"),
        ([50, -10, 5], r"must fill its image"),
        ([], r"got 0 pixels"),
        ("", r"got 0 pixels"),
        ("oooo", r"compressed counts"),
        ("0 1", r"compressed counts"),
        ("ééé", r"compressed counts"),
        ("PPPPPPPPPPP0", r"must fill its image"),
    ],
)
def test_damaged_runs_are_refused(counts: str | list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Outline.of_counts(counts, 5, 9)


@pytest.mark.parametrize("corners", [[[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0], [np.nan, 1.0]], [[1.0], [2.0], [3.0]]])
def test_broken_polygons_are_refused(corners: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="three or more corners"):
        Outline.of_polygons([np.array(corners)], 10, 10)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, -1), (10**6, 10**6)])
def test_impossible_sizes_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="sides of 1 or more"):
        Outline.of_counts([], height, width)
