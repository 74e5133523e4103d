"""Mask sources U-Net, contour and whole image, with the reasons for each fallback."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, label

from segpipe.lesion.localization import FINDERS, Localization, MaskSource, localize
from segpipe.lesion.quality import NOTES, REASONS
from segpipe.types import BoolMask, Box, RgbImage

BLANK = np.full((90, 130, 3), 200, dtype=np.uint8)


def _disc_mask(height: int, width: int, radius: float = 0.25) -> BoolMask:
    """Draw an ellipse in the middle; radius as a fraction of each side."""
    rows, columns = (np.indices((height, width)).T / (height, width) + (0.5 / height, 0.5 / width)).T
    return np.asarray(np.hypot(rows - 0.5, columns - 0.5) < radius)


def _disc_probs(size: int, radius: float = 0.25) -> NDArray[np.float32]:
    return cv2.GaussianBlur(_disc_mask(size, size, radius).astype(np.float32), (0, 0), 1)


def _lesion_photograph(height: int, width: int) -> RgbImage:
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 3))
    weight = _disc_mask(height, width)[..., None]
    return (np.where(weight, (120, 80, 70), (225, 172, 150)) + noise).clip(0, 255).astype(np.uint8)


def _check_invariants(found: Localization, image: RgbImage) -> None:
    assert found.mask.dtype == np.bool_
    assert found.mask.shape == image.shape[:2]
    box = found.box
    assert 0 <= box.top < box.bottom <= image.shape[0]
    assert 0 <= box.left < box.right <= image.shape[1]
    assert found.mask[box.slices()].sum() == found.mask.sum()
    assert found.area_fraction == pytest.approx(found.mask.sum() / found.mask.size)
    assert {reason.split(":")[1] for reason in found.reasons} <= set(REASONS | NOTES)
    if found.source is MaskSource.WHOLE_IMAGE:
        assert found.area_fraction == 1
        assert box == Box(0, 0, *image.shape[:2])


@pytest.mark.parametrize("seed", range(40))
def test_localization_of_random_maps_is_valid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, size=(*rng.integers(16, 120, size=2), 3), dtype=np.uint8)
    spots = cv2.GaussianBlur(rng.random((64, 64)).astype(np.float32), (0, 0), rng.uniform(1, 20))
    probs = cv2.normalize(spots, None, 0, 1, cv2.NORM_MINMAX)
    for start in FINDERS:
        _check_invariants(localize(image, probs.clip(0, 1) ** rng.uniform(0.3, 3), start=start), image)


@pytest.mark.parametrize("size", [64, 192, 224])
@pytest.mark.parametrize(("height", "width"), [(450, 600), (101, 37), (40, 40), (16, 400)])
def test_plausible_mask_is_used_at_the_size_of_the_image(height: int, width: int, size: int) -> None:
    found = localize(np.zeros((height, width, 3), dtype=np.uint8), _disc_probs(size))
    assert (found.source, found.reasons) == (MaskSource.UNET, ())
    truth = _disc_mask(height, width)
    assert 2 * (found.mask & truth).sum() / (found.mask.sum() + truth.sum()) > 0.95


def test_largest_piece_is_kept_with_its_holes_filled() -> None:
    probs = _disc_probs(192)
    probs[90:100, 90:100] = 0.1
    probs[5:15, 5:15] = 0.9
    found = localize(np.zeros((300, 400, 3), dtype=np.uint8), probs)
    assert found.source is MaskSource.UNET
    assert label(found.mask)[1] == 1
    np.testing.assert_array_equal(found.mask, binary_fill_holes(found.mask))
    assert not found.mask[:60, :60].any()


def test_central_lesion_is_preferred_to_a_larger_piece_at_the_border() -> None:
    probs = _disc_probs(192, 0.12)
    probs[:, 150:] = 0.9
    found = localize(np.zeros((300, 400, 3), dtype=np.uint8), probs)
    assert (found.source, found.reasons, found.warnings) == (MaskSource.UNET, ("unet:piece_left_out",), ("uniform_image",))
    truth = _disc_mask(300, 400, 0.12)
    assert 2 * (found.mask & truth).sum() / (found.mask.sum() + truth.sum()) > 0.95


def test_ambiguous_pieces_fall_back_to_the_contour() -> None:
    image = _lesion_photograph(150, 200)
    probs = np.maximum(np.roll(_disc_probs(192, 0.12), -40, axis=1), np.roll(_disc_probs(192, 0.12), 40, axis=1))
    found = localize(image, probs)
    assert (found.source, found.reasons) == (MaskSource.CONTOUR, ("unet:in_pieces",))


def test_probability_map_is_not_modified() -> None:
    probs = _disc_probs(64)
    probs[30:34, 30:34] = 0
    before = probs.copy()
    localize(BLANK, probs)
    np.testing.assert_array_equal(probs, before)


def test_refused_mask_falls_back_to_the_contour_with_a_reason() -> None:
    image = _lesion_photograph(150, 200)
    found = localize(image, np.zeros((64, 64), dtype=np.float32))
    assert (found.source, found.reasons) == (MaskSource.CONTOUR, ("unet:too_small",))
    truth = _disc_mask(150, 200)
    assert 2 * (found.mask & truth).sum() / (found.mask.sum() + truth.sum()) > 0.9
    _check_invariants(found, image)


def test_blank_image_falls_back_to_the_whole_image() -> None:
    found = localize(BLANK, np.zeros((64, 64), dtype=np.float32))
    assert (found.source, found.reasons) == (MaskSource.WHOLE_IMAGE, ("unet:too_small", "contour:nothing_found"))
    _check_invariants(found, BLANK)


def test_all_reasons_against_the_mask_are_listed() -> None:
    found = localize(BLANK, np.full((64, 64), 0.6, dtype=np.float32))
    assert found.reasons == ("unet:too_large", "unet:touches_border", "unet:unsure", "contour:nothing_found")


def test_noise_falls_back_to_the_whole_image() -> None:
    noise = np.random.default_rng(1).integers(0, 256, size=(200, 260, 3), dtype=np.uint8)
    found = localize(noise, None, start=MaskSource.CONTOUR)
    assert (found.source, found.reasons) == (MaskSource.WHOLE_IMAGE, ("contour:implausible",))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (7, 8)])
def test_image_with_few_pixels_is_refused(shape: tuple[int, int]) -> None:
    for start in FINDERS:
        with pytest.raises(ValueError, match="at least 8 pixels"):
            localize(np.zeros((*shape, 3), dtype=np.uint8), np.zeros((64, 64), dtype=np.float32), start=start)


def test_later_start_skips_the_network() -> None:
    image = _lesion_photograph(150, 200)
    probs = _disc_probs(64)
    assert localize(image, probs).source is MaskSource.UNET
    assert localize(image, probs, start=MaskSource.CONTOUR).source is MaskSource.CONTOUR
    whole = localize(image, None, start=MaskSource.WHOLE_IMAGE)
    assert (whole.source, whole.reasons) == (MaskSource.WHOLE_IMAGE, ())


def test_missing_map_is_refused_if_the_network_comes_first() -> None:
    with pytest.raises(ValueError, match="mask_probs must be a probability map where start is 'unet', got None"):
        localize(BLANK, None)


def test_logits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mask_probs must lie in \[0, 1\]"):
        localize(BLANK, 8 * _disc_probs(64) - 4)


@pytest.mark.parametrize(
    ("start", "warnings"),
    [
        (MaskSource.UNET, ("uniform_image", "no_lesion_found")),
        (MaskSource.CONTOUR, ("uniform_image", "no_lesion_found")),
        (MaskSource.WHOLE_IMAGE, ("uniform_image",)),
    ],
)
def test_whole_image_has_a_warning_unless_requested(start: MaskSource, warnings: tuple[str, ...]) -> None:
    blank = np.full((40, 60, 3), 255, dtype=np.uint8)
    assert localize(blank, np.zeros((32, 32), dtype=np.float32), start=start).warnings == warnings
    photograph = _lesion_photograph(120, 160)
    assert localize(photograph, _disc_probs(64), start=start).warnings == ()


def test_plausible_mask_of_a_uniform_image_has_a_warning() -> None:
    found = localize(np.zeros((40, 60, 3), dtype=np.uint8), _disc_probs(64))
    assert (found.source, found.warnings) == (MaskSource.UNET, ("uniform_image",))
