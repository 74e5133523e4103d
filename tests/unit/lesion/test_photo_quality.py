"""Rules for photographs, on images whose answer is known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from segpipe.inference.evidence import ADVICE
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.lesion.photo_quality import MIN_SIDE_PX, judge_photo, measure_photo
from segpipe.types import BoolMask, RgbImage, mask_box

SKIN, LESION = (225, 170, 150), (120, 75, 60)
HEIGHT, WIDTH = 180, 240


def disc(radius: int, *, center: tuple[int, int] = (WIDTH // 2, HEIGHT // 2)) -> BoolMask:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    return cv2.circle(mask, center, radius, 1, cv2.FILLED).astype(bool)


def photo(mask: BoolMask) -> RgbImage:
    """Draw a lesion on skin, with the texture of a sharp photograph."""
    texture = np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH, 1))
    image = np.where(mask[..., None], LESION, SKIN) + texture
    return np.clip(image, 0, 255).astype(np.uint8)


def found(mask: BoolMask, source: MaskSource = MaskSource.UNET, reasons: tuple[str, ...] = ()) -> Localization:
    return Localization(mask, mask_box(mask), source, reasons)


def painted(image: RgbImage, mask: BoolMask, color: tuple[int, int, int]) -> RgbImage:
    changed = image.copy()
    changed[mask] = color
    return changed


MASK = disc(50)
PHOTO = photo(MASK)


def test_good_photograph_has_no_reason() -> None:
    assert judge_photo(PHOTO, found(MASK)) == ()


@pytest.mark.parametrize(
    ("code", "image"),
    [
        ("out_of_focus", cv2.GaussianBlur(PHOTO, (0, 0), 8)),
        ("too_dark", (PHOTO * 0.4).astype(np.uint8)),
        ("burnt_out", painted(PHOTO, disc(60, center=(0, 0)), (255, 255, 255))),
        ("glare", painted(PHOTO, disc(6), (255, 255, 250))),
        ("little_skin", np.ascontiguousarray(PHOTO[..., ::-1])),
    ],
)
def test_defect_is_the_only_reason(code: str, image: RgbImage) -> None:
    assert judge_photo(image, found(MASK)) == (code,)
    assert ADVICE[code].endswith(".")


def test_small_image_is_refused_at_its_shorter_side() -> None:
    assert f"smaller than {MIN_SIDE_PX} pixels" in ADVICE["too_small"]
    for side, reasons in ((127, ("too_small",)), (128, ())):
        assert judge_photo(PHOTO[:side], found(MASK[:side])) == reasons


def test_lesion_at_the_border_runs_out_of_the_frame() -> None:
    wide = disc(130, center=(0, HEIGHT // 2))
    assert judge_photo(photo(wide), found(wide)) == ("out_of_frame",)
    assert measure_photo(PHOTO, np.ones_like(MASK)).border_fraction == 1
    assert measure_photo(PHOTO, MASK).border_fraction == 0


def test_missing_lesion_is_a_reason_unless_the_whole_image_was_requested() -> None:
    everything = found(np.ones_like(MASK), MaskSource.WHOLE_IMAGE)
    assert judge_photo(PHOTO, everything) == ()
    assert judge_photo(PHOTO, replace(everything, reasons=("unet:too_small", "contour:nothing_found"))) == ("nothing_found",)


def test_black_corners_do_not_count_as_other_colors() -> None:
    framed = painted(PHOTO, ~disc(80), (0, 0, 0))
    assert measure_photo(framed, MASK).skin_fraction == measure_photo(PHOTO, MASK).skin_fraction == 1
    assert measure_photo(np.zeros_like(PHOTO), None).skin_fraction == 0


def test_measures_hardly_depend_on_the_size_of_the_image() -> None:
    large = cv2.resize(PHOTO, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    mask = cv2.resize(MASK.astype(np.uint8), None, fx=4, fy=4).astype(bool)
    one, other = measure_photo(PHOTO, MASK), measure_photo(large, mask)
    assert other.light == pytest.approx(one.light, abs=3)
    assert other.skin_fraction == pytest.approx(one.skin_fraction, abs=0.01)
    assert other.side_px == 4 * one.side_px
