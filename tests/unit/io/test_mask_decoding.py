"""Masks are read from any encoding of two values; other images are refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from segpipe.data.synthetic.photo import make_image
from segpipe.errors import ImageError, MaskError
from segpipe.io.folders import is_mask_picture
from segpipe.io.images import read_mask
from segpipe.types import BoolMask

MASK: BoolMask = np.hypot(*np.mgrid[-40:40, -50:50]) < 25
U8 = MASK.astype(np.uint8)


def palette(*colors: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(U8).convert("P")
    image.putdata(U8.ravel().tolist())
    image.putpalette([value for color in colors for value in color])
    return image


def colored(skin: tuple[int, ...], lesion: tuple[int, ...], mode: str) -> Image.Image:
    return Image.fromarray(np.where(MASK[..., None], np.uint8(lesion), np.uint8(skin)), mode)


ENCODINGS: dict[str, Callable[[], Image.Image]] = {
    "0 and 1": lambda: Image.fromarray(U8),
    "0 and 2": lambda: Image.fromarray(U8 * 2),
    "0 and 255": lambda: Image.fromarray(U8 * 255),
    "254 and 255": lambda: Image.fromarray(U8 + 254),
    "bits": lambda: Image.fromarray(MASK),
    "palette": lambda: palette((0, 0, 0), (128, 0, 0)),
    "dark palette": lambda: palette((0, 0, 0), (1, 1, 1)),
    "palette of one color": lambda: palette((0, 0, 0), (0, 0, 0)),
    "RGB": lambda: colored((0, 0, 0), (255, 255, 255), "RGB"),
    "RGB of 0 and 1": lambda: colored((0, 0, 0), (1, 1, 1), "RGB"),
    "red on black": lambda: colored((0, 0, 0), (255, 0, 0), "RGB"),
    "RGBA": lambda: colored((0, 0, 0, 255), (255, 255, 255, 255), "RGBA"),
    "white on nothing": lambda: colored((255, 255, 255, 0), (255, 255, 255, 255), "RGBA"),
    "black on nothing": lambda: colored((0, 0, 0, 0), (0, 0, 0, 255), "RGBA"),
    "gray with opacity": lambda: colored((0, 255), (255, 255), "LA"),
    "16 bits": lambda: Image.fromarray(MASK.astype(np.uint16) * 65535),
    "16 bits of 0 and 1": lambda: Image.fromarray(MASK.astype(np.uint16)),
    "16 bits of 0 and 255": lambda: Image.fromarray(MASK.astype(np.uint16) * 255),
}
BMP = {"0 and 1", "0 and 255", "bits", "palette", "RGB", "red on black"}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_two_values_are_a_mask(tmp_path: Path, encoding: str) -> None:
    picture = ENCODINGS[encoding]()
    for ending in ("png", "tif", *(["bmp"] if encoding in BMP else [])):
        picture.save(tmp_path / f"mask.{ending}")
        np.testing.assert_array_equal(read_mask(tmp_path / f"mask.{ending}"), MASK)


def test_16_bit_colors_are_read_in_full(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "mask.png"), np.repeat(MASK[..., None], 3, axis=2).astype(np.uint16))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), MASK)


@pytest.mark.parametrize("top", [255, 90])
@pytest.mark.parametrize("blur", [0, 1])
@pytest.mark.parametrize("quality", [50, 95])
def test_soft_edges_are_thresholded_at_half_of_the_range(tmp_path: Path, top: int, blur: int, quality: int) -> None:
    soft = Image.fromarray(U8 * top).filter(ImageFilter.GaussianBlur(blur))
    soft.save(tmp_path / "mask.jpg", quality=quality)
    expected = np.asarray(soft) > top / 2
    assert (read_mask(tmp_path / "mask.jpg") == expected).mean() > 0.995


@pytest.mark.parametrize(("value", "lesion"), [(0, False), (1, True), (255, True)])
def test_single_value_is_all_or_nothing(tmp_path: Path, value: int, lesion: bool) -> None:
    Image.fromarray(np.full((4, 6), value, np.uint8)).save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png") == lesion).all()


@pytest.mark.parametrize("picture", ["photograph", "ramp", "three classes"])
def test_more_than_two_values_are_no_mask(tmp_path: Path, picture: str) -> None:
    pixels = {
        "photograph": make_image("mel", np.random.default_rng(0), (60, 80))[0],
        "ramp": np.tile(np.arange(256, dtype=np.uint8), (20, 1)),
        "three classes": np.tile(np.uint8([0, 1, 2]), (20, 5)),
    }[picture]
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    with pytest.raises(MaskError, match=r"mask\.png: a mask must have two values, skin and lesion, .*got \d+"):
        read_mask(tmp_path / "mask.png")
    assert not is_mask_picture(tmp_path / "mask.png")


def test_undecodable_mask_is_an_image_error(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(ImageError) as caught:
        read_mask(tmp_path / "mask.png")
    assert not isinstance(caught.value, MaskError)


@pytest.mark.parametrize(
    "encoding", [name for name in ENCODINGS if name not in ("red on black", "white on nothing", "black on nothing")]
)
def test_gray_images_of_two_values_look_like_masks(tmp_path: Path, encoding: str) -> None:
    ENCODINGS[encoding]().save(tmp_path / "x.png")
    assert is_mask_picture(tmp_path / "x.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_photographs_and_uniform_or_colored_images_do_not_look_like_masks(tmp_path: Path, ending: str) -> None:
    pictures = {
        "photograph": Image.fromarray(make_image("mel", np.random.default_rng(0), (60, 80))[0]),
        "gray photograph": Image.fromarray(make_image("mel", np.random.default_rng(0), (60, 80))[0]).convert("L"),
        "white": Image.new("RGB", (80, 60), "white"),
        "black": Image.new("L", (80, 60)),
        "drawn": colored((230, 180, 160), (90, 50, 40), "RGB"),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.{ending}")
        assert not is_mask_picture(tmp_path / f"{name}.{ending}"), name
